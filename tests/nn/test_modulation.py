"""Adaptive norms."""

import torch
from torch import nn

from vitrail.nn.mlp import MLP
from vitrail.nn.modulation import ModulatedBlock, ModulatedOutput, unpatchify


def lively(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def test_a_block_starts_as_the_identity_and_the_output_as_zero():
    tokens, condition = torch.randn(2, 5, 12), torch.randn(2, 7)
    assert torch.equal(ModulatedBlock(12, 3, MLP(12, 24), condition_width=7)(tokens, condition), tokens)
    assert not ModulatedOutput(12, 6, condition_width=7)(tokens, condition).any()


def test_the_block_by_its_formula():
    block = lively(ModulatedBlock(12, 3, MLP(12, 24)))
    tokens, condition = torch.randn(2, 5, 12), torch.randn(2, 12)
    b1, s1, g1, b2, s2, g2 = block.modulation.projection(nn.functional.silu(condition)).view(2, 6, 1, 12).unbind(1)
    middle = tokens + g1 * block.attention(nn.functional.layer_norm(tokens, (12,), eps=1e-6) * (1 + s1) + b1)
    expected = middle + g2 * block.mlp(nn.functional.layer_norm(middle, (12,), eps=1e-6) * (1 + s2) + b2)
    torch.testing.assert_close(block(tokens, condition), expected)


def test_every_row_has_its_own_condition():
    block = lively(ModulatedBlock(12, 3, MLP(12, 24)))
    tokens, condition = torch.randn(2, 5, 12), torch.randn(2, 12)
    changed = condition.clone()
    changed[1] += 1
    before, after = block(tokens, condition), block(tokens, changed)
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-2)


def test_a_mask_hides_tokens():
    block = lively(ModulatedBlock(12, 3, MLP(12, 24)))
    tokens, condition = torch.randn(2, 5, 12), torch.randn(2, 12)
    mask = torch.tensor([True] * 4 + [False]).expand(2, 1, 1, 5)
    changed = tokens.clone()
    changed[:, 4] = 9
    torch.testing.assert_close(block(tokens, condition, mask)[:, :4], block(changed, condition, mask)[:, :4])


def test_patches_go_back_to_their_places():
    picture = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    cut = picture.unfold(2, 2, 2).unfold(3, 2, 2)  # (B, C, rows, columns, 2, 2)
    patches = cut.permute(0, 2, 3, 4, 5, 1).reshape(2, 6, 12)
    assert torch.equal(unpatchify(patches, (2, 3), 2), picture)
