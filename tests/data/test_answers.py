"""Questions stand beside their own pictures and answers, and what the test asks is what it says."""

from typing import Any

import pytest
import torch

from vitrail.data.answers import NOT_ASKED, UNKNOWN, Answers, AnswersSection
from vitrail.data.scenes.questions import KINDS
from vitrail.data.source import Data
from vitrail.errors import UsageError

SIZE = (24, 24)
INDICES = torch.tensor([5, 0, 17, 3])


def opened(**keys: Any) -> Data:
    return AnswersSection(**{"source": "answers", "generated": 12, "length": 300, "test_length": 30, **keys}).open(SIZE)


DATA = opened()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(data: Data, part: str) -> Any:
    source = getattr(data, part)
    assert isinstance(source, Answers)
    return source.scenes


def test_a_test_asks_everything_in_every_language():
    batch = DATA.test.batch(INDICES, None)
    assert batch["images"].shape == (4, 3, 24, 24)
    assert batch["targets"].shape == (4, 2 * len(KINDS))
    assert DATA.quiz.columns == tuple((kind, language) for kind in KINDS for language in ("en", "zh"))
    asked = 0
    for row, index in enumerate(INDICES.tolist()):
        scene = scenes(DATA, "test")[index]
        assert torch.equal(batch["images"][row], torch.from_numpy(scene.picture).permute(2, 0, 1))
        for question in scene.questions:
            for language, wording in (("en", question.en), ("zh", question.zh)):
                column = DATA.quiz.columns.index((question.kind, language))
                assert batch["texts"][row * 20 + column] == wording.question
                assert DATA.labels[batch["targets"][row, column]] == wording.answer
                asked += 1
    assert (batch["targets"] != NOT_ASKED).sum() == asked == sum(text != "" for text in batch["texts"])


def test_training_asks_each_question_in_one_language():
    batch = DATA.train.batch(INDICES, generator())
    pairs = (batch["targets"] != NOT_ASKED).view(4, len(KINDS), 2)
    assert (pairs.sum(2) <= 1).all()
    assert pairs.any(2).sum() == sum(len(scenes(DATA, "train")[index].questions) for index in INDICES.tolist())
    assert pairs[..., 0].any()
    assert pairs[..., 1].any()
    again, other = DATA.train.batch(INDICES, generator()), DATA.train.batch(INDICES, generator(1))
    assert batch["texts"] == again["texts"] != other["texts"]
    assert torch.equal(batch["targets"], again["targets"])
    assert torch.equal(batch["images"], other["images"])


def test_one_language():
    data = opened(languages=("zh",))
    batch = data.train.batch(INDICES, generator())
    assert {language for _, language in data.quiz.columns} == {"zh"}
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in batch["texts"] if text)
    assert "yes" not in data.labels


def test_the_commonest_answer_is_the_commonest():
    everything = torch.arange(300)
    counted = opened(languages=("en",)).train.batch(everything, generator())["targets"]
    data = opened(languages=("en",))
    for column, (kind, _) in enumerate(data.quiz.columns):
        given = counted[:, column]
        counts = given[given >= 0].bincount()
        assert counts[data.quiz.majority[column]] == counts.max(), kind


def test_an_answer_that_training_never_gives_has_no_number():
    data = opened(length=1)
    targets = data.test.batch(torch.arange(30), None)["targets"]
    assert (targets == UNKNOWN).any()
    answers = {wording.answer for one in scenes(data, "train")[0].questions for wording in (one.en, one.zh)}
    assert set(data.labels) == answers


def test_nothing_is_to_be_seen_in_a_blind_test():
    blind = opened(blind=True)
    for part in ("train", "test"):
        hidden = getattr(blind, part).batch(INDICES, generator())
        assert (hidden["images"] == 128).all()
        assert hidden["texts"] == getattr(DATA, part).batch(INDICES, generator())["texts"]
    assert blind.split == "unseen combination, pictures hidden"


def test_only_the_kinds_that_take_part():
    data = opened(subgroups=("animal-marine", "food-fruit"), generated=48)
    names = {thing.concept.subgroup for index in range(20) for thing in scenes(data, "train")[index].objects}
    assert names == {"animal-marine", "food-fruit"}
    assert len(opened(groups=("food-drink",), generated=48).labels) < len(opened(generated=48).labels)


@pytest.mark.parametrize(
    ("keys", "size", "said"),
    [
        ({"subgroups": ("fruit",)}, SIZE, r"data\.subgroups names 'fruit', and the glyphs' subgroups are animal-bug"),
        ({"groups": ("fruit",)}, SIZE, r"data\.groups names 'fruit'"),
        ({"styles": ("noto",)}, SIZE, r"data\.styles names 'noto'"),
        ({"groups": ("food-drink",), "subgroups": ("sound",)}, SIZE, "no glyphs"),
        ({}, (24, 32), "scenes are square"),
    ],
)
def test_what_it_refuses(keys, size, said):
    with pytest.raises(UsageError, match=said):
        AnswersSection(**{"source": "answers", "generated": 12, **keys}).open(size)
