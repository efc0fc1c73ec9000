"""Conversations that are true of their pictures, about combinations that training never shows."""

from typing import Any

import torch

from vitrail.data.scenes.questions import KINDS
from vitrail.data.source import Data
from vitrail.data.talk import CAPTION, Conversations, Questions, TalkSection, captions, worded


def opened(**keys: Any) -> Data:
    section = {"generated": 24, "length": 200, "test_length": 12, "count": (1, 3), **keys}
    return TalkSection(source="talk", **section).open((24, 24))


def test_training_says_everything_there_is_to_say_of_a_scene():
    data = opened(chats=0.5)
    assert isinstance(data.train, Conversations)
    generator = torch.Generator().manual_seed(0)
    batch = data.train.batch(torch.arange(40), generator)
    assert batch["images"].shape == (40, 3, 24, 24)
    languages, chats = set(), 0
    for number, talks in enumerate(batch["talks"]):
        scene = data.train.scenes[number]
        assert (batch["images"][number].permute(1, 2, 0).numpy() == scene.picture).all()
        pairs = {worded(one, language) for one in scene.questions for language in ("en", "zh")}
        described = {text for language in ("en", "zh") for text in captions(scene, language)}
        turns = [turn for talk in talks for turn in talk.turns]
        asked = list(zip(turns[::2], turns[1::2], strict=True))
        assert len(asked) == len(scene.questions) + 1
        assert all(pair in pairs or (not pair[0].text and pair[1].text in described) for pair in asked)
        assert {len(talk.turns) for talk in talks} in ({2}, {len(turns)})
        languages |= {talk.language for talk in talks}
        chats += len(talks) == 1 and len(turns) > 2
    assert languages == {"en", "zh"}
    assert 8 < chats < 32
    again = data.train.batch(torch.arange(40), torch.Generator().manual_seed(0))
    assert again["talks"] == batch["talks"]
    assert data.train.batch(torch.arange(40), generator)["talks"] != batch["talks"]


def test_the_test_asks_everything_in_each_language_of_combinations_never_shown():
    data = opened()
    assert data.split == "unseen combination"
    assert data.talks is not None
    assert isinstance(data.test, Questions)
    kinds = {asked.kind for asked in data.talks.tests}
    assert {CAPTION, "is there", "how many"} <= kinds <= {CAPTION, *KINDS}
    assert len(data.test) == len(data.talks.tests)
    batch = data.test.batch(torch.arange(len(data.test)), None)
    for number, (talks, asked) in enumerate(zip(batch["talks"], data.talks.tests, strict=True)):
        assert talks == [asked.talk]
        scene = data.test.scenes[data.test.tests[number][0]]
        assert scene.objects
        if asked.kind == CAPTION:
            assert asked.answers == tuple(captions(scene, asked.talk.language))
        else:
            pairs = [worded(one, asked.talk.language) for one in scene.questions if one.kind == asked.kind]
            assert [(asked.talk.turns[0], asked.answers[0])] == [(one, other.text) for one, other in pairs]
    assert data.test.scenes._director.split == "test"
    assert data.train.scenes._director.split == "train"  # type: ignore[attr-defined]


def test_blind_data_differs_in_nothing_but_the_pictures():
    seeing, blind = opened(), opened(blind=True)
    for data in (seeing.train, seeing.test):
        assert len(data.batch(torch.arange(4), None)["images"].unique()) > 1
    for one, other in ((blind.train, seeing.train), (blind.test, seeing.test)):
        shown, hidden = (data.batch(torch.arange(4), None) for data in (other, one))
        assert hidden["images"].unique().tolist() == [128]
        assert hidden["images"].shape == shown["images"].shape
        assert hidden["talks"] == shown["talks"]


def test_the_majority_answer_is_the_commonest_of_training():
    data = opened(languages=("en",))
    assert data.talks is not None
    scenes = data.train.scenes  # type: ignore[attr-defined]
    answers = [one.en.answer for number in range(200) for one in scenes[number].questions if one.kind == "is there"]
    common = max(set(answers), key=answers.count)
    assert {asked.majority for asked in data.talks.tests if asked.kind == "is there"} == {common}
