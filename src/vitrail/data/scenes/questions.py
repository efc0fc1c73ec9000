"""Ask about a scene what a look at it settles, and answer with the steps that settle it.

How a question is kept from being answered by its words alone: whether the answer is to be yes or no is drawn before
anything else, what is asked for and absent is drawn from the same concepts as what is present, and a relation is
denied by asking for its opposite between the same two. How it is kept unambiguous: "the frog" is said only where there
is one, a relation is asked of only where `relates` is sure, and knowledge only where `has_property` is.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.captions import single
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.knowledge import PROPERTIES, has_property
from vitrail.data.scenes.nouns import article, measure, plural
from vitrail.data.scenes.objects import SceneObject, World
from vitrail.data.scenes.programs import Step, Value, trace
from vitrail.data.scenes.rationale import answer_text, rationale, said
from vitrail.data.scenes.relations import OPPOSITE, RELATIONS, cell_of, relates, relation_of
from vitrail.data.scenes.things import confusable

TRIES = 20


@dataclass(frozen=True)
class Wording:
    """A question in one language.

    Attributes:
        question: "How many frogs are there?"
        answer: a word or few: "2".
        steps: the reasoning, a sentence each; the last tells the answer.
    """

    question: str
    answer: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Attributes:
        kind: one of `KINDS`.
        program: the steps; run on the scene's objects they give the answer.
        answer: what they gave: a truth, a number, or the name of a concept (its code), style, place or relation.
        en: in English.
        zh: in Chinese.
    """

    kind: str
    program: Step
    answer: bool | int | str
    en: Wording
    zh: Wording

    def wording(self, language: str) -> Wording:
        """In a language, "en" or "zh"."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True)
class _View:
    objects: tuple[SceneObject, ...]
    size: int
    world: World

    def has(self, relation: str, a: SceneObject, b: SceneObject) -> bool | None:
        return relates(relation, a.centre, b.centre, self.size)

    def absent(self, dice: Dice) -> Concept | None:
        """A concept that nothing here could be called, or None if twenty draws find none."""
        present = {one.concept for one in self.objects}
        for _ in range(TRIES):
            drawn = dice.pick(self.world.vocabulary)
            if not any(drawn == other or confusable(drawn, other) for other in present):
                return drawn
        return None


_Asked = tuple[Step, str, str]  # the program, the question in English and in Chinese
SCENE = Step("scene")


def _all(concept: Concept) -> Step:
    return Step("filter_concept", (SCENE,), concept.code)


def _the(one: SceneObject) -> Step:
    return Step("unique", (_all(one.concept),))


def _what(view: _View, dice: Dice) -> _Asked | None:
    if len(view.objects) == 1:
        return Step("query_name", (Step("unique", (SCENE,)),)), "What is in the picture?", "图里是什么？"
    askable = []
    for one in single(view.objects):
        for relation in RELATIONS:
            holds = [view.has(relation, other, one) for other in view.objects if other is not one]
            if None not in holds and holds.count(True) == 1:
                askable.append((one, relation))
    if not askable:
        return None
    one, relation = dice.pick(askable)
    program = Step("query_name", (Step("unique", (Step("relate", (_the(one),), relation),)),))
    name = one.concept.name_zh
    return (
        program,
        f"What is {said(relation, 'en')} the {one.concept.name_en}?",
        f"{name}的{said(relation, 'zh')}是什么？",
    )


def _how_many(view: _View, dice: Dice) -> _Asked | None:
    if dice.chance(0.25):
        return Step("count", (SCENE,)), "How many things are there?", "图中有几个东西？"
    counts = Counter(one.concept for one in view.objects)
    wanted = dice.pick(sorted({0, *counts.values()}))
    concept = dice.pick([one for one, count in counts.items() if count == wanted]) if wanted else view.absent(dice)
    if concept is None:
        return None
    english, chinese = f"How many {plural(concept.name_en)} are there?", f"有几{measure(concept)}{concept.name_zh}？"
    return Step("count", (_all(concept),)), english, chinese


def _is_there(view: _View, dice: Dice) -> _Asked | None:
    present, absent = dice.pick(view.objects).concept, view.absent(dice)
    if absent is None:
        return None
    concept = present if dice.chance(0.5) else absent
    return (
        Step("exist", (_all(concept),)),
        dice.pick([f"Is there {article(concept.name_en)}?", f"Can you see {article(concept.name_en)}?"]),
        dice.pick([f"图中有{concept.name_zh}吗？", f"能看到{concept.name_zh}吗？"]),
    )


def _where(view: _View, dice: Dice) -> _Asked | None:
    askable = [one for one in single(view.objects) if cell_of(one.centre, view.size) is not None]
    if not askable:
        return None
    one = dice.pick(askable)
    english, chinese = f"Where in the picture is the {one.concept.name_en}?", f"{one.concept.name_zh}在图中的什么位置？"
    return Step("query_place", (_the(one),)), english, chinese


def _clear_pairs(view: _View) -> list[tuple[SceneObject, str, SceneObject]]:
    pairs = permutations(single(view.objects), 2)
    return [(a, found, b) for a, b in pairs if (found := relation_of(a.centre, b.centre, view.size))]


def _which_side(view: _View, dice: Dice) -> _Asked | None:
    if not (pairs := _clear_pairs(view)):
        return None
    a, _, b = dice.pick(pairs)
    program = Step("query_relation", (_the(a), _the(b)))
    english = f"Is the {a.concept.name_en} left of, right of, above or below the {b.concept.name_en}?"
    return program, english, f"{a.concept.name_zh}在{b.concept.name_zh}的哪一边？"


def _relation(view: _View, dice: Dice) -> _Asked | None:
    if not (pairs := _clear_pairs(view)):
        return None
    a, found, b = dice.pick(pairs)
    relation = found if dice.chance(0.5) else OPPOSITE[found]
    program = Step("exist", (Step("filter_concept", (Step("relate", (_the(b),), relation),), a.concept.code),))
    return (
        program,
        f"Is the {a.concept.name_en} {said(relation, 'en')} the {b.concept.name_en}?",
        f"{a.concept.name_zh}在{b.concept.name_zh}的{said(relation, 'zh')}吗？",
    )


def _style(view: _View, dice: Dice) -> _Asked | None:
    askable = single(view.objects)
    if not askable or len(view.world.styles) < 2:
        return None
    one = dice.pick(askable)
    english, chinese = f"In which art style is the {one.concept.name_en} drawn?", f"{one.concept.name_zh}是什么画风？"
    return Step("query_style", (_the(one),)), english, chinese


def _same(view: _View, dice: Dice) -> _Asked | None:
    """Of two things, or of the two there are of a kind."""
    wanted = dice.chance(0.5)
    twos = [pair for pair in combinations(single(view.objects), 2) if (pair[0].style == pair[1].style) == wanted]
    counts = Counter(one.concept for one in view.objects)
    for a, b in combinations(view.objects, 2):
        if a.concept == b.concept and counts[a.concept] == 2 and (a.style == b.style) == wanted:
            twos.append((a, b))
    if not twos or len(view.world.styles) < 2:
        return None
    a, b = dice.pick(twos)
    if a.concept == b.concept:
        names, names_zh = f"two {plural(a.concept.name_en)}", f"这些{a.concept.name_zh}"
        program = Step("all_same_style", (_all(a.concept),))
    else:
        names, names_zh = (
            f"{a.concept.name_en} and the {b.concept.name_en}",
            f"{a.concept.name_zh}和{b.concept.name_zh}",
        )
        program = Step("same_style", (_the(a), _the(b)))
    return program, f"Are the {names} drawn in the same style?", f"{names_zh}的画风相同吗？"


def _knowledge(view: _View, dice: Dice) -> _Asked | None:
    """Which of these can you eat, where it is one; how many can, where it is any number."""
    about = dice.pick(view.objects).concept if dice.chance(0.8) else dice.pick(view.world.vocabulary)
    true = [name for name in PROPERTIES if has_property(about, name)]
    sure = [name for name in true if all(has_property(one.concept, name) is not None for one in view.objects)]
    if not sure or len(view.objects) < 2:
        return None
    name = dice.pick(sure)
    words, found = PROPERTIES[name], Step("filter_knowledge", (SCENE,), name)
    if sum(has_property(one.concept, name) is True for one in view.objects) == 1 and dice.chance(0.7):
        program = Step("query_name", (Step("unique", (found,)),))
        return program, f"Which of these {words.which_en}?", f"这些当中哪个{words.which_zh}？"
    return Step("count", (found,)), f"How many of these {words.are_en}?", f"这些当中有几个{words.are_zh}？"


def _compare(view: _View, dice: Dice) -> _Asked | None:
    """More of these than of those: never asked where there are as many."""
    counts = Counter(one.concept for one in view.objects)
    unequal = [(a, b) for a, b in permutations(counts, 2) if counts[a] != counts[b]]
    if not unequal:
        return None
    a, b = dice.pick(unequal)
    program = Step("more", (Step("count", (_all(a),)), Step("count", (_all(b),))))
    english = f"Are there more {plural(a.name_en)} than {plural(b.name_en)}?"
    return program, english, f"{a.name_zh}比{b.name_zh}多吗？"


_KINDS: Mapping[str, Callable[[_View, Dice], _Asked | None]] = {
    "what": _what,
    "how many": _how_many,
    "is there": _is_there,
    "where": _where,
    "which side": _which_side,
    "relation": _relation,
    "style": _style,
    "same": _same,
    "knowledge": _knowledge,
    "compare": _compare,
}
KINDS = tuple(_KINDS)


def ask(objects: tuple[SceneObject, ...], size: int, world: World, dice: Dice) -> tuple[Question, ...]:
    """One question of every kind that can be asked of a scene without ambiguity.

    Args:
        objects: what stands in it, at least one.
        size: the picture's side in pixels.
        world: what might have stood in it; where there is only one style, nothing is asked of style.
        dice: decides which objects are asked about, and what the answer is to be.
    """
    view = _View(objects, size, world)
    asked = ((kind, make(view, dice)) for kind, make in _KINDS.items())
    return tuple(_question(kind, *found, view) for kind, found in asked if found)


def _question(kind: str, program: Step, english: str, chinese: str, view: _View) -> Question:
    taken = trace(program, view.objects, view.size)
    answer: Value = taken[-1][1]
    assert isinstance(answer, bool | int | str)  # no question ends in objects
    known = view.world.concepts
    en, zh = (
        Wording(text, answer_text(program, answer, known, language), rationale(taken, known, language))
        for text, language in ((english, "en"), (chinese, "zh"))
    )
    return Question(kind, program, answer, en, zh)
