"""Folders of made-up pictures for the tests of the index."""

from pathlib import Path

import numpy as np
from PIL import Image


def blob(seed: int, edge: int = 40) -> Image.Image:
    """A smooth picture of its own: a few waves of colour, which survive being scaled and compressed."""
    dice = np.random.default_rng(seed)
    y, x = np.mgrid[0:edge, 0:edge] / edge
    channels = [np.sin(2 * np.pi * (dice.uniform(-3, 3) * x + dice.uniform(-3, 3) * y + dice.random())) for _ in "RGB"]
    return Image.fromarray(np.rint(127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8))


def fill(folder: Path, count: int, first: int = 0) -> Path:
    """`count` pictures "000.png", … in a folder, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        blob(number).save(folder / f"{number:03}.png")
    return folder
