"""A network that remembers says what it would say if it read everything again."""

import pytest
import torch

from vitrail.nn.attention import Attention
from vitrail.nn.cache import Cache, KeyValues
from vitrail.nn.rotary import Rotary, RotaryAttention


def numbers(rows, count, *, heads=2, width=3):
    return torch.randn(2, rows, heads, count, width)


@pytest.mark.parametrize("gradients", [True, False])
def test_it_gives_all_that_was_added(gradients):
    past, added = KeyValues(), []
    with torch.set_grad_enabled(gradients):
        for count in (5, 1, 1, 200, 1, 3):
            keys, values = numbers(2, count)
            added.append(torch.stack([keys, values]))
            found = torch.stack(past.extend(keys, values))
            assert torch.equal(found, torch.cat(added, 3))
            assert past.length == found.shape[3]


@torch.no_grad()
def test_a_step_writes_only_its_own():
    past = KeyValues()
    before = past.extend(*numbers(1, 5))[0]
    places = {past.extend(*numbers(1, 1))[0].data_ptr() for _ in range(50)}
    assert places == {before.data_ptr()}


def test_gradients_reach_what_was_read_earlier():
    attention = Attention(8, 2)
    past, first = KeyValues(), torch.randn(1, 3, 8, requires_grad=True)
    attention(first, past=past)
    attention(torch.randn(1, 2, 8), past=past).sum().backward()
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_with_keys_adds_nothing():
    past = KeyValues()
    first, more = numbers(1, 2)[0], numbers(1, 3)[0]
    assert torch.equal(past.with_keys(more), more)
    past.extend(first, first)
    assert torch.equal(past.with_keys(more), torch.cat([first, more], 2))
    assert past.length == 2


@pytest.mark.parametrize("gradients", [True, False])
def test_rows_are_selected_everywhere(gradients):
    cache = Cache(2)
    mask = torch.tensor([[False, True], [True, True], [False, True]])
    cache.admit(torch.zeros(3, 2, dtype=torch.int64), mask)
    cache.memory["pictures"] = torch.randn(3, 4)
    keys, pictures = numbers(3, 2)[0], cache.memory["pictures"]
    rows = torch.tensor([2, 0, 0, 1])
    with torch.set_grad_enabled(gradients):
        for layer in cache.layers:
            layer.extend(keys, keys)
        cache.select(rows)
        new = numbers(4, 1)[0]
        for layer in cache.layers:
            found, _ = layer.extend(new, new)
            assert torch.equal(found, torch.cat([keys[rows], new], 2))
    assert torch.equal(cache.memory["pictures"], pictures[rows])
    assert torch.equal(cache.real, mask[rows])


@torch.no_grad()
def test_what_is_held_goes_to_another_cache():
    cache = Cache(3)
    cache.admit_prefix(2)
    read = [numbers(2, 5) for _ in cache.layers]
    for layer, both in zip(cache.layers, read, strict=True):
        layer.extend(*both[..., :2, :])
    cache.admit(torch.zeros(2, 3, dtype=torch.int64))
    for layer, both in zip(cache.layers, read, strict=True):
        layer.extend(*both[..., 2:, :])
    keys, values = cache.stacked()
    assert torch.equal(keys, torch.stack([both[0] for both in read], 1))
    other = Cache.of(keys, values, 2)
    assert (other.length, other.prefix) == (5, 2)
    assert other.admit(torch.zeros(2, 1, dtype=torch.int64))[0].tolist() == [3]
    new, kept = numbers(2, 1), keys.clone()
    for layer, both in zip(other.layers, read, strict=True):
        assert torch.equal(torch.stack(layer.extend(*new)), torch.cat([both, new], 3))
    assert torch.equal(keys, kept)


def test_what_new_tokens_see():
    cache = Cache(1)
    positions, visible = cache.admit(torch.zeros(2, 3, dtype=torch.int64))
    assert positions.tolist() == [0, 1, 2]
    assert visible.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    positions, visible = cache.admit(torch.zeros(2, 1, dtype=torch.int64))
    assert (positions.tolist(), visible) == ([3], None)
    positions, visible = cache.admit(torch.zeros(2, 2, dtype=torch.int64))
    assert positions.tolist() == [4, 5]
    assert visible.tolist() == [[True] * 5 + [False], [True] * 6]


def test_filling_is_seen_by_itself_alone_and_counts_for_no_position():
    cache = Cache(1)
    mask = torch.tensor([[False, True, True], [True, True, True]])
    positions, visible = cache.admit(torch.zeros(2, 3, dtype=torch.int64), mask)
    assert positions.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert visible[0, 0].tolist() == [[True, False, False], [False, True, False], [False, True, True]]
    assert visible[1, 0].tolist() == torch.ones(3, 3).tril().bool().tolist()
    positions, visible = cache.admit(torch.zeros(2, 1, dtype=torch.int64))
    assert positions.tolist() == [[2], [3]]
    assert visible[:, 0, 0].tolist() == [[False, True, True, True], [True] * 4]


def test_pictures_in_front_are_seen_by_all_and_count_for_no_position():
    cache = Cache(1)
    cache.admit_prefix(2)
    mask = torch.tensor([[False, True], [True, True]])
    positions, visible = cache.admit(torch.zeros(2, 2, dtype=torch.int64), mask)
    assert positions.tolist() == [[0, 0], [0, 1]]
    assert visible[0, 0].tolist() == [[True, True, True, False], [True, True, False, True]]
    assert visible[1, 0].tolist() == [[True, True, True, False], [True, True, True, True]]


@pytest.mark.parametrize("parts", [(9,), (1,) * 9, (4, 1, 1, 3)])
@pytest.mark.parametrize("kind", ["absolute", "rotary"])
@torch.no_grad()
def test_reading_in_parts_is_reading_at_once(kind, parts):
    tokens, cache, found = torch.randn(2, 9, 12), Cache(1), []
    rotary = RotaryAttention(12, 2, 1)
    attention, angles = Attention(12, 2), Rotary(6)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    expected = rotary(tokens, angles(torch.arange(9)), causal) if kind == "rotary" else attention(tokens, causal)
    for part in tokens.split(parts, 1):
        positions, visible = cache.admit(torch.zeros(part.shape[:2], dtype=torch.int64))
        past = cache.layers[0]
        found.append(
            rotary(part, angles(positions), visible, past) if kind == "rotary" else attention(part, visible, past=past)
        )
    torch.testing.assert_close(torch.cat(found, 1), expected)
