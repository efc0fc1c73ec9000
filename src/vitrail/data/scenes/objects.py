"""What stands in a scene, and what might have."""

from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.data.glyphs import Concept


@dataclass(frozen=True)
class SceneObject:
    """One glyph in a picture.

    Attributes:
        glyph: its index in the table of glyphs.
        concept: what it shows.
        style: the art style it is drawn in.
        centre: (x, y) in pixels, the centre of its whole extent, hidden parts included.
        scale: the side of the glyph, transparent rim included, as a fraction of the picture's side.
        visible: the fraction of its pixels that no later object covers, 0 to 1.
    """

    glyph: int
    concept: Concept
    style: str
    centre: tuple[float, float]
    scale: float
    visible: float


@dataclass(frozen=True, eq=False)
class World:
    """What scenes are made of.

    Attributes:
        concepts: what is known about each concept, by its code.
        vocabulary: the concepts that may stand in a scene, each as likely.
        styles: the art styles there are.
    """

    concepts: Mapping[str, Concept]
    vocabulary: tuple[Concept, ...]
    styles: tuple[str, ...]
