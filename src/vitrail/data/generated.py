"""Glyphs drawn by a few lines of code, in four manners: what tests and offline examples use instead of Emoji World."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.errors import UsageError

MANNERS = ("flat", "outlined", "shaded", "textured")
"""The art styles of generated glyphs."""

_OVERSAMPLING = 4  # drawn this much larger and then shrunk, for smooth edges
_FIRST_CODE = 0xF0000  # a private-use plane, where no emoji will ever be

_Pen = ImageDraw.ImageDraw


@dataclass(frozen=True)
class _Shape:
    english: str
    chinese: str
    group: str
    subgroup: str
    draw: Callable[[_Pen, float], None]  # white on black, on a square canvas so many pixels on a side


def generate_glyphs(count: int = 48, styles: Sequence[str] = MANNERS, size: int = 32, seed: int = 0) -> GlyphTable:
    """Draw glyphs: "red striped fish", "blue house", … The same arguments always give the same pixels.

    Args:
        count: how many concepts, at most `MOST_CONCEPTS`; any twelve in a row are of twelve different shapes.
        styles: some of `MANNERS`; each concept is drawn in each.
        size: pixels on a side.
        seed: another seed chooses other concepts, and tilts them differently.

    Returns a table of count × len(styles) glyphs, style by style, whose groups and subgroups are those of real emoji
    (an apple is "food-drink", a fish "animals-nature") and whose codes are of Unicode's private use.

    Raises:
        UsageError: too many or too few concepts, or an unknown style.
    """
    if not 1 <= count <= MOST_CONCEPTS:
        raise UsageError(f"between 1 and {MOST_CONCEPTS} concepts can be generated, not {count}")
    if not styles or (unknown := set(styles) - set(MANNERS)):
        named = f"'{min(unknown)}'" if styles else "none"
        raise UsageError(f"generated glyphs come in the styles {', '.join(MANNERS)}, not {named}")
    chosen = _choose(count, Random(seed))
    concepts = {concept.code: concept for concept in map(_concept, chosen)}
    return GlyphTable(
        pictures=np.stack([_draw(number, style, size, seed) for style in styles for number in chosen]),
        concept=tuple(concepts) * len(styles),
        style=tuple(style for style in styles for _ in concepts),
        concepts=concepts,
    )


def _choose(count: int, random: Random) -> list[int]:
    """Numbers of kinds, shape after shape in turn."""
    kinds_of_a_shape = len(_KINDS) // len(_SHAPES)
    looks = [random.sample(range(kinds_of_a_shape), kinds_of_a_shape) for _ in _SHAPES]
    turns = ((look, shape) for look in range(kinds_of_a_shape) for shape in range(len(_SHAPES)))
    return [
        shape * kinds_of_a_shape + looks[shape][look] for (look, shape), _ in zip(turns, range(count), strict=False)
    ]


def _concept(number: int) -> Concept:
    shape, (colour, colour_zh, _), (pattern, pattern_zh) = _KINDS[number]
    english = [word for word in (colour, pattern, shape.english) if word]
    chinese = [word for word in (colour_zh, pattern_zh, shape.chinese) if word]
    return Concept(
        code=f"{_FIRST_CODE + number:x}",
        emoji=chr(_FIRST_CODE + number),
        name_en=" ".join(english),
        name_zh="".join(chinese),
        keywords_en=tuple(english),
        keywords_zh=tuple(chinese),
        group=shape.group,
        subgroup=shape.subgroup,
        skin_tone="none",
        gender="none",
    )


def _draw(number: int, style: str, size: int, seed: int) -> np.ndarray:
    """One glyph as a (size, size, 4) uint8 array."""
    shape, (_, _, colour), (pattern, _) = _KINDS[number]
    random = Random(f"{seed}/{number}/{style}")
    side = size * _OVERSAMPLING
    mask = Image.new("L", (side, side))
    shape.draw(ImageDraw.Draw(mask), side)
    mask = mask.rotate(random.uniform(-12, 12), Image.Resampling.BILINEAR)
    paint = np.where(_pattern(pattern, side)[..., None], _tint(colour, 0.55), np.array(colour, np.float32))
    paint = np.clip(_MANNERS[style](paint, mask, random), 0, 255).astype(np.uint8)
    glyph = Image.fromarray(np.dstack([paint, np.asarray(mask)]))
    return np.asarray(glyph.resize((size, size), Image.Resampling.BOX))


def _tint(colour: Sequence[int], towards_white: float) -> np.ndarray:
    return np.array(colour, np.float32) * (1 - towards_white) + 255 * towards_white


def _pattern(name: str, side: int) -> np.ndarray:
    """Where the second colour goes: a bool array of (side, side)."""
    down, across = np.mgrid[:side, :side] * (8 / side)  # eight units a side
    if name == "striped":
        return (down + across) % 2 < 1
    if name == "dotted":
        return (down % 2 - 1) ** 2 + (across % 2 - 1) ** 2 < 0.4
    if name == "checked":
        return (down // 1 + across // 1) % 2 < 1
    return np.zeros((side, side), bool)


def _flat(paint: np.ndarray, mask: Image.Image, random: Random) -> np.ndarray:
    return paint


def _outlined(paint: np.ndarray, mask: Image.Image, random: Random) -> np.ndarray:
    """Pale within a dark contour."""
    blurred = np.asarray(mask.filter(ImageFilter.GaussianBlur(mask.width / 30)))
    inside = np.where(blurred > 225, 1.0, 0.0)[..., None]
    return (paint * 0.6 + 255 * 0.4) * inside + paint * 0.25 * (1 - inside)


def _shaded(paint: np.ndarray, mask: Image.Image, random: Random) -> np.ndarray:
    """Lit from the upper left, with a highlight."""
    down, across = np.mgrid[: mask.height, : mask.width] / mask.width
    light = 1.25 - 0.7 * (down + across) / 2
    highlight = np.exp(-((down - 0.3) ** 2 + (across - 0.35) ** 2) / 0.015)
    return paint * light[..., None] + 150 * highlight[..., None]


def _textured(paint: np.ndarray, mask: Image.Image, random: Random) -> np.ndarray:
    """Coarse grain, as of crayon on paper."""
    grain = Image.frombytes("L", (24, 24), random.randbytes(24 * 24)).resize(mask.size, Image.Resampling.BILINEAR)
    return paint * (0.55 + 0.6 * np.asarray(grain, np.float32)[..., None] / 255)


def _ellipse(pen: _Pen, side: float, x: float, y: float, rx: float, ry: float, fill: int = 255) -> None:
    pen.ellipse([(x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side], fill=fill)


def _polygon(pen: _Pen, side: float, *points: tuple[float, float], fill: int = 255) -> None:
    pen.polygon([(x * side, y * side) for x, y in points], fill=fill)


def _apple(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.37, 0.6, 0.25, 0.3)
    _ellipse(pen, side, 0.63, 0.6, 0.25, 0.3)
    _polygon(pen, side, (0.47, 0.4), (0.53, 0.4), (0.58, 0.14), (0.5, 0.14))
    _ellipse(pen, side, 0.7, 0.2, 0.13, 0.06)


def _ice_cream(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.5, 0.32, 0.26, 0.24)
    _polygon(pen, side, (0.26, 0.46), (0.74, 0.46), (0.5, 0.94))


def _fish(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.42, 0.5, 0.34, 0.24)
    _polygon(pen, side, (0.64, 0.5), (0.93, 0.26), (0.93, 0.74))
    _ellipse(pen, side, 0.25, 0.43, 0.045, 0.045, fill=0)


def _butterfly(pen: _Pen, side: float) -> None:
    for mirror in (1, -1):
        _ellipse(pen, side, 0.5 + mirror * 0.22, 0.36, 0.19, 0.22)
        _ellipse(pen, side, 0.5 + mirror * 0.18, 0.7, 0.14, 0.17)
    _ellipse(pen, side, 0.5, 0.5, 0.05, 0.36)


def _flower(pen: _Pen, side: float) -> None:
    for petal in range(6):
        angle = petal * math.tau / 6
        _ellipse(pen, side, 0.5 + 0.25 * math.cos(angle), 0.5 + 0.25 * math.sin(angle), 0.16, 0.16)
    _ellipse(pen, side, 0.5, 0.5, 0.1, 0.1, fill=0)


def _house(pen: _Pen, side: float) -> None:
    _polygon(pen, side, (0.08, 0.48), (0.5, 0.1), (0.92, 0.48))
    _polygon(pen, side, (0.2, 0.45), (0.8, 0.45), (0.8, 0.88), (0.2, 0.88))
    _polygon(pen, side, (0.42, 0.6), (0.58, 0.6), (0.58, 0.88), (0.42, 0.88), fill=0)


def _boat(pen: _Pen, side: float) -> None:
    _polygon(pen, side, (0.08, 0.66), (0.92, 0.66), (0.74, 0.88), (0.26, 0.88))
    _polygon(pen, side, (0.46, 0.1), (0.46, 0.6), (0.14, 0.6))
    _polygon(pen, side, (0.54, 0.22), (0.54, 0.6), (0.82, 0.6))


def _star(pen: _Pen, side: float) -> None:
    tips = [(0.45 if tip % 2 == 0 else 0.19, tip * math.tau / 10 - math.tau / 4) for tip in range(10)]
    _polygon(pen, side, *((0.5 + r * math.cos(angle), 0.53 + r * math.sin(angle)) for r, angle in tips))


def _moon(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.47, 0.5, 0.38, 0.38)
    _ellipse(pen, side, 0.64, 0.42, 0.33, 0.33, fill=0)


def _heart(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.31, 0.36, 0.21, 0.21)
    _ellipse(pen, side, 0.69, 0.36, 0.21, 0.21)
    _polygon(pen, side, (0.13, 0.46), (0.5, 0.36), (0.87, 0.46), (0.5, 0.9))


def _bell(pen: _Pen, side: float) -> None:
    _ellipse(pen, side, 0.5, 0.4, 0.24, 0.28)
    _polygon(pen, side, (0.26, 0.4), (0.74, 0.4), (0.88, 0.76), (0.12, 0.76))
    _ellipse(pen, side, 0.5, 0.83, 0.09, 0.08)


def _square(pen: _Pen, side: float) -> None:
    _polygon(pen, side, (0.18, 0.18), (0.82, 0.18), (0.82, 0.82), (0.18, 0.82))


_SHAPES = (
    _Shape("apple", "苹果", "food-drink", "food-fruit", _apple),
    _Shape("ice cream", "冰淇淋", "food-drink", "food-sweet", _ice_cream),
    _Shape("fish", "鱼", "animals-nature", "animal-marine", _fish),
    _Shape("butterfly", "蝴蝶", "animals-nature", "animal-bug", _butterfly),
    _Shape("flower", "花", "animals-nature", "plant-flower", _flower),
    _Shape("house", "房子", "travel-places", "place-building", _house),
    _Shape("boat", "船", "travel-places", "transport-water", _boat),
    _Shape("star", "星星", "travel-places", "sky-weather", _star),
    _Shape("moon", "月亮", "travel-places", "sky-weather", _moon),
    _Shape("heart", "心", "smileys-emotion", "heart", _heart),
    _Shape("bell", "铃铛", "objects", "sound", _bell),
    _Shape("square", "方块", "symbols", "geometric", _square),
)

_COLOURS = (
    ("red", "红色", (214, 40, 57)),
    ("orange", "橙色", (240, 128, 24)),
    ("yellow", "黄色", (236, 196, 20)),
    ("green", "绿色", (46, 152, 76)),
    ("blue", "蓝色", (38, 96, 204)),
    ("purple", "紫色", (132, 60, 184)),
    ("brown", "棕色", (124, 76, 40)),
    ("grey", "灰色", (112, 118, 126)),
)

_PATTERNS = (("", ""), ("striped", "条纹"), ("dotted", "圆点"), ("checked", "格子"))

_KINDS = list(product(_SHAPES, _COLOURS, _PATTERNS))

_MANNERS = dict(zip(MANNERS, (_flat, _outlined, _shaded, _textured), strict=True))

MOST_CONCEPTS = len(_KINDS)
"""How many concepts can be generated."""
