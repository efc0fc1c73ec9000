"""Put glyphs on a picture, and keep account of which pixels are whose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.relations import Point

OPAQUE = 128  # a pixel of at least this alpha belongs to its object
FEWEST_PIXELS = 12  # an object smaller than this cannot be told
TRIES = 30  # places tried for one object before it is made smaller


@dataclass(frozen=True, eq=False)
class Sprite:
    """A glyph scaled, turned and cropped to what of it is not fully transparent.

    Attributes:
        image: RGBA of (w, h).
        mask: (h, w) bool, where it is opaque enough to be its object's.
        centre: (x, y) in pixels from the crop's corner, the middle of the mask's extent.
        pixels: how many the mask has.
    """

    image: Image.Image
    mask: np.ndarray
    centre: Point
    pixels: int


def sprite(glyph: np.ndarray, side: int, angle: float = 0.0) -> Sprite | None:
    """A glyph at a size, or None if too few of its pixels are opaque.

    Args:
        glyph: (S, S, 4) uint8 RGBA.
        side: what S becomes, in pixels; resized with antialiasing (bicubic) in premultiplied alpha.
        angle: degrees it is turned counter-clockwise about its middle.
    """
    image = Image.fromarray(glyph)
    if side != image.width:
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    extent = image.getchannel("A").getbbox()
    if extent is None:
        return None
    image = image.crop(extent)
    mask = np.asarray(image.getchannel("A")) >= OPAQUE
    pixels = int(np.count_nonzero(mask))
    if pixels < FEWEST_PIXELS:
        return None
    left, top, right, bottom = extent_of(mask)
    return Sprite(image, mask, ((left + right) / 2, (top + bottom) / 2), pixels)


def extent_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (left, top, right, bottom) that holds every True of an (H, W) mask which has at least one.

    Right and bottom lie one pixel past the last.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Stage:
    """Where objects are placed one on top of another, in one picture or in all frames of a video at once.

    Args:
        size: the pictures' side in pixels.
        frames: how many pictures.
        overlap: the largest fraction of an object's pixels that the objects over it may hide, together, in any frame.

    Attributes:
        owner: (frames, size, size) uint8: 0 where the background shows, else 1 + the index of the object on top.
        centres: of each object, in each frame: (x, y) in pixels.
        pixels: of each object, in each frame: how many it has, hidden ones included.
        seen: of each object, in each frame: how many of them show.
    """

    def __init__(self, size: int, frames: int, overlap: float) -> None:
        self.size, self.frames, self.overlap = size, frames, overlap
        self.owner = np.zeros((frames, size, size), np.uint8)
        self.centres: list[list[Point]] = []
        self.pixels: list[list[int]] = []
        self.seen: list[list[int]] = []
        self._painted: list[list[tuple[Sprite, tuple[int, int]]]] = []

    def somewhere(self, sprites: Sequence[Sprite], path: Sequence[Point], dice: Dice) -> list[tuple[int, int]] | None:
        """The corners, one a frame, of an object placed at random where it stays inside the picture; None if it cannot.

        Args:
            sprites: how it looks in each frame.
            path: (x, y) in pixels: where its centre is in each frame, from a place that is to be found.
            dice: finds it.
        """
        place = []
        for axis in (0, 1):
            before = [one.centre[axis] - step[axis] for one, step in zip(sprites, path, strict=True)]
            after = [one.image.size[axis] - edge for one, edge in zip(sprites, before, strict=True)]
            low, high = max(before), self.size - max(after)
            if low > high:
                return None
            start = dice.between(low, high)
            place.append([int(start - edge) for edge in before])
        return list(zip(*place, strict=True))

    def put(self, sprites: Sequence[Sprite], corners: Sequence[tuple[int, int]]) -> bool:
        """Place an object over all others, unless that would hide too much of one.

        Args:
            sprites: how it looks in each frame.
            corners: (x, y) of its crop's left upper corner in each frame; the crop lies inside the picture.

        Returns whether it was placed.
        """
        taken = []
        for frame, (one, (x, y)) in enumerate(zip(sprites, corners, strict=True)):
            height, width = one.mask.shape
            under = self.owner[frame, y : y + height, x : x + width]
            hidden = np.bincount(under[one.mask], minlength=len(self.centres) + 1)[1:].tolist()
            for index, lost in enumerate(hidden):
                if self.seen[index][frame] - lost < (1 - self.overlap) * self.pixels[index][frame]:
                    return False
            taken.append((under, hidden))
        for frame, (one, (under, hidden)) in enumerate(zip(sprites, taken, strict=True)):
            under[one.mask] = len(self.centres) + 1
            for index, lost in enumerate(hidden):
                self.seen[index][frame] -= lost
        self.centres.append(centres_of(sprites, corners))
        self.pixels.append([one.pixels for one in sprites])
        self.seen.append([one.pixels for one in sprites])
        self._painted.append(list(zip(sprites, corners, strict=True)))
        return True

    def paint(self, background: np.ndarray) -> np.ndarray:
        """(frames, size, size, 3) uint8: the objects over a background of (size, size, 3), later ones on top."""
        pictures = []
        for frame in range(self.frames):
            canvas = Image.fromarray(background)
            for placed in self._painted:
                one, corner = placed[frame]
                canvas.paste(one.image, corner, one.image)
            pictures.append(np.asarray(canvas))
        return np.stack(pictures)

    def boxes(self) -> np.ndarray:
        """(frames, n, 4) int64: left, top, right, bottom of what shows of each object in each frame."""
        return np.array(
            [[extent_of(owner == 1 + index) for index in range(len(self.centres))] for owner in self.owner], np.int64
        )


def centres_of(sprites: Sequence[Sprite], corners: Sequence[tuple[int, int]]) -> list[Point]:
    """Where the middle of an object's extent is in each frame: (x, y) in pixels."""
    return [(x + one.centre[0], y + one.centre[1]) for one, (x, y) in zip(sprites, corners, strict=True)]
