"""The verbs about data: data build, data show."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli import options
from vitrail.cli.report import print_json, progress_bar

data = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Build data sets anyone can build, and look at them."
)


class Buildable(StrEnum):
    """The data sets that can be built."""

    EMOJI = "emoji"


class Shown(StrEnum):
    """What `data show` draws."""

    GLYPHS = "glyphs"
    SCENES = "scenes"
    VIDEOS = "videos"


@data.command(epilog="\b\nExamples:\n  vitrail data build emoji\n  vitrail data build emoji --size 128 -o emoji-128")
def build(
    name: Annotated[
        Buildable, typer.Argument(metavar="NAME", help="emoji: Emoji World, 3,000 things in four art styles.")
    ],
    size: Annotated[int, typer.Option(help="Pixels on a side of each glyph, 8 to 512.")] = 64,
    source: Annotated[
        Path | None, typer.Option("--from", help="A folder with the packages' tarballs, instead of the npm client.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to build in.  [default: VITRAIL_DATA, or the user's cache]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch, verify, draw and write a data set; what an earlier try finished is kept."""
    from vitrail.data.emoji import build

    with progress_bar() as advance:
        built = build(output, size=size, source=source, progress=advance)
    if as_json:
        print_json(built.to_dict())
    else:
        print(built)


@data.command(
    epilog="\b\nExamples:\n  vitrail data show scenes --count 16 -o sheet.png\n  vitrail data show glyphs -o glyphs.png"
)
def show(
    what: Annotated[Shown, typer.Argument(metavar="WHAT", help="glyphs, scenes or videos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write: .png or .jpg.")],
    count: Annotated[int, typer.Option(min=1, help="How many: concepts of each group, scenes, or videos.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Another seed shows others.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--data", help="Where Emoji World was built.  [default: VITRAIL_DATA, or the user's cache]"),
    ] = None,
) -> None:
    """Draw a sheet of a data set, with what is known of it."""
    from vitrail.data.emoji import load_glyphs
    from vitrail.imaging.save import picture_format, save_picture

    picture_format(output)  # a wrong ending is said before any work is done
    glyphs = load_glyphs(folder)
    if what is Shown.GLYPHS:
        from vitrail.data.sheet import draw_glyphs

        sheet = draw_glyphs(glyphs, columns=count, seed=seed)
    else:
        from vitrail.data.scenes import Scenes, scene_sheet, video_strip
        from vitrail.imaging.draw import sheet as side_by_side

        scenes = Scenes(glyphs, length=count, seed=seed)
        if what is Shown.SCENES:
            sheet = scene_sheet([scenes[index] for index in range(count)])
        else:
            strips = [video_strip(scenes.video(index)) for index in range(count)]
            sheet = side_by_side(strips, columns=1, cell=max(strip.width for strip in strips))
    save_picture(sheet, output)
    print(output)
