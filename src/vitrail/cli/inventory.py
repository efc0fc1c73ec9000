"""The verbs about networks: models, info, convert."""

from typing import Annotated

import typer

from vitrail.cli import options
from vitrail.cli.report import print_json


def models(as_json: options.Json = False) -> None:
    """List the networks that can be loaded by name."""
    from vitrail.tasks.inventory import models

    listed = models()
    if as_json:
        for entry in listed:
            print_json(entry.to_dict())
        return
    rows = [
        ("name", "family", "layout", "licence", "weights"),
        *((m.name, m.family, m.layout, m.licence or "unknown", m.where) for m in listed),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def info(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name in the box or of `vitrail models`, a folder or a file.")
    ],
    architecture: options.Architecture = None,
    as_json: options.Json = False,
) -> None:
    """Say what a network is and what it costs.

    Family, paper, layout, licence, parameters, FLOPs, config, preprocessing; its weights are not read.
    """
    from vitrail.tasks.inventory import info

    about = info(name, architecture=architecture)
    if as_json:
        print_json(about.to_dict())
    else:
        print(about)


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A name in the box, a folder, a file or a hub id.")],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="A folder that does not exist yet, or an empty one.")
    ],
    layout: Annotated[str, typer.Option(help="Whose form to write: timm, transformers, open_clip or vitrail.")],
    architecture: options.Architecture = None,
) -> None:
    """Write a network in another library's form."""
    from vitrail.checkpoints.save import convert

    changed = convert(source, destination, layout=layout, architecture=architecture)
    print(f"{destination}: written in the {layout} layout")
    for field, (before, after) in changed.items():
        print(f"  which cannot hold {field} {before}: it is {after} there")
