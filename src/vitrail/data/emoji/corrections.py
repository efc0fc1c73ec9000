"""What a package got wrong, put right. Each was found by comparing the drawings of one concept across the styles."""

from collections.abc import Mapping
from typing import TypeVar

from vitrail.data.emoji.fetch import STYLES

_Drawing = TypeVar("_Drawing")

_TONES = {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}  # medium-light, medium
_GENDERS = {"2640": "2642", "2642": "2640"}

_RIGHT_TONES = (  # "*" stands for the tone
    "1f9d1-*-200d-1f4bb",  # technologists
    "1f468-*-200d-1f4bb",
    "1f469-*-200d-1f4bb",
    "1f46b-*",  # couples
    "1f46c-*",
    "1f46d-*",
    "1f48f-*",
    "1f491-*",
)
_DEAF_PERSON = "1f9cf"
_DISORDERED = [f"1f6b5-{tone}" for tone in ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")]  # person mountain biking


def corrected(package: str, drawings: Mapping[str, _Drawing]) -> dict[str, _Drawing]:
    """The drawings of a package under the codes of what they show.

    @lobehub/fluent-emoji-3d 1.1.0 has the medium-light and the medium skin tone in each other's place, save for a few
    concepts, and the deaf man and the deaf woman. The tones of one concept are in no order, and left out.
    """
    if package != STYLES["fluent-3d"]:
        return dict(drawings)
    return {_fluent_3d(code): drawing for code, drawing in drawings.items() if code not in _DISORDERED}


def _fluent_3d(code: str) -> str:
    points = code.split("-")
    if points[0] == _DEAF_PERSON:
        points = [_GENDERS.get(point, point) for point in points]
    if len(points) > 1 and "-".join("*" if point in _TONES else point for point in points) not in _RIGHT_TONES:
        points = [_TONES.get(point, point) for point in points]
    return "-".join(points)
