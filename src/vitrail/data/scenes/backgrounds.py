"""What glyphs stand on: two named colours blended by a pattern."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.data.scenes.dice import Dice

COLOURS = {  # muted, so that neither a white dove nor a black cat is lost on them
    "grey": ("灰色", (186, 188, 192)),
    "blue": ("蓝色", (150, 188, 232)),
    "green": ("绿色", (158, 206, 150)),
    "yellow": ("黄色", (242, 222, 142)),
    "pink": ("粉色", (242, 182, 202)),
    "purple": ("紫色", (194, 170, 224)),
    "orange": ("橙色", (244, 190, 134)),
    "brown": ("棕色", (186, 158, 132)),
    "teal": ("青色", (136, 202, 198)),
    "dark blue": ("深蓝色", (56, 74, 118)),
    "dark green": ("深绿色", (54, 98, 74)),
    "dark grey": ("深灰色", (84, 86, 92)),
}
"""Chinese name and RGB of each colour; a background's colours lie within `JITTER` of these."""
JITTER = 8


@dataclass(frozen=True)
class Background:
    """What is behind the glyphs.

    Attributes:
        kind: one of `KINDS`.
        first, second: its colours by name; a plain one shows only the first.
        picture: (size, size, 3) uint8.
    """

    kind: str
    first: str
    second: str
    picture: np.ndarray

    def __str__(self) -> str:
        return self.describe("en")

    def describe(self, language: str) -> str:
        """In words that follow "on": "a plain blue background", "green and grey stripes"; "蓝色和灰色条纹"."""
        if language == "zh":
            first, second = COLOURS[self.first][0], COLOURS[self.second][0]
            return {
                "plain": f"纯{first}背景",
                "gradient": f"从{first}到{second}的渐变背景",
                "stripes": f"{first}和{second}条纹",
                "checks": f"{first}和{second}方格",
                "noise": f"{first}和{second}的斑驳背景",
                "horizon": f"上{second}下{first}的背景",
            }[self.kind]
        return {
            "plain": f"a plain {self.first} background",
            "gradient": f"a gradient from {self.first} to {self.second}",
            "stripes": f"{self.first} and {self.second} stripes",
            "checks": f"{self.first} and {self.second} checks",
            "noise": f"a mottled {self.first} and {self.second} background",
            "horizon": f"{self.first} ground under a {self.second} sky",
        }[self.kind]


def _plain(dice: Dice, size: int) -> np.ndarray:
    return np.zeros((size, size), np.int32)


def _ramp(dice: Dice, size: int, steps: int) -> np.ndarray:
    """0 to `steps` along one of eight directions, exactly: whole numbers, so that every machine agrees."""
    right, down = dice.pick([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)])
    down_axis, right_axis = np.mgrid[:size, :size].astype(np.int32)
    ramp = right * right_axis + down * down_axis
    ramp -= ramp.min()
    return ramp * steps // ramp.max()


def _gradient(dice: Dice, size: int) -> np.ndarray:
    return _ramp(dice, size, 255)


def _stripes(dice: Dice, size: int) -> np.ndarray:
    return _ramp(dice, size, dice.integer(5, 13)) % 2 * 255


def _checks(dice: Dice, size: int) -> np.ndarray:
    cells = np.arange(size, dtype=np.int32) * dice.integer(3, 8) // size
    return (cells[:, None] + cells) % 2 * 255


def _noise(dice: Dice, size: int) -> np.ndarray:
    cells = dice.integer(3, 8)
    coarse = Image.fromarray(dice.bytes(cells, cells))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int32)


def _horizon(dice: Dice, size: int) -> np.ndarray:
    """Sky above, ground below, the sky paler towards the ground."""
    line = round(size * dice.between(0.35, 0.7))
    rows = np.arange(size, dtype=np.int32)
    shade = np.where(rows < line, 255 - rows * 60 // line, 0)
    return np.broadcast_to(shade[:, None], (size, size))


_PATTERNS: dict[str, Callable[[Dice, int], np.ndarray]] = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "noise": _noise,
    "horizon": _horizon,
}
KINDS = tuple(_PATTERNS)


def draw_background(dice: Dice, size: int) -> Background:
    """Any of the `KINDS` in any two different `COLOURS`, `size` pixels on a side."""
    kind = dice.pick(KINDS)
    first, second = dice.shuffled(tuple(COLOURS))[:2]
    blend = _PATTERNS[kind](dice, size)[..., None]  # 0 for the first colour, 255 for the second
    a, b = (
        np.array([channel + dice.integer(-JITTER, JITTER) for channel in COLOURS[name][1]], np.int32)
        for name in (first, second)
    )
    return Background(kind, first, second, ((a * (255 - blend) + b * blend + 127) // 255).astype(np.uint8))
