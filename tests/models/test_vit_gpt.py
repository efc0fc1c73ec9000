"""The patches in front of the question: seen by every word, whatever way the words are read."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import vitrail
from tests.talkers import tiny_talker
from vitrail.errors import UsageError
from vitrail.imaging.open import open_picture
from vitrail.models.language_model import Turn
from vitrail.models.vit_gpt import ViTGPT
from vitrail.text.decoding import left_pad

MODEL = tiny_talker()
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(3, 60, (3, 11), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def whole(model: ViTGPT = MODEL, images: Tensor = IMAGES, ids: Tensor = IDS) -> Tensor:
    return model(images, ids)


@torch.no_grad()
def test_a_word_sees_the_patches_and_what_came_before_it():
    logits = whole()
    assert logits.shape == (3, 11, MODEL.config.text.vocabulary)
    assert not torch.allclose(whole(images=IMAGES.flip(0))[0], logits[0])
    later = IDS.clone()
    later[:, 6:] = 5
    torch.testing.assert_close(whole(ids=later)[:, :6], logits[:, :6])
    assert not torch.allclose(whole(ids=later)[:, 6:], logits[:, 6:])


@torch.no_grad()
def test_patches_see_each_other_and_no_word():
    """Were the picture read with the words at once, a mask would keep the patches from them."""
    cache = MODEL.start(IMAGES)
    patches = MODEL.project(MODEL.features(IMAGES)[:, 1:])
    tokens = torch.cat([patches, MODEL.text.tokens(IDS) + MODEL.text.positions(torch.arange(11))], 1)
    seen = torch.ones(15, 15, dtype=torch.bool).tril()
    seen[:4, :4] = True
    for block in MODEL.text.blocks:
        tokens = block(tokens, seen)
    torch.testing.assert_close(MODEL.text.norm(tokens[:, 4:]), MODEL.read(IDS, cache), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_step_by_step_is_as_at_once_and_filling_up_changes_nothing():
    cache = MODEL.start(IMAGES)
    steps = [MODEL.head(MODEL.read(part, cache)) for part in IDS.split([5, 1, 1, 4], 1)]
    torch.testing.assert_close(torch.cat(steps, 1), whole(), rtol=1e-4, atol=1e-5)
    ids, mask = left_pad([row[:count].tolist() for row, count in zip(IDS, (4, 11, 7), strict=True)], 0)
    padded = MODEL(IMAGES, ids, mask)
    for row, count in enumerate((4, 11, 7)):
        torch.testing.assert_close(padded[row, -count:], whole()[row, :count], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_conversations_read_together_do_not_see_each_other():
    parts = torch.tensor([[0] * 4 + [1] * 5 + [2] * 2, [7] * 11, [0] * 6 + [-1] * 5])
    together = MODEL.head(MODEL.read_apart(IDS, parts, MODEL.start(IMAGES)))
    for row, (start, stop) in ((0, (0, 4)), (0, (4, 9)), (0, (9, 11)), (1, (0, 11)), (2, (0, 6))):
        alone = MODEL(IMAGES[row : row + 1], IDS[row : row + 1, start:stop])
        torch.testing.assert_close(together[row : row + 1, start:stop], alone, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_picture_through_what_is_remembered():
    images = IMAGES.clone().requires_grad_()
    MODEL(images, IDS)[:, -1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().min() > 0
    MODEL.zero_grad()


def test_a_conversation_is_its_turns_and_the_answers_are_to_be_learned():
    turns = (Turn("Is there a frog?", 1), Turn("yes", by="model"), Turn("", 1), Turn("a frog", by="model"))
    ids, said = MODEL.transcript(turns)
    tokenizer = MODEL.tokenizer
    assert tokenizer is not None
    assert [id for id in ids if id == MODEL.config.turn] == [MODEL.config.turn] * 4
    learned = [id for id, told in zip(ids, said, strict=True) if told]
    end = MODEL.config.text.end
    assert learned == [*tokenizer.plain("yes"), end, *tokenizer.plain("a frog"), end]
    assert "describe the picture" in tokenizer.decode(ids)
    assert "描述图片" in tokenizer.decode(MODEL.transcript([Turn("", 1)], "zh")[0])


def test_prompts_and_what_is_no_prompt():
    picture = open_picture(Image.new("RGB", (20, 30), "red"))
    prompt = MODEL.prompt([Turn("Is there a frog?", 1)], [picture])
    assert prompt.pixels is not None
    assert prompt.pixels.shape == (1, 3, 16, 16)
    assert prompt.ids[0, 0] == prompt.ids[0, -1] == MODEL.config.turn
    written = MODEL.generate(prompt.pixels, prompt.ids, max_new_tokens=4)
    assert 0 < written.shape[1] - prompt.ids.shape[1] <= 4
    for turns, pictures, language, said in (
        ([Turn("what?")], [], "en", "one picture"),
        ([Turn("what?", 2)], [picture, picture], "en", "one picture, and not 2"),
        ([Turn("quoi ?", 1)], [picture], "fr", "speaks en and zh"),
        ([Turn("what is this? " * 40, 1)], [picture], "en", "no room for an answer"),
    ):
        with pytest.raises(UsageError, match=said):
            MODEL.prompt(turns, pictures, language)
    with pytest.raises(UsageError, match="show it one"):
        MODEL.generate(None, prompt.ids)


@torch.no_grad()
def test_a_file_holds_tied_weights_once_and_gives_the_same_network_back(tmp_path: Path):
    path = vitrail.save(MODEL, tmp_path / "talker.safetensors")
    again = vitrail.load(str(path), engine="eager")
    assert isinstance(again, ViTGPT)
    assert again.head.weight is again.text.tokens.weight
    torch.testing.assert_close(again(IMAGES, IDS), whole())
    assert again.tokenizer is not None
    assert again.tokenizer.plain("a frog") == MODEL.tokenizer.plain("a frog")
