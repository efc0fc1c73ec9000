"""The verb that measures: bench."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from vitrail.bench import FAMILIES
from vitrail.cli import options
from vitrail.cli.report import print_json, progress_bar


def bench(
    families: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FAMILY]...", help=f"What to measure: {', '.join(FAMILIES)}.  [default: all]"),
    ] = None,
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="One of ours: auto, packed:bfloat16, …; may be repeated.  [default: all but the slow]",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How many turns each contender has.")] = 5,
    threads: Annotated[
        int | None, typer.Option(help="What each may compute on.  [default: as many as there are cores for it]")
    ] = None,
    clock: Annotated[
        str,
        typer.Option(metavar="wall|processor", help="What is counted: processor time where a machine is busy."),
    ] = "wall",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the results in JSON, one object a line.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure how fast Vitrail is here, on each engine, beside other libraries where they are installed.

    Networks have published sizes and random weights; nothing is fetched. Everything takes about an hour; ctrl-C leaves
    what is done.
    """
    from vitrail.bench.measure import bench

    with (
        progress_bar() as progress,
        nullcontext() if output is None else output.open("w", encoding="utf-8") as file,
    ):
        results = bench(
            families or (), engines=engines or (), rounds=rounds, threads=threads, clock=clock, progress=progress
        )
        machine = ""
        for result in results:
            if file is not None:
                file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
                file.flush()
            if as_json:
                print_json(result.to_dict())
                continue
            if result.machine != machine:
                machine = result.machine
                print(machine, flush=True)
            print(f"\n{result}", flush=True)
