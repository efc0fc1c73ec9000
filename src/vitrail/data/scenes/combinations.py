"""Held-out combinations: pairs that training never shows, though it shows each part of them alone.

Nothing is listed: a seeded hash of the names decides, so any two sets of scenes with the same seed agree on what is
held out, whatever their other settings. Two kinds of pairs are:

* a concept in a style, exactly as `vitrail.data.splits.unseen_combination` parts glyphs;
* a concept left of, or above, another: a twentieth of the ordered pairs for "test", a twentieth for "validation".
  "B right of A" is "A left of B", "B below A" is "A above B", and a concept beside itself is never held out.

What the splits of `Scenes` promise:

* "train": no glyph in a style held out for its concept; and of no two glyphs, in a picture or in any frame of a video,
  does a held-out relation hold *even barely*: where (A, left, B) is held out, no A's centre is left of any B's at all.
* "validation" and "test": every picture (the first frame of a video) shows one of that split's combinations *clearly*:
  a glyph in its held-out style, or two in a held-out relation as `relates` judges it. What else it holds is free.
* "any": nothing is promised.
"""

from collections.abc import Sequence
from typing import Literal

from vitrail.data.scenes.relations import OPPOSITE
from vitrail.data.splits import Split, base_of, fraction, unseen_combination

SceneSplit = Literal["any", "train", "validation", "test"]
SCENE_SPLITS: tuple[SceneSplit, ...] = ("any", "train", "validation", "test")


def relation_side(a: str, relation: str, b: str, seed: int = 0) -> Split:
    """The side of a concept a standing in a relation to a concept b (codes)."""
    if relation in ("right", "below"):
        a, relation, b = b, OPPOSITE[relation], a
    a, b = base_of(a), base_of(b)
    position = fraction(f"relation/{a}/{relation}/{b}", seed)
    if a == b or position >= 0.1:
        return "train"
    return "test" if position < 0.05 else "validation"


def style_side(concept: str, style: str, styles: Sequence[str], seed: int = 0) -> Split:
    """The side of a concept (a code) in one of the data set's styles. With one style there is nothing to combine."""
    return unseen_combination(concept, style, styles, seed) if len(styles) > 1 else "train"
