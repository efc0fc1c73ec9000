"""The application itself, and how it leaves: one sentence on standard error, and the right exit code."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vitrail import __version__
from vitrail.errors import VitrailError


class Door(TyperGroup):
    """Runs a verb. 0: done, 1: something failed, 2: wrong usage, 130: interrupted, 141: nobody reads the results."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, and turn what goes wrong into a sentence and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except VitrailError as error:
            code = fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            code = fail("interrupted", 130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
            code = 141
        except MemoryError:
            code = fail("this machine's memory is full")
        except OSError as error:  # standard output on a full disk, mostly
            code = fail(": ".join(filter(None, [error.filename and str(error.filename), error.strerror or str(error)])))
        raise typer.Exit(code)


def fail(sentence: str, code: int = 1) -> int:
    """Say on standard error what went wrong; gives the exit code back."""
    print(f"Error: {sentence}", file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vitrail {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Inputs are files, folders, patterns, http(s) URLs, or - for standard input. "
    "Exit codes: 0 all done, 1 something failed and the rest is done, 2 wrong usage.",
)


@app.callback()
def vitrail(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Vision foundation models that see, talk and imagine."""
