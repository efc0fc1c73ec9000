"""What BERT promises in Python, besides the references' numbers."""

import pytest
import torch

from vitrail.models.bert import BERT, BERTConfig

SMALL = BERTConfig(vocabulary=50, context=12, width=24, depth=2, heads=3, mlp_width=48)


@torch.inference_mode()
def test_shapes():
    model, ids = BERT(SMALL).eval(), torch.randint(1, 50, (3, 7))
    tokens = model(ids)
    assert tokens.shape == (3, 7, 24)
    assert torch.equal(model.pool(tokens), tokens[:, 0])


@torch.inference_mode()
def test_what_fills_up_changes_nothing():
    model, ids = BERT(SMALL).eval(), torch.randint(1, 50, (3, 7))
    filled = torch.nn.functional.pad(ids, (0, 5), value=SMALL.pad)
    torch.testing.assert_close(model(filled)[:, :7], model(ids))
    assert not torch.allclose(model(filled, mask=torch.ones(1, 1, 1, 12, dtype=torch.bool))[:, :7], model(ids))


@torch.inference_mode()
def test_a_mask_of_one_s_own():
    model, ids = BERT(SMALL).eval(), torch.randint(1, 50, (2, 6))
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    mask[0, :, :3, 3:] = False  # the first half of the first text does not see the second
    changed = ids.clone()
    changed[0, 3:] = 1 + ids[0, 3:] % 49
    before, after = model(ids, mask), model(changed, mask)
    torch.testing.assert_close(before[0, :3], after[0, :3])
    assert not torch.allclose(before[0, 3:], after[0, 3:])


@torch.inference_mode()
def test_segments():
    model, ids = BERT(SMALL).eval(), torch.randint(1, 50, (2, 6))
    assert torch.equal(model(ids), model(ids, types=torch.zeros_like(ids)))
    assert not torch.allclose(model(ids), model(ids, types=torch.ones_like(ids)))


def test_every_parameter_learns():
    model = BERT(BERTConfig(vocabulary=9, context=9, width=24, depth=2, heads=3, mlp_width=48, types=1, pooler=True))
    model.pool(model(torch.arange(1, 9)[None].repeat(2, 1))).square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_a_text_that_is_too_long():
    with pytest.raises(ValueError, match="13 tokens is too long: this network reads 12"):
        BERT(SMALL)(torch.ones(1, 13, dtype=torch.int64))
