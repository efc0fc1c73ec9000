"""The tiles between pictures and words: cross-attention, its gates, the Perceiver resampler."""

import pytest
import torch
from torch import nn

from vitrail.nn.gated import CrossAttention, GatedCrossAttention
from vitrail.nn.resampler import Resampler


def shaken(module: nn.Module) -> nn.Module:
    """The module with random numbers everywhere."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module.eval()


@torch.no_grad()
def test_cross_attention_is_torch_s_own():
    theirs = nn.MultiheadAttention(24, 3, bias=False, batch_first=True, kdim=10, vdim=10)
    ours = CrossAttention(24, 10, 3, 8)
    ours.query.weight.copy_(theirs.q_proj_weight)
    ours.key_value.weight.copy_(torch.cat([theirs.k_proj_weight, theirs.v_proj_weight]))
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    tokens, context = torch.randn(2, 5, 24), torch.randn(2, 7, 10)
    visible = torch.rand(5, 7) < 0.6
    visible[:, 0] = True
    for mask in (None, visible):
        expected, _ = theirs(tokens, context, context, attn_mask=None if mask is None else ~mask)
        torch.testing.assert_close(ours(tokens, ours.look_at(context), mask), expected)


@torch.no_grad()
def test_heads_need_not_make_up_the_width():
    ours = shaken(CrossAttention(24, 10, 5, 7))
    assert ours(torch.randn(2, 5, 24), ours.look_at(torch.randn(2, 7, 10))).shape == (2, 5, 24)


@torch.no_grad()
def test_normed_queries_and_keys_have_no_size():
    ours = shaken(CrossAttention(24, 24, 3, 8, qk_norm=nn.LayerNorm))
    tokens, context = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    keys, values = ours.look_at(context)
    torch.testing.assert_close(ours(9 * tokens, (keys, values)), ours(tokens, (keys, values)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.look_at(9 * context)[0], keys, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gates", ["one", "channels"])
@torch.no_grad()
def test_gates_are_shut_at_first_and_open_one_by_one(gates):
    layer = GatedCrossAttention(24, 10, 3, 40, gates=gates)
    tokens, seen = torch.randn(2, 5, 24), layer.attention.look_at(torch.randn(2, 7, 10))
    assert torch.equal(layer(tokens, seen), tokens)
    layer.gate2.fill_(0.5)
    without = tokens + torch.tensor(0.5).tanh() * layer.mlp(layer.norm2(tokens))
    torch.testing.assert_close(layer(tokens, seen), without)  # only the MLP's
    torch.testing.assert_close(layer(tokens, None), without)
    layer.gate1.fill_(-0.3)
    looked = tokens - torch.tensor(0.3).tanh() * layer.attention(layer.norm1(tokens), seen)
    torch.testing.assert_close(
        layer(tokens, seen), looked + torch.tensor(0.5).tanh() * layer.mlp(layer.norm2(looked)), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(layer(tokens, None), without)


@torch.no_grad()
def test_who_sees_nothing_is_as_if_there_were_nothing():
    layer = shaken(GatedCrossAttention(24, 10, 3, 40, qk_norm=True))
    tokens, seen = torch.randn(2, 5, 24), layer.attention.look_at(torch.randn(2, 7, 10))
    sees = torch.tensor([[False, False, True, True, True], [True, False, True, False, True]])
    mixed = layer(tokens, seen, None, sees)
    torch.testing.assert_close(mixed[sees], layer(tokens, seen)[sees])
    torch.testing.assert_close(mixed[~sees], layer(tokens, None)[~sees])
    assert not torch.allclose(mixed[sees], layer(tokens, None)[sees])


def test_a_width_that_heads_cannot_share():
    with pytest.raises(ValueError, match="width 24 cannot be shared by 5 heads"):
        GatedCrossAttention(24, 10, 5, 40)


@pytest.mark.parametrize("qk_norm", [False, True])
@torch.no_grad()
def test_any_number_of_tokens_becomes_a_few(qk_norm):
    resampler = shaken(Resampler(24, 4, 2, 3, 10, qk_norm=qk_norm))
    for count in (1, 9, 30):
        picture = torch.randn(2, count, 24)
        few = resampler(picture)
        assert few.shape == (2, 4, 24)
        torch.testing.assert_close(resampler(picture.flip(1)), few)  # places are the encoder's to say
        torch.testing.assert_close(resampler(picture[:1]), few[:1])
    assert not torch.allclose(few[0], few[1])


@torch.no_grad()
def test_latents_look_at_the_picture_and_at_each_other():
    block = shaken(Resampler(24, 4, 1, 3, 10)).blocks[0]
    latents, picture = torch.randn(2, 4, 24), torch.randn(2, 9, 24)
    before = block(latents, picture)
    latents[:, 3] = torch.randn(24)
    assert not torch.allclose(block(latents, picture)[:, :3], before[:, :3])
    attention = block.attention
    seen = torch.cat([block.picture_norm(picture), block.norm1(latents)], 1)
    queries = attention.query(block.norm1(latents)).unflatten(-1, (3, 10))
    keys, values = attention.key_value(seen).unflatten(-1, (2, 3, 10)).unbind(2)
    weights = torch.einsum("bihd,bjhd->bhij", queries, keys).div(10**0.5).softmax(-1)
    mixed = latents + attention.out(torch.einsum("bhij,bjhd->bihd", weights, values).flatten(2))
    expected = mixed + block.down(block.up(block.norm2(mixed)).clamp(min=0))
    torch.testing.assert_close(block(latents, picture), expected, atol=1e-5, rtol=1e-4)
