"""Rows of examples of one kind, and tests of kinds that training never asks."""

from typing import Any

import pytest
import torch

from vitrail.data.shots import Examples, ShotsSection
from vitrail.data.source import Data
from vitrail.data.talk import worded
from vitrail.errors import UsageError


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


def kinds_of(talk: Any, examples: Examples) -> set[str]:
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
            assert not kinds_of(talk, data.train)
    assert sizes == {1, 2}


def test_a_test_asks_the_same_with_more_and_more_examples():
    data = opened(test_shots=(0, 2))
    assert data.talks is not None
    assert data.split == "unseen kinds of question: style, which side"
    none, two = ([one for one in data.talks.tests if one.kind.endswith(f"{shots} shots")] for shots in (0, 2))
    assert len(none) == len(two) > 0
    for alone, taught in zip(none, two, strict=True):
        assert len(alone.talk.turns) == 1
        assert len(taught.talk.turns) == 5
        assert taught.talk.turns[-1] == alone.talk.turns[-1]
        assert taught.answers == alone.answers
        assert len(kinds_of(taught.talk, data.train)) == 1  # type: ignore[arg-type]
    batch = data.test.batch(torch.arange(len(none) - 2, len(none) + 2), None)
    assert batch["images"].shape[:2] == (4, 3)
    scenes, tests = data.train.scenes, data.train.tests  # type: ignore[attr-defined]
    for row, index in enumerate(range(len(none) - 2, len(none) + 2)):
        kind, _, language, number, question = tests[index]
        picture = torch.from_numpy(scenes[number].picture).permute(2, 0, 1)
        assert torch.equal(batch["shown"][row], picture)
        assert torch.equal(batch["images"][row][tests[index][1]], picture)
        assert question.kind == kind
        assert worded(question, language)[0] == batch["talks"][row][0].turns[-1]


def test_what_cannot_be_held_out_is_refused():
    with pytest.raises(UsageError, match="names 'colour'"):
        opened(hold_out=("colour",))
    with pytest.raises(UsageError, match="from the fewest to the most"):
        opened(shots=(3, 1))
