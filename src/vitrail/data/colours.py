"""What colour a person would say a glyph has."""

import numpy as np
from PIL import Image

CHINESE = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "grey": "灰色",
    "white": "白色",
}
"""The colours that are told apart, and what they are called in Chinese."""

_HUES = ("orange", "yellow", "green", "blue", "purple", "pink", "red")
_WHERE_HUES_BEGIN = (11, 29, 46, 110, 182, 215, 245)  # of 256 in a circle: what is before the first is of the last
_MOST = 0.4  # of what is to be seen, for one colour to be the glyph's


def main_colour(picture: np.ndarray) -> str | None:
    """The colour that most of a glyph has, if it covers two fifths; None where none does.

    Args:
        picture: uint8 of shape (S, S, 4), RGBA with straight alpha.
    """
    seen = picture[picture[..., 3] > 127][:, :3]
    if not len(seen):
        return None
    names = list(CHINESE)
    counts = np.bincount(_colours(seen), minlength=len(names))
    most = int(counts.argmax())
    return names[most] if counts[most] >= _MOST * len(seen) else None


def _colours(pixels: np.ndarray) -> np.ndarray:
    """The number of each pixel's colour, (N,), of uint8 RGB values (N, 3)."""
    names = list(CHINESE)
    hue, saturation, value = np.asarray(Image.fromarray(pixels[None]).convert("HSV"))[0].astype(int).T
    colour = np.array([names.index(each) for each in _HUES])[np.searchsorted(_WHERE_HUES_BEGIN, hue, "right") - 1]
    reddish = (hue > 2) & (hue < 29)
    colour[reddish & (value < 190)] = names.index("brown")
    colour[(colour == names.index("red")) & (value > 190) & (saturation < 120)] = names.index("pink")
    plain = saturation < 45
    colour[plain] = names.index("grey")
    colour[plain & (value > 215)] = names.index("white")
    colour[(value < 60) | ((value < 90) & (saturation < 100))] = names.index("black")
    return colour
