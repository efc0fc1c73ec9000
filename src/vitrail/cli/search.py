"""The verbs about a folder's index: index, search, duplicates."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli import options
from vitrail.cli.report import print_json, progress_bar, show_whole
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from vitrail.tasks.duplicates import Duplicates
    from vitrail.tasks.search import Found

Sheet = Annotated[Path | None, typer.Option("--output", "-o", help="Draw a contact sheet: a .png, .jpg or .webp file.")]


def index(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of pictures.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A name in the box, a folder, a file or a hub id.  [default: what the folder was indexed with]",
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Forget the index that is there and start over.")] = False,
    batch_size: options.BatchSize = 8,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Make a folder searchable: new, changed, moved and deleted pictures are followed."""
    from vitrail.tasks.index import index

    with progress_bar() as progress:
        indexed = index(
            folder,
            model=model,
            rebuild=rebuild,
            batch_size=batch_size,
            engine=engine,
            device=device,
            progress=progress,
        )
    raise typer.Exit(show_whole(indexed, indexed.failures, as_json=as_json))


def search(
    query: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="What to search for.")] = None,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="An indexed folder.")] = Path("."),
    images: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", help="A picture to search by; may be repeated, and is added to the words."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", help="How many pictures to find.")] = 10,
    path: Annotated[
        str | None, typer.Option(help="Only paths like this: * is any letters, slashes too, and ? is one: 'holiday/*'.")
    ] = None,
    min_size: Annotated[str | None, typer.Option(help="Only files of so many bytes or more: 100k, 2M.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Only files of so many bytes or fewer.")] = None,
    after: Annotated[
        str | None, typer.Option(help="Only files modified then or later: 2024-05-31, 2024-05-31T18:30.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Only files modified earlier than then.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Only where the network the folder was indexed with is elsewhere now."),
    ] = None,
    engine: options.Engine = "auto",
    device: options.Device = None,
    output: Sheet = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Find the pictures of an indexed folder that are nearest to words, to pictures, or to both."""
    from vitrail.imaging.save import picture_format, save_picture
    from vitrail.tasks.search import search

    if output is not None:
        picture_format(output)  # a wrong ending is said before any work is done
    if query and images and folder == Path(".") and (given := Path(query) / ".vitrail").is_dir():
        query, folder = None, given.parent  # pictures and a folder, without words
    found = search(
        query,
        folder,
        images=images or (),
        count=count,
        path=path,
        min_size=None if min_size is None else parse_size(min_size),
        max_size=None if max_size is None else parse_size(max_size),
        after=after,
        before=before,
        model=model,
        engine=engine,
        device=device,
        allow_private=allow_private,
    )
    if found.outdated:
        many = "1 picture has" if found.outdated == 1 else f"{found.outdated:,} pictures have"
        print(f"Note: {many} changed since the folder was indexed: vitrail index {folder}", file=sys.stderr)
    if as_json:
        for hit in found.hits:
            print_json(hit.to_dict())
    elif sys.stdout.isatty() and found.hits:
        _print_table(_hits_table(found))
    else:
        print(found)
    if output is not None:
        save_picture(found.draw(), output)


def duplicates(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An indexed folder.")],
    threshold: Annotated[
        float | None,
        typer.Option(help="The cosine from which pictures are near-duplicates; 1: exact copies only.  [default: 0.9]"),
    ] = None,
    output: Sheet = None,
    as_json: options.Json = False,
) -> None:
    """Find pictures of an indexed folder that are there twice, or nearly so."""
    from vitrail.imaging.save import picture_format, save_picture
    from vitrail.tasks.duplicates import THRESHOLD, duplicates

    if output is not None:
        picture_format(output)
    found = duplicates(folder, threshold=THRESHOLD if threshold is None else threshold)
    if as_json:
        for group in found.groups:
            print_json(group.to_dict())
    elif sys.stdout.isatty() and found.groups:
        _print_table(_groups_table(found))
    else:
        print(found)
    if output is not None:
        save_picture(found.draw(), output)


def parse_size(text: str) -> int:
    """Bytes: "1500", "100k", "2M", "1.5G", in powers of 1000.

    Raises:
        UsageError: it is none of these.
    """
    matched = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMGT]?)B?", text, re.IGNORECASE | re.ASCII)
    if matched is None:
        raise UsageError(f"'{text}' is no size: write it as 1500, 100k, 2M or 1.5G")
    number, unit = matched.groups()
    return round(float(number) * 1000 ** " kmgt".index(unit.lower() or " "))


def _hits_table(found: "Found") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from vitrail.imaging.open import printable

    table = Table("rank", "score", "picture", box=None)
    for hit in found.hits:
        table.add_row(str(hit.rank), f"{hit.score:.3f}", Text(printable(str(hit.picture.path)), overflow="fold"))
    return table


def _groups_table(found: "Duplicates") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from vitrail.imaging.open import printable

    table = Table("group", "score", "pixels", "bytes", "picture", box=None)
    for number, group in enumerate(found.groups, start=1):
        for mark, one in zip(group.marks, group.pictures, strict=True):
            table.add_row(
                str(number),
                mark,
                f"{one.picture.width} × {one.picture.height}",
                f"{one.picture.size:,}",
                Text(printable(str(one.picture.path)), overflow="fold"),
            )
    return table


def _print_table(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)
