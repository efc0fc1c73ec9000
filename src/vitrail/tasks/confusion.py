"""How well pictures are told apart: accuracy with its interval, each class's scores, and what is taken for what."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitrail.imaging.draw import ACCENT, INK, PAPER

MOST_DRAWN = 100
"""A picture of more classes could not be read."""

_RIGHT = (68, 6, 133)
_GRID = (238, 235, 241)
_SOFT = (106, 99, 118)


@dataclass(frozen=True)
class Share:
    """A share that was counted, and the 95 % interval that the true one lies in.

    Attributes:
        value: in [0, 1].
        low, high: Wilson's score interval (Wilson 1927), which holds for few pictures and for shares near 0 and 1, too.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, total: int) -> "Share":
        """`hits` out of `total`, which is above zero."""
        z = 1.959964
        value = hits / total
        middle = (value + z * z / (2 * total)) / (1 + z * z / total)
        half = z * math.sqrt(value * (1 - value) / total + z * z / (4 * total * total)) / (1 + z * z / total)
        return cls(value, max(0.0, middle - half), min(1.0, middle + half))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % (95 % interval {100 * self.low:.1f} to {100 * self.high:.1f} %)"


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised.

    Attributes:
        label: its name.
        pictures: how many of it there were.
        precision: of the pictures taken for it, the share that were of it; None where none was taken for it.
        recall: of its pictures, the share that were taken for it; None where there were none.
        f1: the harmonic mean of the two; 0 where its pictures were all missed, None where there were none.
    """

    label: str
    pictures: int
    precision: float | None
    recall: float | None
    f1: float | None

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)


def count_confusions(targets: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """What was taken for what: (classes, classes) int64, a row for each true class, a column for each that was said."""
    return np.bincount(targets * classes + said, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: np.ndarray, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """The scores of each class, in the order of the labels.

    Args:
        confusion: what `count_confusions` gives.
        labels: the classes' names.
    """
    scores = []
    for label, hits, true, said in zip(
        labels, confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist(), strict=True
    ):
        precision, recall = (hits / said if said else None), (hits / true if true else None)
        f1 = 2 * hits / (said + true) if true else None
        scores.append(ClassScore(label, true, precision, recall, f1))
    return tuple(scores)


def draw_confusion(confusion: np.ndarray, labels: Sequence[str], edge: int = 1400) -> Image.Image:
    """A confusion matrix: a row for each true class, a column for each answer, deeper the larger its share of the row.

    What is right is violet, what is wrong red; while cells are large enough they hold their counts. Of more than
    `MOST_DRAWN` classes those with the most mistakes are drawn.

    Args:
        confusion: what `count_confusions` gives.
        labels: the classes' names. One that the font has no letters for is drawn as the number of its class, from 1 on.
        edge: the side of the matrix itself, in pixels, at the most.

    Returns:
        RGB, larger than the matrix by the names beside it.
    """
    names = [label if _is_drawable(label) else f"No. {number}" for number, label in enumerate(labels, start=1)]
    order = most_mistaken(confusion)
    confusion, names = confusion[np.ix_(order, order)], [names[index] for index in order]
    count = len(names)
    cell = max(12, min(96, edge // count))
    font = _font(max(10, min(24, round(cell * 0.62))))
    rows = [_fitted(name, font, 16 * font.size) for name in names]
    margin = round(max(font.getlength(name) for name in rows)) + 12
    side = count * cell
    top = margin + round(1.6 * font.size)
    drawn = Image.new("RGB", (top + side + 8, top + side + 8), PAPER)
    pen = ImageDraw.Draw(drawn)
    shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    for row in range(count):
        for column in range(count):
            left, up = top + column * cell, top + row * cell
            colour = _shade(shares[row, column], _RIGHT if row == column else ACCENT)
            pen.rectangle((left, up, left + cell - 2, up + cell - 2), fill=colour)
            if confusion[row, column] and cell >= 24:
                _write_count(pen, int(confusion[row, column]), shares[row, column], left, up, cell)
        middle = top + row * cell + cell / 2 - 1
        pen.text((top - 8, middle), rows[row], INK, font, anchor="rm")
        _write_upright(drawn, rows[row], font, round(middle), top - 8)
    pen.text((top + side / 2, 2), "taken for", _SOFT, font, anchor="ma")
    _write_upright(drawn, "is", font, round(font.size / 2) + 4, round(top + side / 2), _SOFT)
    return drawn


def most_mistaken(confusion: np.ndarray) -> list[int]:
    """The classes that are drawn, in order: all, or the `MOST_DRAWN` that are missed or wrongly said most often."""
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:MOST_DRAWN].tolist())


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, Pillow has no other
    return font


def _shade(share: float, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """From the grid's grey to the colour; whatever is not nothing can be told from it."""
    if not share:
        return _GRID
    depth = 0.22 + 0.78 * share
    red, green, blue = (round(light + (full - light) * depth) for light, full in zip(_GRID, colour, strict=True))
    return red, green, blue


def _write_count(pen: ImageDraw.ImageDraw, count: int, share: float, left: int, up: int, cell: int) -> None:
    text = str(count)
    font = _font(min(0.45 * cell, 1.5 * cell / len(text), 24))
    ink = PAPER if share > 0.3 else INK
    pen.text((left + cell / 2 - 1, up + cell / 2 - 1), text, ink, font, anchor="mm")


def _write_upright(
    drawn: Image.Image,
    text: str,
    font: ImageFont.FreeTypeFont,
    middle: int,
    bottom: int,
    ink: tuple[int, int, int] = INK,
) -> None:
    """Text that reads upwards, ends at `bottom` and has its middle at `middle`."""
    width, height = round(font.getlength(text)) + 4, round(1.4 * font.size)
    line = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(line).text((0, height / 2), text, ink, font, anchor="lm")
    turned = line.rotate(90, expand=True)
    drawn.paste(turned, (middle - height // 2, bottom - width))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _is_drawable(text: str) -> bool:
    """Whether Pillow's own font has its letters: it has those of western Europe."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
