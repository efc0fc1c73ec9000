"""A small plot: points, lines, arrows and shading in the coordinates of what they show."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitrail.imaging.draw import INK, PAPER

Colour = tuple[int, int, int]

_FINE = 3  # drawn so many times larger and scaled down, for smooth edges
_MARGIN = 46  # pixels left of and below a plot with axes
_TEXT = 13


class Panel:
    """A rectangle of the plane, drawn on from the back to the front.

    Args:
        x: the plane's left and right.
        y: its bottom and top.
        size: (width, height) in pixels, without axes.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], size: tuple[int, int] = (240, 240)) -> None:
        self.x, self.y = x, y
        self.width, self.height = size[0] * _FINE, size[1] * _FINE
        self.picture = Image.new("RGB", (self.width, self.height), PAPER)
        self.pen = ImageDraw.Draw(self.picture)

    def at(self, points: np.ndarray) -> list[tuple[float, float]]:
        """(N, 2) of the plane -> places in the drawing, upwards."""
        across = (points[:, 0] - self.x[0]) / (self.x[1] - self.x[0]) * self.width
        down = (self.y[1] - points[:, 1]) / (self.y[1] - self.y[0]) * self.height
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def shade(self, values: np.ndarray, colour: Colour) -> None:
        """(h, w) in [0, 1], the first row at the top: from paper to a colour."""
        mixed = np.array(PAPER) + np.clip(values, 0, 1)[..., None] * (np.array(colour) - np.array(PAPER))
        shaded = Image.fromarray(np.rint(mixed).astype(np.uint8))
        self.picture.paste(shaded.resize(self.picture.size, Image.Resampling.BICUBIC))

    def dots(self, points: np.ndarray, colour: Colour, radius: float = 1.3) -> None:
        """(N, 2)."""
        for across, down in self.at(points):
            box = (across - radius * _FINE, down - radius * _FINE, across + radius * _FINE, down + radius * _FINE)
            self.pen.ellipse(box, colour)

    def line(self, points: np.ndarray, colour: Colour, width: float = 1.0) -> None:
        """(N, 2), joined in their order."""
        self.pen.line(self.at(points), colour, max(1, round(width * _FINE)), joint="curve")

    def arrow(self, start: np.ndarray, end: np.ndarray, colour: Colour) -> None:
        """From one (2,) to another."""
        (from_x, from_y), (to_x, to_y) = self.at(np.stack([start, end]))
        length = math.hypot(to_x - from_x, to_y - from_y)
        if length < _FINE:
            return
        along_x, along_y = (to_x - from_x) / length, (to_y - from_y) / length
        head = min(5.0 * _FINE, 0.6 * length)
        back_x, back_y = to_x - along_x * head, to_y - along_y * head
        half_x, half_y = -along_y * head / 2, along_x * head / 2
        self.pen.line([(from_x, from_y), (back_x, back_y)], colour, _FINE)
        self.pen.polygon([(to_x, to_y), (back_x + half_x, back_y + half_y), (back_x - half_x, back_y - half_y)], colour)

    def text(self, place: np.ndarray, words: str, colour: Colour = INK, anchor: str = "lm") -> None:
        """Words at a place (2,) of the plane, by Pillow's anchor."""
        ((across, down),) = self.at(place[None])
        self.pen.text((across, down), words, colour, ImageFont.load_default(_TEXT * _FINE), anchor=anchor)

    def drawn(self) -> Image.Image:
        """At its size, with a thin frame."""
        self.pen.rectangle((0, 0, self.width - 1, self.height - 1), outline=INK, width=_FINE)
        return self.picture.resize((self.width // _FINE, self.height // _FINE), Image.Resampling.LANCZOS)

    def with_axes(
        self,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
        x_name: str = "",
        y_name: str = "",
    ) -> Image.Image:
        """The drawing with ticks (place, words) and names on the left and below."""
        plot = self.drawn()
        font = ImageFont.load_default(_TEXT)
        whole = Image.new("RGB", (plot.width + _MARGIN + 8, plot.height + _MARGIN + 22), PAPER)
        whole.paste(plot, (_MARGIN, 22))
        pen = ImageDraw.Draw(whole)
        for value, words in x_ticks:
            across = _MARGIN + (value - self.x[0]) / (self.x[1] - self.x[0]) * plot.width
            pen.line((across, 22 + plot.height, across, 26 + plot.height), INK)
            pen.text((across, 29 + plot.height), words, INK, font, anchor="mt")
        for value, words in y_ticks:
            down = 22 + (self.y[1] - value) / (self.y[1] - self.y[0]) * plot.height
            pen.line((_MARGIN - 4, down, _MARGIN, down), INK)
            pen.text((_MARGIN - 7, down), words, INK, font, anchor="rm")
        pen.text((_MARGIN + plot.width / 2, whole.height - 3), x_name, INK, font, anchor="mb")
        pen.text((_MARGIN, 4), y_name, INK, font, anchor="lt")
        return whole
