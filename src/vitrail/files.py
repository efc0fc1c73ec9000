"""Files and folders that appear whole or not at all, and texts of one thing a line."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail.errors import UsageError, VitrailError


@contextmanager
def appearing(path: Path, error: type[VitrailError] = VitrailError) -> Iterator[Path]:
    """A path to write to instead, in the same folder, that takes the name of `path` when the block ends well.

    When it does not, nothing is left, and what was there before stays. A file takes the place of another; a folder only
    that of an empty one.

    Args:
        path: the file or folder that is to be.
        error: what to raise where it cannot be written: a full disk, a folder that is not there or not ours.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
        if scratch.is_dir() and path.is_dir():
            path.rmdir()  # empty: some systems move a folder to a free name only
        scratch.replace(path)
    except BrokenPipeError:  # not this file: whoever was being shown the results has gone
        raise
    except OSError as reason:
        raise error(f"{path} cannot be written ({reason.strerror or reason})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # which leaves files alone
        with suppress(OSError):
            scratch.unlink()


def read_lines(path: str | os.PathLike, what: str) -> tuple[str, ...]:
    """What a text file in UTF-8 says, one a line, without space around it; empty lines are none.

    Args:
        path: the file.
        what: to be in it, "labels", for the error's sentence.

    Raises:
        VitrailError: it cannot be read, or is not in UTF-8.
        UsageError: it holds nothing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise VitrailError(f"the {what} in {path} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise VitrailError(f"the {what} in {path} cannot be read: it is no text in UTF-8") from None
    said = tuple(filter(None, map(str.strip, lines)))
    if not said:
        raise UsageError(f"there are no {what} in {path}")
    return said
