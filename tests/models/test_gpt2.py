"""What GPT-2 promises in Python, besides the reference's numbers."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import vitrail
from tests.text.test_pieces import of_bytes
from vitrail.errors import UsageError
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.language_model import Turn
from vitrail.tasks.inventory import info
from vitrail.text.decoding import left_pad

SMALL = GPT2Config(vocabulary=257, context=24, width=24, depth=2, heads=3, mlp_width=48, end=0)


def small():
    model = GPT2(SMALL).eval()
    model.preprocess, model.tokenizer = Preprocess(resize=None), of_bytes()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def test_what_is_filled_up_changes_nothing():
    model = small()
    texts = [[3, 17, 200, 5], [8], [30, 31]]
    ids, mask = left_pad(texts, 9)
    logits = model(None, ids, mask)
    assert logits.shape == (3, 4, 257)
    for row, text in zip(logits, texts, strict=True):
        torch.testing.assert_close(row[4 - len(text) :], model(None, torch.tensor([text]))[0])


@torch.no_grad()
def test_a_token_sees_nothing_behind_it():
    model, ids = small(), torch.randint(257, (1, 8))
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 257
    before, after = model(None, ids), model(None, changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_every_parameter_learns_and_the_head_is_the_embedding():
    model = GPT2(SMALL)
    model(None, torch.arange(24).repeat(2, 1)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert model.head.weight is model.tokens.weight


def test_a_file_holds_the_embedding_once(tmp_path: Path):
    model, path = small(), tmp_path / "small.safetensors"
    vitrail.save(model, path)
    again = vitrail.load(str(path))
    assert again.config == SMALL
    assert again.head.weight is again.tokens.weight
    assert "head.weight" not in again.weights()
    ids = torch.randint(257, (1, 5))
    assert torch.equal(again.generate(None, ids), model.generate(None, ids))


def test_prompts_are_texts_as_they_stand():
    model = small()
    prompt = model.prompt([Turn("a cat"), Turn("a dog", by="model"), Turn("a frog")], [])
    assert prompt.pixels is None
    assert model.tokenizer.backend.decode(prompt.ids[0].tolist()) == "a cat\na dog\na frog"
    assert model.prompt([Turn("")], []).ids.tolist() == [[0]]


def test_prompts_that_cannot_be():
    model = small()
    with pytest.raises(UsageError, match="gpt2 reads no pictures"):
        model.prompt([Turn("what is it?", pictures=1)], [open_picture(Image.new("RGB", (8, 8)))])
    model.tokenizer = None
    with pytest.raises(UsageError, match="tokenizer"):
        model.prompt([Turn("a cat")], [])


def test_a_text_that_is_too_long():
    with pytest.raises(ValueError, match="25 tokens is too long: this network reads 24"):
        small()(None, torch.ones(1, 25, dtype=torch.int64))


def test_verbs_that_see_say_that_it_does_not(tmp_path: Path):
    path = tmp_path / "small.safetensors"
    vitrail.save(small(), path)
    with pytest.raises(UsageError, match="writes texts, and gives no labels"):
        vitrail.classify(Image.new("RGB", (8, 8)), model=str(path))
    about = info(str(path))
    assert about.picture_size is None
    products = 2 * SMALL.depth * (4 * SMALL.width**2 + 2 * SMALL.width * SMALL.mlp_width)
    assert about.flops == products + 2 * SMALL.width * SMALL.vocabulary + SMALL.depth * 4 * SMALL.width
    assert "for the first token" in str(about)
