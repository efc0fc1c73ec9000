"""The verbs about speed on this machine, and about other programs: tune, export."""

from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli import options
from vitrail.cli.door import fail
from vitrail.cli.report import print_json, progress_bar
from vitrail.errors import UsageError

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name in the box, a folder, a file or a hub id.")]
Pictures = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Pictures to compare and calibrate on.  [default: scenes that are drawn here]"),
]


def tune(
    name: Name,
    batch: Annotated[str, typer.Option(metavar="N[,N]", help="Pictures at once; several sizes are all tried.")] = "1,8",
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Try this engine alone; may be repeated.  [default: all but compile, which takes minutes]"),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Try 8-bit integers, too.")] = False,
    pictures: Pictures = None,
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 7,
    architecture: options.Architecture = None,
    as_json: options.Json = False,
) -> None:
    """Measure which engine runs a network fastest here, and remember it.

    Each is compared with eager float32, and kept out where it says something else. What is found is what --engine auto
    takes from then on.
    """
    from vitrail.tasks.tune import tune

    sizes = batch.split(",")
    if not all(size.strip().isdecimal() for size in sizes):
        raise UsageError(f"batch sizes are whole numbers with commas between them, 1,8, not '{batch}'")
    with progress_bar() as progress:
        tuning = tune(
            name,
            batch=[int(size) for size in sizes],
            engines=[one for each in engine for one in each.split(",")] if engine else None,
            int8=int8,
            pictures=pictures,
            rounds=rounds,
            architecture=architecture,
            progress=progress,
        )
    if as_json:
        print_json(tuning.to_dict())
    else:
        print(tuning)
    if tuning.unwritten is not None:
        raise typer.Exit(fail(f"what was measured is not remembered: {tuning.unwritten}"))


def export(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet, or an empty one.")],
    engine: Annotated[str, typer.Option(metavar="onnx|openvino", help="What is to run it.")] = "onnx",
    precision: Annotated[
        str, typer.Option(metavar="float32|float16|int8", help="Of its weights; float16 and int8 for OpenVINO.")
    ] = "float32",
    pictures: Pictures = None,
    architecture: options.Architecture = None,
    as_json: options.Json = False,
) -> None:
    """Write a network for ONNX Runtime or OpenVINO, with all that is needed to use it.

    Preprocessing, labels and a program of a few lines that runs it lie beside it.
    """
    from vitrail.tasks.export import export

    exported = export(name, folder, engine=engine, precision=precision, pictures=pictures, architecture=architecture)
    if as_json:
        print_json(exported.to_dict())
    else:
        print(exported)
