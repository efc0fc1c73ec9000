"""The options that verbs share, so that each is called the same and means the same everywhere."""

import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.tasks.zero_shot import Words

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Pictures: files, folders, patterns, URLs, or - for standard input."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A name in the box, a folder, a file or a hub id.  [default: efficientnet-lite0]"
    ),
]
TalkerName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A name in the box, a folder, a file or a hub id.  [default: emoji/talk-nano]"),
]
Language = Annotated[str | None, typer.Option(metavar="en|zh", help="English or Chinese, where the network speaks it.")]
MaxNewTokens = Annotated[int, typer.Option(help="The most tokens that are written.")]
NumBeams = Annotated[int, typer.Option(help="Search for the likeliest text among so many.")]
Temperature = Annotated[
    float | None, typer.Option(help="Above 0: draw tokens by their probability.  [default: take the likeliest]")
]
Seed = Annotated[int | None, typer.Option(help="Draw the same tokens again.")]
Architecture = Annotated[
    str | None, typer.Option(help="The network of a bare state dict, by timm's name: vit_base_patch16_224, say.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="TEXT ...",
        help="What to tell apart, in words: all that follows, up to the next option or --.",
    ),
]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels-file", metavar="FILE", help="The same from a text file, one a line.")
]
Templates = Annotated[
    list[str] | None,
    typer.Option(
        "--template", metavar="TEXT", help="What to put labels into, {} being the label; several are averaged."
    ),
]
Phrases = Annotated[
    list[str] | None,
    typer.Option("--phrase", metavar="TEXT", help="What to look for in the parts of the picture; may be repeated."),
]
Questions = Annotated[
    list[str] | None,
    typer.Option("--ask", metavar="QUESTION", help="What to ask a network that writes; may be repeated."),
]
Talker = Annotated[
    str | None,
    typer.Option(
        help="The network that describes the picture and answers.  [default: with --ask emoji/talk-nano, or else none]"
    ),
]
Top = Annotated[int, typer.Option("--top", "-k", help="How many labels to give.")]
BatchSize = Annotated[int, typer.Option(help="The most pictures that go through the network at once.")]
Engine = Annotated[
    str,
    typer.Option(
        help="How it runs: auto, eager, packed, compile, openvino, onnx; behind a colon its precision: openvino:int8."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps, …  [default: cuda where there is one, or cpu]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Fetch URLs from addresses that are not public, too.")
]


class Verb(TyperCommand):
    """A command whose `--labels` takes all that follows it, up to the next option, or `--` or `-`.

    And whose `--example` takes the three values that follow it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As every command does it, with each label, and each part of an example, an option of its own."""
        return super().parse_args(ctx, _three_each(_one_each(args, "--labels"), "--example"))


def words(labels: list[str] | None, labels_file: Path | None, templates: list[str] | None) -> "Words | None":
    """The labels that a user gave, on the command line or in a file or both; None for none.

    Raises:
        UsageError: what `Words` does not take.
        VitrailError: the file cannot be read.
    """
    from vitrail.tasks.zero_shot import Words, read_labels

    if labels_file is not None:
        labels = [*(labels or ()), *read_labels(labels_file)]
    return Words.of(labels or None, templates)


def _one_each(arguments: list[str], option: str) -> list[str]:
    """`--labels a b` as `--labels a --labels b`.

    Raises:
        UsageError: nothing follows that could be a value, or a file or an address does: the user meant an input.
    """
    spread: list[str] = []
    taking = False
    for number, argument in enumerate(arguments):
        if argument == "--":
            return [*spread, *arguments[number:]]
        if argument == option:
            following = arguments[number + 1 : number + 2]
            if not following or following[0].startswith("-"):
                raise UsageError(f"{option} needs something behind it; what begins with - is written {option}=-…")
            taking = True
        elif argument.startswith("-"):
            taking = False
            spread.append(argument)
        elif taking:
            if _is_input(argument):
                raise UsageError(
                    f"'{argument}' stands behind {option} and is no label: name pictures before {option}, or after "
                    f"a -- that ends it; what is a label all the same is written {option}={argument}"
                )
            spread += [option, argument]
        else:
            spread.append(argument)
    return spread


def _three_each(arguments: list[str], option: str) -> list[str]:
    """`--example a b c` as `--example a --example b --example c`.

    Raises:
        UsageError: fewer than three values follow, or an option does.
    """
    spread: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--":
            return [*spread, argument, *remaining]
        if argument != option:
            spread.append(argument)
            continue
        values = list(islice(remaining, 3))
        if len(values) < 3 or any(re.match("--?[a-zA-Z]", value) for value in values):
            raise UsageError(f"{option} needs three things behind it: a picture, a question and its answer")
        for value in values:
            spread += [option, value]
    return spread


def _is_input(argument: str) -> bool:
    """Whether it names a file that is there, or an address."""
    from vitrail.imaging.open import is_url

    return os.path.isfile(argument) or is_url(argument)
