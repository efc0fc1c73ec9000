"""Rows of examples of one kind, and tests of kinds that training never asks."""

from typing import Any

import pytest
import torch

from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.relations import cell_of
from vitrail.data.shots import SORT, Examples, ShotsSection, TestRows, commonest, questions_of
from vitrail.data.source import Data, Talk, to_tensor
from vitrail.errors import UsageError
from vitrail.models.language_model import Turn


def opened(**keys: Any) -> Data:
    section = {
        "generated": 24,
        "length": 200,
        "test_length": 10,
        "count": (1, 3),
        "hold_out": ("style", "which side"),
        **keys,
    }
    return ShotsSection(source="shots", **section).open((24, 24))


def kinds_of(talk: Talk) -> set[str]:
    """What kinds of question a conversation asks, by their first words."""
    texts = {turn.text for turn in talk.turns if turn.by == "user"}
    style = any("art style" in text or "画风？" in text for text in texts)
    side = any("left of, right of" in text or "哪一边" in text for text in texts)
    return {name for name, there in (("style", style), ("which side", side)) if there}


def test_a_row_is_of_one_kind_that_is_not_held_out():
    data = opened(shots=(0, 1))
    assert isinstance(data.train, Examples)
    sizes = set()
    for seed in range(12):
        batch = data.train.batch(torch.arange(4), torch.Generator().manual_seed(seed))
        count = batch["images"].shape[1]
        sizes.add(count)
        assert batch["images"].shape == (4, count, 3, 24, 24)
        for talks in batch["talks"]:
            (talk,) = talks
            assert len(talk.turns) == 2 * count
            assert [turn.pictures for turn in talk.turns] == [1, 0] * count
            assert not kinds_of(talk)
    assert sizes == {1, 2}


def test_the_last_answer_was_given_before():
    data = opened(shots=(3, 3), symbols=1.0, sorts=0.5)
    for seed in range(6):
        batch = data.train.batch(torch.arange(6), torch.Generator().manual_seed(seed))
        for (talk,) in batch["talks"]:
            answers = [turn.text for turn in talk.turns if turn.by == "model"]
            assert answers[-1] in answers[:-1]


def test_sorts_are_told_by_two_traits_and_named_anew():
    data = opened(shots=(7, 7), sorts=1.0, languages=("en",), length=400)
    assert isinstance(data.train, Examples)
    assert data.train.section.symbols == 0
    called = set()
    for seed in range(8):
        row = data.train.row(8, "en", Dice(seed, 0, 0), sorts=True)
        assert {asked for _, asked, _ in row} == {SORT["en"]}
        names = {name for _, _, name in row}
        called |= names
        scenes = {name: [scene for scene, _, other in row if other == name] for name in names}
        traits = (
            lambda scene: len(scene.objects),
            lambda scene: scene.background.first,
            lambda scene: scene.background.kind,
            lambda scene: scene.objects[0].style,
            lambda scene: scene.objects[0].concept.group,
            lambda scene: cell_of(scene.objects[0].centre, scene.size),
        )
        alike = [trait for trait in traits if all(len(set(map(trait, found))) == 1 for found in scenes.values())]
        assert len(alike) >= 2
        assert len({tuple(trait(found[0]) for trait in alike) for found in scenes.values()}) == len(names)
    assert len(called) > 8


def test_sorts_are_told_by_one_trait_alone():
    """The same picture again, or the same behind it; in some rows the wording asks for something else."""
    behind = {"colour": lambda scene: scene.background.first, "pattern": lambda scene: scene.background.kind}
    for trait in ("picture", "colour", "pattern"):
        data = opened(shots=(7, 7), sorts=1.0, traits=(trait,), asking=0.5, languages=("en",))
        assert isinstance(data.train, Examples)
        again, asking = 0, set()
        for seed in range(12):
            row = data.train.row(8, "en", Dice(seed, 0, 0), sorts=True)
            value = behind.get(trait, lambda scene: scene.index)
            pairs = {(name, value(scene)) for scene, _, name in row}
            assert len(pairs) == len({name for name, _ in pairs}) == len({one for _, one in pairs})
            assert trait != "colour" or {scene.background.kind for scene, _, _ in row} == {"plain"}
            again += len({scene.index for scene, _, _ in row}) == len(pairs)
            (asked,) = {asked for _, asked, _ in row}
            asking.add(asked == SORT["en"])
            assert not kinds_of(Talk((Turn(asked),), "en"))
        assert (again == 12) == (trait == "picture")
        assert asking == {True, False}


def test_what_is_behind_is_asked_of_every_scene_and_its_colour_where_it_is_plain():
    data = opened(hold_out=("colour", "pattern"), test_length=30, test_shots=(0, 1))
    assert isinstance(data.test, TestRows)
    assert isinstance(data.train, Examples)
    assert data.talks is not None
    _, scenes = data.test.section.scenes((24, 24))
    plain = sum(scene.background.kind == "plain" for scene in scenes)
    kinds = [test.kind for test in data.test.tests]
    assert kinds.count("colour") == 2 * 2 * 2 * plain > 0  # so many examples, grey ones, languages
    assert kinds.count("pattern") == 2 * 2 * 2 * 30
    for test in data.test.tests:
        answer = test.question.wording(test.language).answer
        told = test.scene.background.describe(test.language).replace("上", "天空")  # for what is above
        assert set(answer) <= set(told)
        assert test.language == "zh" or answer in told
    texts = {one.talk.turns[-1].text for one in data.talks.tests}
    assert len(texts) == 4
    for seed in range(8):
        row = data.train.row(2, "en", Dice(seed, 0, 0))
        assert not {asked for _, asked, _ in row} & texts
    colours = [one for scene in data.train.scenes for one in questions_of(scene) if one.kind == "colour"]
    common = max(colours, key=colours.count)
    assert commonest(data.train.scenes, ("zh",))["colour", "zh"] == common.wording("zh").answer


def test_a_row_in_words_says_the_same_word_for_the_same_answer():
    data = opened(shots=(5, 5), words=True, blind=True, sorts=0.5, languages=("en",), test_shots=(2,))
    batches = [data.train.batch(torch.arange(4), torch.Generator().manual_seed(seed)) for seed in range(6)]
    assert all(batch["images"].unique().tolist() == [128] for batch in batches)
    asking = set()
    for (talk,) in (talks for batch in batches for talks in batch["talks"]):
        assert [turn.by for turn in talk.turns] == ["model"] * 6
        questions, behind = zip(*(turn.text.rpartition("?")[::2] for turn in talk.turns), strict=True)
        pairs = {tuple(text.split(maxsplit=1)) for text in behind}  # the word, and the answer's name
        assert len(pairs) == len({word for word, _ in pairs}) == len({answer for _, answer in pairs})
        assert all(questions) or not any(questions)  # where sorts are asked for, there are only words
        asking.add(any(questions))
        assert not kinds_of(Talk(tuple(Turn(text) for text in questions), "en"))
    assert asking == {True, False}
    assert data.talks is not None
    for test in data.talks.tests:
        *examples, last = test.talk.turns
        assert [turn.by for turn in examples] == ["model"] * 2
        behind = [turn.text.split("? ")[1] for turn in examples]
        words = dict(text.split(maxsplit=1) for text in behind)
        word = last.text.split("? ")[1]
        assert words.get(word, test.answers[0]) == test.answers[0]


def test_a_test_asks_the_same_with_more_and_more_examples_and_once_more_in_grey():
    data = opened(test_shots=(0, 2))
    assert data.talks is not None
    assert isinstance(data.test, TestRows)
    assert data.split == "unseen kinds of question: style, which side"
    none, two = ([one for one in data.talks.tests if one.kind.endswith(f"{shots} shots")] for shots in (0, 2))
    assert len(none) == len(two) > 0
    for alone, taught in zip(none, two, strict=True):
        assert len(alone.talk.turns) == 1
        assert len(taught.talk.turns) == 5
        assert taught.talk.turns[-1] == alone.talk.turns[-1]
        assert taught.answers == alone.answers
        assert len(kinds_of(taught.talk)) == 1
    grey = [one for one in data.talks.tests if one.kind.endswith("shots blank")]
    assert [(one.talk, one.answers) for one in grey] == [(one.talk, one.answers) for one in (*none, *two)]
    chosen = torch.arange(2 * len(none) - 1, 2 * len(none) + 1)  # the last grey one without examples, and the next
    batch = data.test.batch(torch.cat([chosen, chosen + len(none)]), None)
    assert batch["images"].shape[:2] == (4, 3)
    for row, index in enumerate(batch["targets"].tolist()):
        test = data.test.tests[index]
        assert test.question.kind == test.kind
        assert test.question.wording(test.language).question == batch["talks"][row][0].turns[-1].text
        picture = torch.full((3, 24, 24), 128, dtype=torch.uint8) if test.blank else to_tensor([test.scene.picture])[0]
        assert torch.equal(batch["shown"][row], picture)
        assert torch.equal(batch["images"][row][test.shots], picture)


def test_what_cannot_be_held_out_is_refused():
    with pytest.raises(UsageError, match="names 'weight'"):
        opened(hold_out=("weight",))
    with pytest.raises(UsageError, match="from the fewest to the most"):
        opened(shots=(3, 1))
    mottled = opened(length=1, sorts=1.0, traits=("colour",), hold_out=("pattern",))
    with pytest.raises(UsageError, match="none of 1 scenes has: "):
        mottled.train.batch(torch.arange(1), torch.Generator().manual_seed(0))
