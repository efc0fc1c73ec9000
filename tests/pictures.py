"""Odd pictures for the tests: every mode that a file can hold, and shapes at the edges of sense."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"


def photograph() -> Image.Image:
    """A real one: the cat of the examples."""
    with Image.open(EXAMPLES / "cat.jpg") as image:
        return image.convert("RGB")


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random pixels, which show every rounding; mode L, LA, RGB, RGBA or CMYK."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def palette(transparent: bool = False) -> Image.Image:
    """The photograph in 64 colours; with `transparent`, one of them see-through, as a GIF has it."""
    image = photograph().quantize(64)
    if not transparent:
        return image
    file = io.BytesIO()
    image.save(file, "GIF", transparency=image.getpixel((0, 0)))
    return Image.open(file)


def deep_grey() -> Image.Image:
    """The photograph's brightness as 16-bit grey (mode I;16): each level of 0..255 times 257."""
    grey = np.asarray(photograph().convert("L"), dtype=np.uint16) * 257
    return Image.fromarray(grey)


def see_through() -> Image.Image:
    """The photograph as RGBA, fading from nothing at the left to opaque at the right."""
    image = photograph()
    fade = np.linspace(0, 255, image.width).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(fade, (image.height, 1))))
    return image


def turned() -> Image.Image:
    """The photograph as a JPEG whose EXIF data asks the viewer for a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90° clockwise to see it upright
    file = io.BytesIO()
    photograph().save(file, "JPEG", exif=exif)
    return Image.open(file)


def colour_key() -> Image.Image:
    """An RGB PNG that declares one colour see-through, as read back from its file."""
    image = noise(40, 30)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=image.getpixel((5, 5)))
    return Image.open(file)


def odd_pictures() -> dict[str, Image.Image]:
    """One of each, by name."""
    return {
        "photograph": photograph(),
        "palette": palette(),
        "palette with transparency": palette(transparent=True),
        "grey": photograph().convert("L"),
        "grey with alpha": see_through().convert("LA"),
        "black and white": photograph().convert("1"),
        "CMYK": noise(61, 47, "CMYK"),
        "16-bit grey": deep_grey(),
        "RGBA": see_through(),
        "colour key": colour_key(),
        "EXIF-rotated": turned(),
        "1×1": noise(1, 1),
        "4000×30": noise(4000, 30),
        "30×4000": noise(30, 4000),
    }
