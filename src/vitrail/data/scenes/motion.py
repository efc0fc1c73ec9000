"""How things move in a short video, and how that is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from PIL import Image

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.compose import OPAQUE, Sprite, sprite
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.nouns import article, joined, measure
from vitrail.data.scenes.objects import SceneObject
from vitrail.data.scenes.relations import Point

_DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
_WORDS = {
    "still": ("stays still", "静止不动"),
    "right": ("moves to the right", "向右移动"),
    "left": ("moves to the left", "向左移动"),
    "up": ("moves up", "向上移动"),
    "down": ("moves down", "向下移动"),
    "bounce": ("bounces up and down", "上下弹跳"),
    "clockwise": ("turns clockwise", "顺时针旋转"),
    "counter-clockwise": ("turns counter-clockwise", "逆时针旋转"),
    "grow": ("grows", "变大"),
    "shrink": ("shrinks", "变小"),
}
MOTIONS = tuple(_WORDS)


@dataclass(frozen=True)
class Motion:
    """What one object does from the first frame to the last.

    Attributes:
        kind: one of `MOTIONS`.
        amount: how far it moves or how high it bounces, in fractions of the picture's side; how many turns it makes; or
            its larger size over its smaller.
    """

    kind: str
    amount: float

    def path(self, frames: int, size: int) -> list[Point]:
        """(x, y) in pixels of the centre in each frame, from where it was in the first."""
        times = [frame / max(1, frames - 1) for frame in range(frames)]
        if self.kind in _DIRECTIONS:
            right, down = _DIRECTIONS[self.kind]
            return [(right * self.amount * size * time, down * self.amount * size * time) for time in times]
        if self.kind == "bounce":  # twice up and down: a parabola, as things fall
            phases = [2 * time % 1 for time in times]
            return [(0.0, -self.amount * size * 4 * phase * (1 - phase)) for phase in phases]
        return [(0.0, 0.0)] * frames

    def sprites(self, glyph: np.ndarray, side: int, frames: int) -> list[Sprite]:
        """How the object looks in each frame; nothing where it is too small, or too round for its turning to show.

        Args:
            glyph: (S, S, 4) uint8 RGBA.
            side: of the glyph in pixels; where it grows or shrinks, midway (the geometric mean).
            frames: how many.
        """
        times = [frame / max(1, frames - 1) for frame in range(frames)]
        if self.kind in ("clockwise", "counter-clockwise"):
            turn = -360 * self.amount if self.kind == "clockwise" else 360 * self.amount
            if not _turning_shows(glyph, turn):
                return []
            looks = [sprite(glyph, side, turn * time) for time in times]
        elif self.kind in ("grow", "shrink"):
            smallest, largest = side / sqrt(self.amount), side * sqrt(self.amount)
            sides = [round(smallest + (largest - smallest) * time) for time in times]
            looks = [sprite(glyph, one) for one in (sides if self.kind == "grow" else reversed(sides))]
        else:
            looks = [sprite(glyph, side)] * frames
        found = [look for look in looks if look is not None]
        return found if len(found) == frames else []


def _turning_shows(glyph: np.ndarray, angle: float) -> bool:
    """Whether a glyph turned by an angle differs from itself by a twelfth of the range of its opaque pixels or more."""
    before = Image.fromarray(glyph).convert("RGBa")
    after = before.rotate(angle, Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(before, np.int32) - np.asarray(after, np.int32)).max(axis=-1).sum()
    return bool(difference > 255 / 12 * np.count_nonzero(glyph[..., 3] >= OPAQUE))


def draw_motion(dice: Dice) -> Motion:
    """Any of the `MOTIONS`: a move of up to half the picture, a turn of less than a half, growth to double at most."""
    kind = dice.pick(MOTIONS)
    if kind in _DIRECTIONS:
        return Motion(kind, dice.between(0.25, 0.5))
    if kind == "bounce":
        return Motion(kind, dice.between(0.2, 0.33))
    if kind in ("clockwise", "counter-clockwise"):
        return Motion(kind, dice.between(0.25, 0.45))  # less than half a turn, or it might as well be the other way
    return Motion(kind, dice.between(1.5, 2.0))


@dataclass(frozen=True, eq=False)
class Video:
    """A few seconds of things that move.

    Attributes:
        frames: (T, H, W, 3) uint8.
        boxes: (T, n, 4) int64: left, top, right, bottom in pixels of what shows of each object in each frame.
        objects: what is to be seen, as it is in the first frame; the scale of what grows or shrinks is that of midway.
        motions: what each does.
        captions_en, captions_zh: what each does, in words, one caption an object; the last tells of all.
    """

    frames: np.ndarray
    boxes: np.ndarray
    objects: tuple[SceneObject, ...]
    motions: tuple[Motion, ...]
    captions_en: tuple[str, ...]
    captions_zh: tuple[str, ...]


def say_motions(objects: Sequence[SceneObject], motions: Sequence[Motion], language: str) -> tuple[str, ...]:
    """A caption for each object's motion and, where there are several objects, one for all together."""
    each: list[str] = []
    for position, (one, motion) in enumerate(zip(objects, motions, strict=True)):
        again = any(one.concept == other.concept for other in objects[:position])
        each.append(_said(one.concept, motion, again, language))
    together = "，".join(each) if language == "zh" else joined(each, language)
    return (*each, together) if len(each) > 1 else tuple(each)


def _said(concept: Concept, motion: Motion, again: bool, language: str) -> str:
    """ "a frog grows", "青蛙变大"; again: "another frog grows", "另一只青蛙变大"."""
    english, chinese = _WORDS[motion.kind]
    if language == "zh":
        return f"{f'另一{measure(concept)}' if again else ''}{concept.name_zh}{chinese}"
    return f"{f'another {concept.name_en}' if again else article(concept.name_en)} {english}"
