"""A picture seen in pieces: tiles of the size the network takes, and the whole picture, small, behind them.

Idefics3 (Laurençon et al. 2024, 2408.12637) and SmolVLM (Marafioti et al. 2025, 2504.05299, §2) look so at pictures
with more detail than their encoder takes. The steps follow transformers' Pillow image processors of these networks to
the last bit; its torchvision ones scale with another filter where torchvision has no Lanczos.
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property

from PIL import Image
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.imaging.preprocess import ImageLike, Preprocess

MAX_LONGEST = 4096
"""Pixels: longer edges the references scale down once more."""


@dataclass(frozen=True)
class Tiles:
    """A picture, cut.

    Attributes:
        pixels: (T, C, H, W) float32: its tiles row by row, then the whole picture; or that alone.
        rows: how many rows of tiles there are; 0 where the picture was not cut.
        columns: how many columns.
    """

    pixels: Tensor
    rows: int
    columns: int


@dataclass(frozen=True)
class TiledPreprocess(Preprocess):
    """A `Preprocess` that can also cut a picture into tiles of the size it gives.

    Called like any other it gives the whole picture, one tensor each, as the references do with `do_image_splitting`
    switched off. `tiles` is what the network was trained behind.

    `resize` must be to a square, a tile's. `longest` is the edge in pixels that every picture's longest is scaled to
    first, up or down; None for none. `split` says whether `tiles` cuts at all.

    Raises `UsageError` where the fields contradict each other.
    """

    longest: int | None = None
    split: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.resize.size if self.resize else None
        if not isinstance(size, tuple) or size[0] != size[1] or self.crop is not None:
            raise UsageError("Tiles are squares: give resize one as its size, and no crop.")
        if self.longest is not None and not 0 < self.longest <= MAX_LONGEST:
            raise UsageError(
                f"The longest edge of a picture must be from 1 to {MAX_LONGEST} pixels, not {self.longest}."
            )

    @property
    def tile(self) -> int:
        """The edge of a tile in pixels."""
        assert self.resize is not None
        assert isinstance(self.resize.size, tuple)
        return self.resize.size[0]

    def picture(self, image: ImageLike) -> Image.Image:
        """The whole picture as the network sees it, scaled twice; see `Preprocess.picture`."""
        return super().picture(self._scaled(image))

    def tiles(self, image: ImageLike) -> Tiles:
        """Cut one picture, of what `__call__` takes.

        Its edges are scaled to multiples of a tile's, whatever that does to the proportions. One that fills no more
        than one tile is not cut.

        Raises:
            ImageError: it is no picture or cannot be opened.
        """
        picture = self._scaled(image)
        if not self.split:
            return Tiles(self._plain([super().picture(picture)]), 0, 0)
        columns, rows = self.grid(*picture.size)
        picture = self._resized(picture, (columns * self.tile, rows * self.tile))
        if rows == columns == 1:
            return Tiles(self._plain([picture]), 0, 0)
        corners = [(column * self.tile, row * self.tile) for row in range(rows) for column in range(columns)]
        pieces = [picture.crop((left, top, left + self.tile, top + self.tile)) for left, top in corners]
        return Tiles(self._plain([*pieces, self._resized(picture, (self.tile, self.tile))]), rows, columns)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles for a picture of this size in pixels, when its longest edge is scaled already."""
        ratio = width / height
        if width >= height:
            columns = math.ceil(width / self.tile)
            return columns, math.ceil(int(columns * self.tile / ratio) / self.tile)
        rows = math.ceil(height / self.tile)
        return math.ceil(int(rows * self.tile * ratio) / self.tile), rows

    def _scaled(self, image: ImageLike) -> Image.Image:
        """The picture in the right mode, its longest edge as `longest` says, the other even."""
        picture = self._plain.picture(image)
        if self.longest is None:
            return picture
        ratio = picture.width / picture.height
        if ratio >= 1:
            return self._resized(picture, (self.longest, _even(int(self.longest / ratio))))
        return self._resized(picture, (_even(int(self.longest * ratio)), self.longest))

    def _resized(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        assert self.resize is not None
        return picture if picture.size == size else picture.resize(size, self.resize.resample)

    @cached_property
    def _plain(self) -> Preprocess:
        """The same without any scaling."""
        return Preprocess(**{field.name: getattr(self, field.name) for field in fields(Preprocess)} | {"resize": None})


def _even(edge: int) -> int:
    return max(edge + edge % 2, 1)
