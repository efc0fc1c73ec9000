"""Say what a scene shows, in several ways, in English and in Chinese."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from vitrail.data.scenes.backgrounds import Background
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.nouns import NUMBERS_EN, NUMBERS_ZH, article, counted, listed, style_name
from vitrail.data.scenes.objects import SceneObject
from vitrail.data.scenes.rationale import said
from vitrail.data.scenes.relations import relation_of


@dataclass(frozen=True)
class Caption:
    """One thing that can be said of a scene, in two languages.

    Attributes:
        kind: what it tells: "objects", "background", "count", "relation" or "style".
        en: English.
        zh: Chinese; it says the same.
    """

    kind: str
    en: str
    zh: str

    def text(self, language: str) -> str:
        """In a language, "en" or "zh"."""
        return self.zh if language == "zh" else self.en


def describe(objects: Sequence[SceneObject], background: Background, size: int, dice: Dice) -> tuple[Caption, ...]:
    """Captions of every kind that fits; which phrasing, and of which objects, is drawn.

    Args:
        objects: what stands in the scene, at least one.
        background: what is behind.
        size: the picture's side in pixels.
        dice: decides.
    """
    concepts = [one.concept for one in dice.shuffled(objects)]
    english, chinese = listed(concepts, "en"), listed(concepts, "zh")
    are = "is" if english.startswith(("a ", "an ")) else "are"
    captions = [
        Caption(
            "objects",
            dice.pick([f"{english}", f"a picture of {english}", f"there {are} {english}", f"this shows {english}"]),
            dice.pick([f"{chinese}", f"图中有{chinese}", f"一幅画着{chinese}的图", f"这里有{chinese}"]),
        ),
        Caption("background", f"{english} on {background.describe('en')}", f"{background.describe('zh')}上有{chinese}"),
        _count(objects, english, chinese),
    ]
    return (*captions, *_relation(objects, size, dice), _style(objects, dice))


def _count(objects: Sequence[SceneObject], english: str, chinese: str) -> Caption:
    number = len(objects)
    things = "thing" if number == 1 else "things"
    return Caption("count", f"{NUMBERS_EN[number]} {things}: {english}", f"{NUMBERS_ZH[number]}个东西：{chinese}")


def _relation(objects: Sequence[SceneObject], size: int, dice: Dice) -> list[Caption]:
    """Two things that there are one each of, and where the one is to the other; nothing where that is not clear."""
    clear = [
        (a, relation, b)
        for a, b in permutations(single(objects), 2)
        if (relation := relation_of(a.centre, b.centre, size))
    ]
    if not clear:
        return []
    a, relation, b = dice.pick(clear)
    side = {"left": "to the left of", "right": "to the right of"}.get(relation, said(relation, "en"))
    first, second = article(a.concept.name_en), article(b.concept.name_en)
    return [
        Caption(
            "relation",
            dice.pick([f"{first} {said(relation, 'en')} {second}", f"{first} is {side} {second}"]),
            dice.pick(
                [
                    f"{a.concept.name_zh}在{b.concept.name_zh}的{said(relation, 'zh')}",
                    f"{b.concept.name_zh}的{said(relation, 'zh')}有{counted(a.concept, 1, 'zh')}",
                ]
            ),
        )
    ]


def _style(objects: Sequence[SceneObject], dice: Dice) -> Caption:
    """The style of everything where it is one, else of one thing."""
    one = dice.pick(objects)
    same = len({other.style for other in objects}) == 1
    concepts = [other.concept for other in (objects if same else [one])]
    return Caption(
        "style",
        f"{listed(concepts, 'en')} in the {style_name(one.style, 'en')} style",
        f"{style_name(one.style, 'zh')}风格的{listed(concepts, 'zh')}",
    )


def single(objects: Sequence[SceneObject]) -> list[SceneObject]:
    """The objects that can be called "the frog": no other is of their concept."""
    counts = Counter(one.concept for one in objects)
    return [one for one in objects if counts[one.concept] == 1]
