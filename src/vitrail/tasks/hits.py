"""Pictures that an index has given: their facts, and contact sheets of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from vitrail.errors import ImageError
from vitrail.imaging.draw import FAINT, sheet
from vitrail.imaging.open import open_picture
from vitrail.tasks.store import Near

MOST_DRAWN = 200
"""A contact sheet of more pictures would be too large to look at."""


@dataclass(frozen=True)
class PictureFacts:
    """A picture, as it was when it was indexed.

    Attributes:
        path: where it is: the folder as it was named, and the path in it.
        size: of the file, in bytes.
        modified: when the file was changed last, UTC.
        width, height: of the upright picture, in pixels.
    """

    path: Path
    size: int
    modified: datetime
    width: int
    height: int

    @classmethod
    def of(cls, folder: Path, found: Near) -> "PictureFacts":
        """From a row of the folder's index."""
        modified = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found.seen.modified // 1000)
        return cls(folder / found.path, found.seen.size, modified, found.width, found.height)

    def to_dict(self) -> dict[str, Any]:
        """{"path": …, "size": …, "modified": "2024-05-31T18:30:00+00:00", "width": …, "height": …}."""
        return {
            "path": str(self.path),
            "size": self.size,
            "modified": self.modified.isoformat(),
            "width": self.width,
            "height": self.height,
        }


def draw_sheet(
    pictures: Sequence[PictureFacts],
    captions: Sequence[str],
    *,
    title: str = "",
    columns: int | None = None,
    cell: int = 240,
) -> Image.Image:
    """A contact sheet, RGB, of pictures opened again; one that cannot be opened any more is blank.

    Of more than `MOST_DRAWN` the first are drawn. Lines that Pillow's own font has no letters for are left out.

    Args:
        pictures: at least one.
        captions: as many.
        title: a line above all.
        columns: how many stand side by side.
        cell: the longer edge of a picture, in pixels.
    """
    shown = [_small(picture, cell) for picture in pictures[:MOST_DRAWN]]
    lines = [_drawable(caption) for caption in captions[:MOST_DRAWN]]
    return sheet(shown, lines, columns=columns, cell=cell, title=_drawable(title))


def _drawable(text: str) -> str:
    """The lines in the letters of western Europe, which are those the font has."""
    return "\n".join(line for line in text.splitlines() if all(ord(sign) < 256 for sign in line))


def _small(picture: PictureFacts, edge: int) -> Image.Image:
    """Of at most `edge` pixels, so that many fit in memory."""
    try:
        image = open_picture(picture.path).image
    except ImageError:
        return Image.new("RGB", (edge, edge), FAINT)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    return image
