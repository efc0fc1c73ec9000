"""The attention tile and the way to watch it."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.attention import Attention, attend, watch_attention

SMALL = ViTConfig(image_size=32, patch_size=8, width=24, depth=3, heads=3, mlp_width=48, classes=5)


def hooks(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 20), st.booleans())
@torch.no_grad()
def test_the_definition(heads, head_width, batch, tokens, qkv_bias):
    """softmax(Q Kᵀ / √d) V, head by head, written out."""
    width = heads * head_width
    attention = Attention(width, heads, qkv_bias=qkv_bias)
    x = torch.randn(batch, tokens, width)
    queries, keys, values = (attention.qkv(x)[..., part * width : (part + 1) * width] for part in range(3))
    mixed = []
    for head in range(heads):
        columns = slice(head * head_width, (head + 1) * head_width)
        scores = queries[..., columns] @ keys[..., columns].transpose(1, 2) / head_width**0.5
        mixed.append(scores.softmax(-1) @ values[..., columns])
    torch.testing.assert_close(attention(x), attention.out(torch.cat(mixed, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_one_query_is_the_last_of_many(dtype, grouped, masked):
    queries, keys, values = (torch.randn(2, 2 if grouped and part else 4, 9, 8).to(dtype) for part in range(3))
    mask = (torch.rand(2, 1, 9, 9) < 0.5) | torch.eye(9, dtype=torch.bool) if masked else None
    many = attend(queries, keys, values, mask, grouped=grouped)
    last = None if mask is None else mask[:, :, -1:]
    one = attend(queries[:, :, -1:], keys, values, last, grouped=grouped)
    assert one.dtype == many.dtype == dtype
    torch.testing.assert_close(one, many[:, :, -1:], rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("tokens", [17, 197])
@torch.no_grad()
def test_many_bfloat16_queries_are_as_near_as_rounding_allows(tokens):
    """To float32, by the two products and by the fused function: two ways of computing the same."""
    torch.manual_seed(tokens)
    queries, keys, values = torch.randn(3, 2, 4, tokens, 64)
    exact = F.scaled_dot_product_attention(queries, keys, values)
    half = [part.bfloat16() for part in (queries, keys, values)]
    found, fused = attend(*half), F.scaled_dot_product_attention(*half)
    assert found.dtype == torch.bfloat16
    error, of_fused = ((each.float() - exact).norm() / exact.norm() for each in (found, fused))
    assert of_fused < error < 2 * of_fused < 0.02  # two roundings more, and not a wrong scale or a wrong axis


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_what_bfloat16_learns_is_what_float32_learns(causal, masked):
    parts = torch.randn(3, 2, 4, 21, 16)
    mask = (torch.rand(2, 1, 21, 21) < 0.5) | torch.eye(21, dtype=torch.bool) if masked else None
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = parts.to(dtype).requires_grad_()
        mixed = attend(*inputs, mask, causal and mask is None)
        (gradient,) = torch.autograd.grad(mixed, inputs, torch.ones_like(mixed) + parts[0].to(dtype))
        assert mixed.dtype == gradient.dtype == dtype
        found.append((mixed.float(), gradient.float()))
    for exact, near in zip(*found, strict=True):
        assert 0 < (near - exact).norm() / exact.norm() < 0.02


@torch.no_grad()
def test_it_is_torch_s_own_multi_head_attention():
    theirs = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(24, 3)
    ours.qkv.weight, ours.qkv.bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 7, 24)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.weights(x), weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_weights_sum_to_one_and_give_the_fused_output(dtype):
    attention = Attention(24, 3).to(dtype)
    x = torch.randn(2, 11, 24, dtype=dtype)
    weights = attention.weights(x)
    assert weights.shape == (2, 3, 11, 11)
    assert weights.dtype == torch.float32
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 11))
    values = attention.qkv(x)[..., 48:].unflatten(-1, (3, 8)).transpose(1, 2)
    mixed = (weights.to(dtype) @ values).transpose(1, 2).flatten(2)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.02}
    torch.testing.assert_close(attention.out(mixed), attention(x), **tolerance)


@torch.no_grad()
def test_watching_changes_nothing():
    model = ViT(SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    plain = model(images)
    with watch_attention(model) as seen:
        watched = model(images)
        model(images[:1])
    assert torch.equal(plain, watched)
    assert [weights.shape for weights in seen] == [(2, 3, 17, 17)] * 3 + [(1, 3, 17, 17)] * 3
    assert hooks(model) == 0
    model(images)
    assert len(seen) == 6


@torch.no_grad()
def test_what_is_watched_is_what_each_block_does():
    model = ViT(SMALL).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    images = torch.randn(1, 3, 32, 32)
    with watch_attention(model) as seen:
        model(images)
    tokens = torch.cat([model.class_token, model.patchify(images)], 1) + model.positions
    for block, weights in zip(model.blocks, seen, strict=True):
        queries, keys, values = block.attention.qkv(block.norm1(tokens)).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
        torch.testing.assert_close(weights, (queries @ keys.transpose(-1, -2) / 8**0.5).softmax(-1))
        torch.testing.assert_close(weights @ values, F.scaled_dot_product_attention(queries, keys, values))
        tokens = block(tokens)


def test_nothing_is_left_behind_by_an_error():
    model = ViT(SMALL)
    with pytest.raises(ValueError, match="cannot be cut"), watch_attention(model):
        model(torch.zeros(1, 3, 31, 32))
    assert hooks(model) == 0
    with pytest.raises(KeyboardInterrupt), watch_attention(model):
        raise KeyboardInterrupt
    assert hooks(model) == 0


def test_watching_while_learning_keeps_gradients():
    model = ViT(SMALL)
    with watch_attention(model) as seen:
        model(torch.randn(1, 3, 32, 32)).sum().backward()
    assert not any(weights.requires_grad for weights in seen)
    assert model.blocks[0].attention.qkv.weight.grad is not None


def test_watching_within_watching():
    model = ViT(SMALL)
    with watch_attention(model) as outer, watch_attention(model.blocks[1]) as inner:
        model(torch.randn(1, 3, 32, 32))
    assert len(outer) == 3
    assert len(inner) == 1
    assert torch.equal(outer[1], inner[0])


@pytest.mark.parametrize(("width", "heads"), [(24, 0), (24, -1), (24, 5), (3, 6)])
def test_heads_must_share_the_width(width, heads):
    with pytest.raises(ValueError, match=f"width {width} cannot be shared by {heads} heads"):
        Attention(width, heads)


MASK = torch.tensor([[True, True, True, False, True, False, False], [True] * 7])[:, None, None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, MASK, torch.rand(7, 7, generator=torch.Generator().manual_seed(1)) < 0.7])
@torch.no_grad()
def test_what_is_masked_is_not_attended_to(mask, causal):
    """The same as PyTorch's own, which takes the opposite of our mask."""
    theirs = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    ours = Attention(24, 3)
    ours.qkv.weight, ours.qkv.bias = theirs.in_proj_weight, theirs.in_proj_bias
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    allowed = torch.ones(2, 1, 7, 7, dtype=torch.bool)
    if mask is not None:
        allowed = allowed & mask | torch.eye(7, dtype=torch.bool)
        mask = mask | torch.eye(7, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    x = torch.randn(2, 7, 24)
    expected, weights = theirs(x, x, x, attn_mask=~allowed.repeat(1, 3, 1, 1).flatten(0, 1), average_attn_weights=False)
    torch.testing.assert_close(ours(x, mask, causal), expected)
    torch.testing.assert_close(ours.weights(x, mask, causal), weights)
    assert not weights[~allowed.expand_as(weights)].any()


@torch.no_grad()
def test_watching_sees_masks():
    attention = Attention(24, 3)
    x = torch.randn(2, 7, 24)
    with watch_attention(attention) as seen:
        attention(x, MASK)
        attention(x, mask=MASK)
        attention(x, causal=True)
    assert torch.equal(seen[0], attention.weights(x, MASK))
    assert torch.equal(seen[0], seen[1])
    assert not seen[0][0, :, :, 3].any()
    assert torch.equal(seen[2], seen[2].tril())
