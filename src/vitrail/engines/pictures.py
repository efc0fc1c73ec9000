"""The pictures that engines are tried and calibrated on: the user's, or scenes that are drawn here."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from vitrail.errors import UsageError
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Picture, open_picture

if TYPE_CHECKING:
    from vitrail.data.glyphs import GlyphTable

CALIBRATION = 128
"""Pictures that int8's ranges are taken from."""

SIZE = 256
"""Side of a drawn scene in pixels."""

SEEDS = (11, 12)
"""Of scenes to calibrate on, and of scenes to compare on: none is in both."""


class Opened(Sequence[Picture]):
    """Pictures that are opened each time they are looked at, so that no more than one of them is in memory.

    Args:
        inputs: where they are.
    """

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Any) -> Any:
        """One of them, opened; of a slice those of them.

        Raises:
            ImageError: it is not there, or cannot be opened.
        """
        return Opened(self.inputs[index]) if isinstance(index, slice) else self.inputs[index].open(False)


def sample(source: str | None, count: int, *, compare: bool = False) -> Sequence[Picture]:
    """Pictures to try a network on.

    Args:
        source: a picture, a folder or a pattern; None for scenes of generated glyphs.
        count: how many, at most.
        compare: of drawn scenes, others than those that int8 is calibrated on; of the user's pictures, the last.

    Raises:
        UsageError: there are no pictures.
    """
    if source is None:
        return _drawn(count, SEEDS[compare])
    found = find_inputs([source])
    if not found:
        raise UsageError(f"there are no pictures in {source}")
    return Opened(found[-count:] if compare else found[:count])


def _drawn(count: int, seed: int) -> list[Picture]:
    from vitrail.data.scenes.dataset import Scenes

    scenes = Scenes(_glyphs(), length=count, size=SIZE, seed=seed)
    return [open_picture(scene.picture) for scene in scenes]


@cache
def _glyphs() -> "GlyphTable":
    from vitrail.data.generated import generate_glyphs

    return generate_glyphs(24, size=64)
