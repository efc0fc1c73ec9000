"""Questions: their answers are checked against masks and glyphs by other means than the programs that gave them."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from vitrail.data.generated import generate_glyphs
from vitrail.data.scenes import Question, Scene, Scenes
from vitrail.data.scenes.questions import KINDS

KNOWN = {  # by group and subgroup alone, as a reader of the tables would say
    "edible": lambda concept: concept.group == "food-drink",
    "animal": lambda concept: concept.subgroup in ("animal-marine", "animal-bug"),
    "vehicle": lambda concept: concept.name_en.endswith("boat"),
    "plant": lambda concept: concept.name_en.endswith("flower"),
}


def centroids(scene: Scene) -> np.ndarray:
    """(n, 2): x and y of the mean visible pixel of each object, in fractions of the side."""
    return np.array([np.argwhere(mask).mean(axis=0)[::-1] + 0.5 for mask in scene.masks]) / scene.size


def numbers_of(scene: Scene, name: str) -> list[int]:
    return [number for number, one in enumerate(scene.objects) if one.concept.name_en == name]


def asked(many, kind: str):
    return [(scene, question) for scene in many for question in scene.questions if question.kind == kind]


def offset(scene: Scene, name: str, other: str) -> np.ndarray:
    """(right, down) from the one object of a name to the one of another, in fractions of the side."""
    (a,), (b,) = numbers_of(scene, name), numbers_of(scene, other)
    middle = centroids(scene)
    return middle[a] - middle[b]


AXES = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
SIDES = {"left of": "left", "right of": "right", "above": "above", "below": "below"}


def test_programs_run_again_give_the_answers(many):
    questions = [(scene, question) for scene in many for question in scene.questions]
    assert len(questions) > 7_000
    for scene, question in questions:
        assert scene.run(question.program) == question.answer
        assert question.kind in KINDS


def test_every_kind_is_asked_often(many):
    counts = Counter(question.kind for scene in many for question in scene.questions)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 0.1 * len(many)


def test_what_is_in_the_picture(many):
    for scene, question in asked(many, "what"):
        if "in the picture" in question.en.question:
            assert len(scene.masks) == 1
            assert question.answer == scene.objects[0].concept.code


def test_what_is_left_of_it_is_there_and_nothing_else_is(many):
    found = 0
    for scene, question in asked(many, "what"):
        words = re.fullmatch(r"What is (left of|right of|above|below) the (.*)\?", question.en.question)
        if words is None:
            continue
        found += 1
        middle, axis = centroids(scene), np.array(AXES[SIDES[words[1]]])
        (reference,) = numbers_of(scene, words[2])
        clearly = []
        for number, one in enumerate(scene.objects):
            along = (middle[number] - middle[reference]) @ axis
            across = abs((middle[number] - middle[reference]) @ axis[::-1])
            if one.concept.code == question.answer:
                clearly.append(along > 0.05 and along > 0.6 * across)
            else:
                assert along < 0.06 or number == reference
        assert any(clearly)
    assert found > 500


def test_how_many_is_the_number_of_masks(many):
    for scene, question in asked(many, "how many"):
        if question.en.question == "How many things are there?":
            assert question.answer == len([mask for mask in scene.masks if mask.any()])
            continue
        code = re.search(r"\[(.*)\]", str(question.program))[1]
        shown = [one.concept.code == code and mask.any() for one, mask in zip(scene.objects, scene.masks, strict=True)]
        assert question.answer == sum(shown)


def test_is_there_only_what_a_mask_shows(many):
    for scene, question in asked(many, "is there"):
        name = re.fullmatch(r"(?:Is there|Can you see) an? (.*)\?", question.en.question)[1]
        seen = any(scene.masks[number].any() for number in numbers_of(scene, name))
        assert question.answer is seen
        assert question.en.answer == ("yes" if seen else "no")
        assert question.zh.answer == ("是" if seen else "否")


def test_where_is_the_part_of_the_picture_its_pixels_are_in(many):
    for scene, question in asked(many, "where"):
        (number,) = numbers_of(scene, re.fullmatch(r"Where in the picture is the (.*)\?", question.en.question)[1])
        right, down = centroids(scene)[number]
        left, top, far_right, bottom = scene.boxes[number] / scene.size
        strays = 0.15 * max(far_right - left, bottom - top)  # a heart's mean pixel lies above the middle of its box
        for word, position in (("left", right), ("right", 1 - right), ("top", down), ("bottom", 1 - down)):
            inside = word in question.answer.split()
            assert position < 1 / 3 + strays if inside else position > 1 / 3 - strays


def test_which_side_agrees_with_the_pixels(many):
    pattern = r"Is the (.*) left of, right of, above or below the (.*)\?"
    for scene, question in asked(many, "which side"):
        right, down = offset(scene, *re.fullmatch(pattern, question.en.question).groups())
        along = np.array([right, down]) @ AXES[question.answer]
        assert along > 0.05
        assert along > 0.6 * max(abs(right), abs(down))


def test_relations_agree_with_the_pixels(many):
    for scene, question in asked(many, "relation"):
        words = re.fullmatch(r"Is the (.*) (left of|right of|above|below) the (.*)\?", question.en.question)
        along = offset(scene, words[1], words[3]) @ np.array(AXES[SIDES[words[2]]])
        assert (along > 0.05) if question.answer else (along < -0.05)


def test_styles_are_those_of_the_glyphs(many, glyphs):
    for scene, question in asked(many, "style"):
        (number,) = numbers_of(scene, re.search(r"is the (.*) drawn", question.en.question)[1])
        assert question.answer == glyphs.style[scene.objects[number].glyph]


def test_same_compares_the_styles_of_the_two_named(many, glyphs):
    for scene, question in asked(many, "same"):
        codes = set(re.findall(r"\[(.*?)\]", str(question.program)))
        pair = [glyphs.style[one.glyph] for one in scene.objects if one.concept.code in codes]
        assert len(pair) == 2
        assert question.answer is (pair[0] == pair[1])


def test_knowledge_follows_from_the_groups(many):
    properties = set()
    for scene, question in asked(many, "knowledge"):
        name = re.search(r"filter_knowledge\[(.*?)\]", str(question.program))[1]
        having = [one.concept.code for one in scene.objects if KNOWN[name](one.concept)]
        assert having == [question.answer] if isinstance(question.answer, str) else len(having) == question.answer
        properties.add(name)
    assert properties == set(KNOWN)  # of the others, generated glyphs have none


def test_compare_counts_both(many):
    for scene, question in asked(many, "compare"):
        first, second = re.findall(r"\[(.*?)\]", str(question.program))
        counts = Counter(one.concept.code for one in scene.objects)
        assert counts[first] != counts[second]
        assert question.answer is (counts[first] > counts[second])


@pytest.mark.parametrize("split", ["any", "train"])
def test_answers_are_balanced(glyphs, split):
    counts: dict[str, Counter] = defaultdict(Counter)
    for scene in Scenes(glyphs, length=1200, size=32, split=split, seed=11):
        for question in scene.questions:
            if question.program.gives != "concept":
                counts[question.kind][question.answer] += 1
    for kind in ("is there", "relation", "same", "compare"):
        assert 0.4 < counts[kind][True] / counts[kind].total() < 0.6, kind
    for kind, bound in (("which side", 0.32), ("style", 0.32), ("where", 0.32), ("how many", 0.45), ("knowledge", 0.5)):
        answer, most = counts[kind].most_common(1)[0]
        assert most / counts[kind].total() < bound, (kind, answer)


def test_the_words_of_a_question_do_not_give_its_answer(glyphs):
    """Guess yes or no from the concept asked for, as learnt from other scenes: no better than a coin."""
    questions = [question for _, question in asked(Scenes(glyphs, length=1800, size=32, seed=1), "is there")]
    yes: dict[str, list[bool]] = defaultdict(list)
    for question in questions[:900]:
        yes[str(question.program)].append(question.answer)
    right = [(np.mean(yes[str(one.program)] or [0.5]) > 0.5) == one.answer for one in questions[900:]]
    assert np.mean(right) < 0.57  # 0.5 by chance, give or take 0.017


def test_one_style_asks_nothing_of_style():
    scenes = Scenes(generate_glyphs(24, styles=("flat",), size=24), length=100)
    kinds = {question.kind for scene in scenes for question in scene.questions}
    assert kinds
    assert not kinds & {"style", "same"}


def test_steps_end_in_the_answer_in_both_languages(many):
    def said(question: Question) -> None:
        for wording, end in ((question.en, "."), (question.zh, "。")):
            assert wording.steps[-1].endswith(wording.answer + end)
            assert len(wording.steps) == len(set(wording.steps))

    for scene in many[:500]:
        for question in scene.questions:
            said(question)
