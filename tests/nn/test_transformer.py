"""The two kinds of transformer block."""

import pytest
import torch
from torch import nn

from vitrail.nn.mlp import MLP
from vitrail.nn.transformer import Block, PostNormBlock


@pytest.mark.parametrize("first", [True, False])
@torch.no_grad()
def test_they_are_torch_s_own_encoder_layers(first):
    theirs = nn.TransformerEncoderLayer(24, 3, 48, dropout=0, activation="gelu", batch_first=True, norm_first=first)
    ours = (Block if first else PostNormBlock)(24, 3, MLP(24, 48), norm_eps=1e-5)
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    ours.attention.qkv.weight, ours.attention.qkv.bias = theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias
    for mine, its in (
        (ours.attention.out, theirs.self_attn.out_proj),
        (ours.norm1, theirs.norm1),
        (ours.norm2, theirs.norm2),
        (ours.mlp.up, theirs.linear1),
        (ours.mlp.down, theirs.linear2),
    ):
        mine.load_state_dict(its.state_dict())
    x = torch.randn(2, 7, 24)
    filling = torch.tensor([[False] * 5 + [True] * 2, [False] * 7])
    theirs.train()  # or PyTorch takes another way that gives zeros where there is filling
    for padding, causal in ((None, False), (filling, False), (None, True)):
        above = ~torch.ones(7, 7, dtype=torch.bool).tril() if causal else None
        expected = theirs(x, src_mask=above, src_key_padding_mask=padding, is_causal=causal)
        mask = None if padding is None else ~padding[:, None, None]
        torch.testing.assert_close(ours(x, mask, causal), expected)


@pytest.mark.parametrize("kind", [Block, PostNormBlock])
@torch.no_grad()
def test_what_comes_later_changes_nothing_before(kind):
    block = kind(24, 3, MLP(24, 48))
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x, causal=True)[:, :4], block(x[:, :4], causal=True))
    assert not torch.allclose(block(x)[:, :4], block(x[:, :4]))
