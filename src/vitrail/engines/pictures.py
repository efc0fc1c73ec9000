"""The pictures that engines are tried and calibrated on: the user's, or scenes that are drawn here."""

from functools import cache
from typing import TYPE_CHECKING

from vitrail.errors import UsageError
from vitrail.imaging.inputs import find_inputs
from vitrail.imaging.open import Picture, open_picture

if TYPE_CHECKING:
    from vitrail.data.glyphs import GlyphTable

CALIBRATION = 128
"""Pictures that int8's ranges are taken from."""

SIZE = 256
"""Side of a drawn scene in pixels."""

SEEDS = (11, 12)
"""Of scenes to calibrate on, and of scenes to compare on: none is in both."""


def sample(source: str | None, count: int, *, compare: bool = False) -> list[Picture]:
    """Pictures to try a network on.

    Args:
        source: a picture, a folder or a pattern; None for scenes of generated glyphs.
        count: how many, at most.
        compare: of drawn scenes, others than those that int8 is calibrated on; of the user's pictures, the last.

    Raises:
        UsageError: there are no pictures.
        ImageError: one is not there, or cannot be opened.
    """
    if source is None:
        return _drawn(count, SEEDS[compare])
    found = find_inputs([source])
    if not found:
        raise UsageError(f"there are no pictures in {source}")
    return [input.open(False) for input in (found[-count:] if compare else found[:count])]


def _drawn(count: int, seed: int) -> list[Picture]:
    from vitrail.data.scenes.dataset import Scenes

    scenes = Scenes(_glyphs(), length=count, size=SIZE, seed=seed)
    return [open_picture(scene.picture) for scene in scenes]


@cache
def _glyphs() -> "GlyphTable":
    from vitrail.data.generated import generate_glyphs

    return generate_glyphs(24, size=64)
