"""Pictures come with texts that are true of them, and what is held out is in no picture and no text of training."""

from typing import Any

import pytest
import torch

from vitrail.data.emoji_sources import GlyphsSection
from vitrail.data.generated import generate_glyphs
from vitrail.data.pairs import Pairs, PairsSection
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.scene import GROUPS
from vitrail.data.source import Data
from vitrail.data.splits import unseen_concept
from vitrail.data.texts import group_name, group_names, names, sayings

SIZE = (24, 24)
TABLE = generate_glyphs(48, size=24)
UNSEEN = [concept for code, concept in TABLE.concepts.items() if unseen_concept(code) == "test"]


def opened(**keys: Any) -> Data:
    return PairsSection(source="pairs", generated=48, **keys).open(SIZE)


def looks(data: Data, epochs: int = 8) -> Any:
    """Batches of all of the training data, seen several times."""
    for epoch in range(epochs):
        yield data.train.batch(torch.arange(len(data.train)), torch.Generator().manual_seed(epoch))


def test_what_is_held_out_is_tested_on_and_never_shown_or_said():
    data = opened(hold_out_style="shaded", hold_out_concepts=True, scenes=0.2)
    assert data.split == "unseen style shaded and unseen concept"
    assert data.texts is not None
    assert UNSEEN
    assert list(data.texts.parts) == ["style", "concept"]
    assert [data.labels[number] for number in data.texts.parts["concept"]] == [one.name_en for one in UNSEEN]
    assert set(data.texts.parts["style"]).isdisjoint(data.texts.parts["concept"])
    assert len(data.test) == (48 - len(UNSEEN)) + 3 * len(UNSEEN)
    glyphs = GlyphsSection(source="glyphs", generated=48).open(SIZE).train  # every glyph on white
    pictures = glyphs.batch(torch.arange(len(glyphs)), None)["images"]
    test = data.test.batch(torch.arange(len(data.test)), None)
    for image, number in zip(test["images"], test["targets"].tolist(), strict=True):
        (at,) = (pictures == image).flatten(1).all(1).nonzero().flatten().tolist()
        assert TABLE.concepts[TABLE.concept[at]].name_en == data.labels[number]
        assert (TABLE.style[at] == "shaded") == (number in data.texts.parts["style"])
    assert isinstance(data.train, Pairs)
    assert "shaded" not in data.train.table.styles
    said = [text for batch in looks(data) for text in batch["texts"]] + list(data.texts.corpus())
    for concept in UNSEEN:
        assert not any(concept.name_zh in text or concept.name_en in text for text in said)
    assert not any("shaded" in text or "明暗" in text for text in said)


def test_every_text_is_true_of_its_picture():
    data = opened()
    assert data.split == "the glyphs of its training"
    concepts = list(TABLE.concepts.values())
    for batch in looks(data, 3):
        assert batch["images"].dtype == torch.uint8
        for number, text in zip(batch["targets"].tolist(), batch["texts"], strict=True):
            concept = concepts[number]
            words = (concept.name_en, concept.name_zh, *concept.keywords_en, *concept.keywords_zh)
            groups = (group_name(concept.group, language) for language in ("en", "zh"))
            assert any(word in text for word in (*words, *groups)), text


def test_half_of_the_texts_are_chinese_and_scenes_have_their_share():
    data = opened(scenes=0.25)
    batches = list(looks(data))
    texts = [text for batch in batches for text in batch["texts"]]
    chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in texts)
    assert 0.4 < chinese / len(texts) < 0.6
    numbers = torch.cat([batch["targets"] for batch in batches])
    scenes = numbers[numbers >= 48]
    assert len(scenes) / len(numbers) == pytest.approx(0.25, abs=0.01)
    assert len(scenes.unique()) > 0.95 * len(scenes)  # each is a new one, with a number of its own


def test_a_batch_follows_from_indices_and_generator():
    data = opened(scenes=0.25)
    indices = torch.randperm(len(data.train))[:40]
    once, again, other = (data.train.batch(indices, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(once["images"], again["images"])
    assert torch.equal(once["targets"], again["targets"])
    assert once["texts"] == again["texts"] != other["texts"]
    plain = data.train.batch(torch.arange(len(data.train)), None)
    assert torch.equal(plain["images"], data.train.batch(torch.arange(len(data.train)), None)["images"])
    only_scenes = data.train.batch(torch.arange(192, 200), torch.Generator().manual_seed(0))
    assert len(only_scenes["texts"]) == 8


def test_one_language_and_plain_names():
    data = opened(languages=("zh",), wordings="name")
    names_zh = {concept.name_zh for concept in TABLE.concepts.values()}
    assert {text for batch in looks(data, 1) for text in batch["texts"]} == names_zh
    assert data.texts is not None
    assert list(data.texts.names) == ["zh"]


def test_sayings_of_a_frog_and_of_what_cannot_be_counted():
    from dataclasses import replace

    thing = next(iter(TABLE.concepts.values()))
    frog = replace(
        thing, name_en="frog", name_zh="青蛙", group="animals-nature", subgroup="animal-amphibian",
        keywords_en=("animal", "face", "frog", "green"), keywords_zh=("动物", "脸", "青蛙", "头"),
    )  # fmt: skip
    assert names(frog, "en") == ("a frog", "frog", "a picture of a frog")
    assert names(frog, "zh") == ("青蛙", "一只青蛙", "青蛙的图片")
    dice = Dice(0, 0, 0)
    english, chinese = sayings(frog, "fluent-flat", "en", dice), sayings(frog, "fluent-flat", "zh", dice)
    assert {"a frog, flat style", "frog, animals and nature", "an emoji of a frog"} <= set(english)
    assert {"扁平风格的青蛙", "青蛙，动物与自然", "画着一只青蛙的图"} <= set(chinese)
    assert all(set(text.split(", ")) <= set(frog.keywords_en) for text in english[-2:])
    assert all(3 <= len(text.split("、")) <= 4 for text in chinese[-2:])
    face = replace(frog, name_en="grinning face", name_zh="嘿嘿", group="smileys-emotion", subgroup="face-smiling")
    assert names(face, "en") == ("grinning face", "a picture of grinning face")
    assert names(face, "zh") == ("嘿嘿", "嘿嘿的图片")


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_has_names(group):
    assert all(len(group_names(group, language)) == 2 for language in ("en", "zh"))
