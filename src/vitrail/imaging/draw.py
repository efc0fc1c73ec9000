"""Draw what a network says about a picture: heat maps, mosaics of features, bars, contact sheets."""

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFont

PAPER = (255, 255, 255)
INK = (34, 34, 40)
FAINT = (236, 236, 240)
ACCENT = (205, 24, 93)
LEAD = (24, 20, 32)

_STOPS = np.array(
    [
        (26, 10, 62),
        (68, 6, 133),
        (141, 13, 120),
        (205, 24, 93),
        (251, 69, 58),
        (252, 140, 61),
        (253, 193, 97),
        (255, 239, 160),
    ]
)
"""Dark violet, red, yellow in sRGB, chosen in CIELAB so that each is lighter than the last by about 12 of L*'s 100."""

_LACKING = str.maketrans("×", "x")
"""What Pillow's own font has no sign for, and what does instead."""

_CHINESE = "\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
"""The characters that Chinese is written with, its punctuation among them, as a set of a regular expression's."""

_CHINESE_FONTS = (
    ("NotoSansCJK-Regular.ttc", 2),  # the one of five in the file that draws as mainland China does
    ("NotoSansSC-Regular.otf", 0),
    ("SourceHanSansSC-Regular.otf", 0),
    ("wqy-microhei.ttc", 0),
    ("wqy-zenhei.ttc", 0),
    ("DroidSansFallbackFull.ttf", 0),
    ("PingFang.ttc", 0),
    ("Hiragino Sans GB.ttc", 0),
    ("msyh.ttc", 0),
    ("simsun.ttc", 0),
)
"""Fonts with Chinese characters that Linux, macOS or Windows may have, and which of a file's: Pillow's own has none."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""


def colour_map(values: np.ndarray) -> np.ndarray:
    """Numbers as colours, from dark violet over red to light yellow, evenly lighter; what is outside [0, 1] is clipped.

    Args:
        values: any shape, floats.

    Returns:
        One more axis of 3: RGB, uint8.
    """
    at = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(values, at, _STOPS[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def heat_map(picture: Image.Image, heat: np.ndarray, alpha: float = 0.55) -> Image.Image:
    """Lay a heat map over a picture, bilinearly enlarged to its size.

    Args:
        picture: what the map is about, of any mode; its colours are muted so that those of the map can be read.
        heat: (h, w), floats in [0, 1].
        alpha: how much the map hides of the picture, 0 to 1.

    Returns:
        RGB, of the picture's size.
    """
    enlarged = Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    colours = Image.fromarray(colour_map(np.asarray(enlarged)))
    muted = ImageEnhance.Color(picture.convert("RGB")).enhance(0.35)
    return Image.blend(muted, colours, alpha)


def mosaic(picture: Image.Image, colours: np.ndarray) -> Image.Image:
    """The picture through stained glass: each cell of a grid of colours is a pane, set in lead.

    The panes give the colour; the picture's own light and shade lie on them by the blend mode "soft light" (W3C,
    Compositing and Blending Level 1, §9.1.9).

    Args:
        picture: what the colours are about, of any mode.
        colours: (h, w, 3), floats in [0, 1].

    Returns:
        RGB, of the picture's size.
    """
    panes = Image.fromarray(np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8))
    shade = picture.convert("L").convert("RGB")
    glass = ImageChops.soft_light(panes.resize(picture.size, Image.Resampling.NEAREST), shade)
    rows, columns = colours.shape[:2]
    across, down = picture.width / columns, picture.height / rows
    draw = ImageDraw.Draw(glass)
    lead = round(min(across, down) / 30 + 0.5)
    if min(across, down) >= 8:  # or there would be more lead than glass
        for column in range(1, columns):
            draw.line((column * across, 0, column * across, picture.height), LEAD, lead)
        for row in range(1, rows):
            draw.line((0, row * down, picture.width, row * down), LEAD, lead)
    return glass


def framed(picture: Image.Image, box: Box) -> Image.Image:
    """The picture with a frame around `box` and all outside it pale; the picture itself where `box` holds all of it."""
    left, top, right, bottom = box
    if left <= 0 and top <= 0 and right >= picture.width and bottom >= picture.height:
        return picture
    edge = max(1, round(min(picture.size) / 150))
    x, y = min(max(0, round(left)), picture.width - 1), min(max(0, round(top)), picture.height - 1)
    inside = (x, y, max(x + 1, min(picture.width, round(right))), max(y + 1, min(picture.height, round(bottom))))
    drawn = Image.blend(picture.convert("RGB"), Image.new("RGB", picture.size, PAPER), 0.55)
    drawn.paste(picture.crop(inside), inside[:2])
    ImageDraw.Draw(drawn).rectangle((inside[0], inside[1], inside[2] - 1, inside[3] - 1), outline=ACCENT, width=edge)
    return drawn


def bars(names: Sequence[str], values: Sequence[float], size: tuple[int, int]) -> Image.Image:
    """A bar for each name, with its value in per cent.

    Args:
        names: what the bars are called; one too long for the picture is cut short.
        values: as many, in [0, 1].
        size: (width, height) of the result in pixels.

    Returns:
        RGB.
    """
    drawn = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(drawn)
    width, height = size
    row = min(64.0, height / max(1, len(names)))
    font = _font(max(9, round(row * 0.32)), *names)
    top = (height - row * len(names)) / 2
    for name, value in zip(names, values, strict=True):
        percent = f"{100 * value:.1f} %"
        room = width - font.getlength(percent) - font.size
        draw.text((0, top + row * 0.45), _shortened(name, font, room), INK, font, anchor="ls")
        draw.text((width, top + row * 0.45), percent, INK, font, anchor="rs")
        track = (0, top + row * 0.6, width - 1, top + row * 0.78)
        draw.rectangle(track, FAINT)
        draw.rectangle((*track[:2], max(1.0, min(1.0, value) * track[2]), track[3]), ACCENT)
        top += row
    return drawn


def sheet(
    pictures: Sequence[Image.Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: int | None = None,
    text_size: int = 15,
    title: str = "",
) -> Image.Image:
    """A contact sheet: pictures in a grid, row by row, each with its caption below.

    Args:
        pictures: at least one, of any mode and size.
        captions: as many; words are wrapped to the width of a column, and line breaks kept.
        columns: how many stand side by side; by default as near to a square as it goes.
        cell: scale every picture so that its longer edge has so many pixels; by default each keeps its size.
        text_size: height of the captions' font in pixels.
        title: a line above all.

    Returns:
        RGB, as large as it takes.

    Raises:
        ValueError: no pictures, or not as many captions as pictures.
    """
    if not pictures:
        raise ValueError("a sheet needs at least one picture")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"{len(captions)} captions do not go with {len(pictures)} pictures")
    columns = min(columns or round(len(pictures) ** 0.5 + 0.49), len(pictures))
    shown = [picture if cell is None else _scaled(picture, cell) for picture in pictures]
    width = max(8 * text_size, *(picture.width for picture in shown))
    gap, font = max(8, text_size), _font(text_size, *(captions or ()))
    texts = ["\n".join(_wrapped(caption, font, width)) for caption in captions or [""] * len(shown)]
    rows = [slice(first, first + columns) for first in range(0, len(shown), columns)]
    drawn = Image.new("RGB", (gap + columns * (width + gap), 1), PAPER)
    measure = ImageDraw.Draw(drawn)
    heights = [max(picture.height for picture in shown[row]) for row in rows]
    text_heights = [max(_text_height(measure, text, font) for text in texts[row]) for row in rows]
    heading = _font(round(text_size * 1.5), title)
    top = gap + (round(heading.size) + gap if title else 0)
    drawn = drawn.resize((drawn.width, top + sum(heights) + sum(text_heights) + gap * len(rows)))
    drawn.paste(PAPER, (0, 0, *drawn.size))
    draw = ImageDraw.Draw(drawn)
    draw.text((gap, gap), _shortened(title, heading, drawn.width - 2 * gap), INK, heading, anchor="lt")
    for row, height, text_height in zip(rows, heights, text_heights, strict=True):
        for column, (picture, text) in enumerate(zip(shown[row], texts[row], strict=True)):
            left = gap + column * (width + gap)
            drawn.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
            draw.multiline_text((left, top + height + gap // 2), text, INK, font, spacing=text_size // 3)
        top += height + text_height + gap
    return drawn


def _font(size: int, *texts: str) -> ImageFont.FreeTypeFont:
    """Pillow's own font; for Chinese texts one of the system's, where it has any, or the characters are boxes."""
    found = _chinese_font() if any(re.search(f"[{_CHINESE}]", text) for text in texts) else None
    if found is not None:
        return ImageFont.truetype(found[0], size, found[1])
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, Pillow has no other
    return font


@cache
def _chinese_font() -> tuple[str, int] | None:
    for name, index in _CHINESE_FONTS:
        try:
            ImageFont.truetype(name, 15, index)
        except OSError:
            continue
        return name, index
    return None


def _scaled(picture: Image.Image, edge: int) -> Image.Image:
    """The longer edge scaled to `edge` pixels."""
    factor = edge / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture if size == picture.size else picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _text_height(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont) -> int:
    """With the space above it; 0 for no text."""
    if not text:
        return 0
    return round(draw.multiline_textbbox((0, 0), text, font, spacing=round(font.size) // 3)[3] + font.size)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width` pixels; a word wider than that is cut short. Each Chinese character is a word."""
    lines = []
    for paragraph in text.translate(_LACKING).splitlines():
        line = ""
        for word in re.findall(f" ?[{_CHINESE}][、。，；：！？）”]*| ?[^ {_CHINESE}]+", " ".join(paragraph.split())):
            if line and font.getlength(line + word) > width:
                lines.append(line)
                line = ""
            line = line + word if line else _shortened(word, font, width)
        lines.append(line)
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width` pixels."""
    text = " ".join(text.translate(_LACKING).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
