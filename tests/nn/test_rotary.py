"""Rotary positions turn channels as the paper says, and shared keys serve their groups."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitrail.nn.rotary import Rotary, RotaryAttention, Stretch, turn


def test_the_definition():
    """Eq. 15, as complex numbers: channel pair (i, i + d/2) is multiplied by exp(i · position · base^(-2i/d))."""
    vectors, positions = torch.randn(2, 3, 5, 8), torch.tensor([0, 1, 4, 9, 200])
    speeds = torch.tensor([100.0 ** (-2 * pair / 8) for pair in range(4)])
    turned = torch.complex(vectors[..., :4], vectors[..., 4:]) * torch.exp(1j * positions[:, None] * speeds)
    expected = torch.cat([turned.real, turned.imag], -1)
    torch.testing.assert_close(turn(vectors, Rotary(8, 100.0)(positions)), expected)


def test_only_distances_matter():
    rotary, query, key = Rotary(16), torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(here, there):
        places = (rotary(torch.tensor([place])) for place in (here, there))
        turned = [turn(vector, angles) for vector, angles in zip((query, key), places, strict=True)]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(product(7, 3), product(104, 100), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(product(7, 3), product(8, 3))


def test_each_row_may_have_positions_of_its_own():
    rotary, vectors = Rotary(8), torch.randn(2, 3, 4, 8)
    positions = torch.tensor([[0, 0, 1, 2], [5, 6, 7, 8]])
    turned = turn(vectors, rotary(positions))
    for row in range(2):
        torch.testing.assert_close(turned[row], turn(vectors[row : row + 1], rotary(positions[row]))[0])


@torch.no_grad()
def test_keys_and_values_are_shared_by_neighbouring_heads():
    attention, x, angles = RotaryAttention(24, 6, 2), torch.randn(2, 5, 24), Rotary(4)(torch.arange(5))
    queries = turn(attention.queries(x).unflatten(-1, (6, 4)).transpose(1, 2), angles)
    keys, values = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in attention.keys_values(x).chunk(2, -1))
    keys = turn(keys, angles)
    mixed = [
        (queries[:, head] @ keys[:, head // 3].transpose(1, 2) / 2).softmax(-1) @ values[:, head // 3]
        for head in range(6)
    ]
    torch.testing.assert_close(attention(x, angles, None), attention.out(torch.cat(mixed, -1)))


def test_stretching_leaves_fast_channels_and_slows_slow_ones():
    stretch = Stretch(factor=8.0, low=1.0, high=4.0, context=100)
    turns = torch.tensor([10.0, 4.0, 2.5, 1.0, 0.5])
    speeds = turns * 2 * math.pi / 100
    torch.testing.assert_close(stretch(speeds) / speeds, torch.tensor([1.0, 1.0, (1 + 1 / 8) / 2, 1 / 8, 1 / 8]))
    slow = Rotary(4, 1e6, stretch)(torch.tensor([40]))
    assert F.cosine_similarity(slow[1], Rotary(4, 1e6)(torch.tensor([40]))[1]).item() < 1


@pytest.mark.parametrize(("width", "heads", "kv_heads"), [(10, 3, 3), (12, 4, 3), (12, 0, 1), (12, 2, 0)])
def test_numbers_that_do_not_divide(width, heads, kv_heads):
    with pytest.raises(ValueError, match="cannot be shared"):
        RotaryAttention(width, heads, kv_heads)
