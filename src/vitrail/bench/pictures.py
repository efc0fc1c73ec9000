"""Pictures that take as long to decode as photographs do, drawn from nothing."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Write JPEG files, of quality 90, of pictures whose detail falls off with its fineness as a photograph's does.

    Args:
        folder: is made.
        count: how many.
        size: (width, height) in pixels.
    """
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        _photograph(size, number).save(path, quality=90)
    return paths


def _photograph(size: tuple[int, int], seed: int) -> Image.Image:
    """Noise at every scale, the coarser the stronger (a spectrum of 1/f), and a sensor's grain."""
    numbers = np.random.default_rng(seed)
    width, height = size
    picture = np.full((height, width, 3), 128, dtype=np.float32)
    scale = max(size)
    while scale > 2:
        shape = (height // scale + 2, width // scale + 2, 3)
        coarse = Image.fromarray(numbers.integers(0, 256, shape, dtype=np.uint8))
        strength = 0.5 * (scale / max(size)) ** 0.3
        picture += strength * (np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) - 128)
        scale //= 4
    picture += numbers.normal(0, 3, picture.shape).astype(np.float32)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))
