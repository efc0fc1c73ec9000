"""Splits by meaning: which concepts, and which concepts in which style, are kept from training. Pure functions.

A hash, never a shuffle, decides, so the answer for one concept does not change when others come or go. What is hashed
is the *base* of a concept: a man and a woman judge of any skin tone share one, and fall on the same side of every
split. Of the three splits Vitrail speaks of, *unseen style* needs no rule: train on all styles but one, and test on
that one.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "validation", "test"]

_SKIN_TONES = {"1f3fb": "light", "1f3fc": "medium-light", "1f3fd": "medium", "1f3fe": "medium-dark", "1f3ff": "dark"}

_JOINER, _FEMALE_SIGN, _MALE_SIGN, _FACING_RIGHT = "200d", "2640", "2642", "27a1"

_FEMALE = {_FEMALE_SIGN, "1f469", "1f467", "1f475", "1f478", "1f936", "1f930", "1f931", "1f483", "1f9d5", "1f46d"}
_MALE = {_MALE_SIGN, "1f468", "1f466", "1f474", "1f934", "1f385", "1fac3", "1f57a", "1f46c"}

_PERSON, _CHILD, _FAMILY = "1f9d1", "1f9d2", "1f46a"

_NEUTRAL = {  # gendered code point -> the one Unicode has for either gender, or else its counterpart
    "1f468": _PERSON,
    "1f469": _PERSON,
    "1f466": _CHILD,
    "1f467": _CHILD,
    "1f474": "1f9d3",  # old person
    "1f475": "1f9d3",
    "1f934": "1fac5",  # person with crown
    "1f478": "1fac5",
    "1f930": "1fac4",  # pregnant person
    "1fac3": "1fac4",
    "1f936": "1f385",  # Santa Claus
    "1f57a": "1f483",  # dancer
}

_SAME = {  # sequence -> the shorter or older way to write the same thing
    "1faf1-200d-1faf2": "1f91d",  # two hands: handshake
    "1f9d1-200d-1f384": "1f385",  # Mx Claus
    "1f46b": "1f9d1-200d-1f91d-200d-1f9d1",  # two people holding hands
    "1f46c": "1f9d1-200d-1f91d-200d-1f9d1",
    "1f46d": "1f9d1-200d-1f91d-200d-1f9d1",
    "1f9d1-200d-2764-200d-1f48b-200d-1f9d1": "1f48f",  # kiss
    "1f9d1-200d-2764-200d-1f9d1": "1f491",  # couple with heart
    "1f9d1-200d-1f430-200d-1f9d1": "1f46f",  # people with bunny ears
    "1f9d1-200d-1faef-200d-1f9d1": "1f93c",  # people wrestling
}


def base_of(code: str) -> str:
    """The concept without skin tone, gender and direction: that of "1f469-1f3fd-200d-2696" is "1f9d1-200d-2696".

    Args:
        code: code points in lower-case hexadecimal joined by "-", without fe0f.

    Families of any number and gender are one base. A code that names none of these is its own base.
    """
    pieces = "-".join(point for point in code.split("-") if point not in _SKIN_TONES or point == code)
    people = [piece for piece in pieces.split(f"-{_JOINER}-") if piece not in (_FEMALE_SIGN, _MALE_SIGN, _FACING_RIGHT)]
    if not people:  # the sign itself
        return code
    people = [_NEUTRAL.get(piece, piece) for piece in people]
    if len(people) > 1 and set(people) <= {_PERSON, _CHILD}:
        return _FAMILY
    base = f"-{_JOINER}-".join(people)
    return _SAME.get(base, base)


def skin_tone_of(code: str) -> str:
    """ "none", one of Unicode's five tones ("medium-light"), or the tones of two people joined by " and "."""
    points = code.split("-")
    if len(points) == 1:  # a swatch of a tone has none itself
        return "none"
    tones = dict.fromkeys(_SKIN_TONES[point] for point in points if point in _SKIN_TONES)
    return " and ".join(tones) or "none"


def gender_of(code: str) -> str:
    """ "female" or "male" where everyone shown whose gender is told has that one, else "none"."""
    points = set(code.split("-"))
    if points in ({_FEMALE_SIGN}, {_MALE_SIGN}):
        return "none"
    female, male = bool(points & _FEMALE), bool(points & _MALE)
    return "none" if female == male else "female" if female else "male"


def fraction(key: str, seed: int = 0) -> float:
    """A number in [0, 1) that depends on nothing but the key and the seed, and is as good as random."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def unseen_concept(code: str, seed: int = 0) -> Split:
    """The side of a concept, in every style: a tenth of the bases are for "test", a tenth for "validation"."""
    return _side(fraction(f"concept/{base_of(code)}", seed), validation=0.1, test=0.1)


def unseen_combination(code: str, style: str, styles: Iterable[str], seed: int = 0) -> Split:
    """The side of a concept in one style, where it was seen in others and the style was seen on others.

    Two fifths of the bases lose one style to "test", another fifth one style to "validation"; so each concept that is
    drawn in two styles or more stays in training in at least one.

    Args:
        code: the concept.
        style: the style it is drawn in.
        styles: every style of the data set; the order does not matter.
        seed: another seed holds out other pairs.
    """
    base = base_of(code)
    side = _side(fraction(f"combination/{base}", seed), validation=0.2, test=0.4)
    held_out = min(styles, key=lambda style: fraction(f"combination/{base}/{style}", seed))
    return side if style == held_out else "train"


def _side(position: float, *, validation: float, test: float) -> Split:
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"
