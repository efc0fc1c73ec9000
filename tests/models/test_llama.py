"""What LLaMA promises in Python, besides the reference's numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitrail
from tests.text.test_pieces import of_bytes
from vitrail.errors import UsageError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.language_model import Turn
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.nn.rotary import Stretch
from vitrail.text.decoding import left_pad

SMALL = LlamaConfig(257, 24, width=24, depth=2, heads=6, kv_heads=2, mlp_width=40, end=(0, 7))


def small(**changes):
    model = Llama(replace(SMALL, **changes)).eval()
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


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_learns(tied):
    model = Llama(replace(SMALL, tied=tied))
    model(None, torch.arange(24).repeat(2, 1)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert (model.head.weight is model.tokens.weight) == tied


@pytest.mark.parametrize("changes", [{"tied": True}, {"tied": False}, {"stretch": Stretch(4.0, 1.0, 2.0, 12)}])
def test_it_comes_back_from_its_file(tmp_path: Path, changes):
    model, path = small(**changes), tmp_path / "small.safetensors"
    vitrail.save(model, path)
    again = vitrail.load(str(path))
    assert again.config == model.config
    assert (again.head.weight is again.tokens.weight) == model.config.tied
    ids = torch.randint(257, (1, 9))
    assert torch.equal(again(None, ids), model(None, ids))


def test_prompts_begin_with_the_token_that_begins_texts():
    model = small()
    prompt = model.prompt([Turn("a cat"), Turn("a dog", by="model"), Turn("a frog")], [])
    assert prompt.ids[0, 0] == SMALL.start
    assert model.tokenizer.backend.decode(prompt.ids[0, 1:].tolist()) == "a cat\na dog\na frog"
    with pytest.raises(UsageError, match="llama reads no pictures"):
        model.prompt([Turn("what is it?", pictures=1)], [])


def test_a_text_that_is_too_long():
    with pytest.raises(ValueError, match="25 tokens is too long: this network reads 24"):
        small()(None, torch.ones(1, 25, dtype=torch.int64))
