"""Tiles, blended, cover a picture whatever its size."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from vitrail.nn.tiling import in_tiles


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 30), (23, 16), (1, 41)])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 2), (8, 7), (8, 0), (2, 0), (5, 1)])
def test_what_needs_no_neighbours_is_the_same(size, tile, overlap):
    images = torch.rand(2, 3, *size)
    torch.testing.assert_close(in_tiles(lambda some: 2 * some, images, tile, overlap), 2 * images)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3)])
def test_what_changes_the_size(before, after):
    images = torch.rand(1, 2, 13 * before, 21 * before)
    small = nn.functional.avg_pool2d(images, before)
    expected = small.repeat_interleave(after, 2).repeat_interleave(after, 3)

    def network(some):
        return nn.functional.interpolate(nn.functional.avg_pool2d(some, before), scale_factor=after)

    torch.testing.assert_close(in_tiles(network, images, 8, 2, before=before, after=after), expected)


def test_no_tile_is_larger_than_it_may_be_and_neighbours_share_what_they_must():
    seen = []

    def network(some):
        seen.append((some.shape[2], some[0, 0, 0, 0].item()))
        return some

    places = torch.arange(50.0).repeat(8, 1)[None, None]
    in_tiles(network, places, 8, 3)
    starts = [start for _, start in seen]
    assert {side for side, _ in seen} == {8}
    assert starts[0] == 0
    assert starts[-1] == 42
    assert all(after - before <= 5 for before, after in pairwise(starts))


def test_a_step_between_two_tiles_becomes_a_slope():
    count = iter(range(9))

    def network(some):
        return torch.full_like(some, next(count))

    line = in_tiles(network, torch.zeros(1, 1, 8, 12), 8, 4)[0, 0, 0]  # 0 on the left, 1 on the right
    assert line[:4].tolist() == [0] * 4
    assert line[8:].tolist() == [1] * 4
    torch.testing.assert_close(line[4:8], torch.tensor([0.2, 0.4, 0.6, 0.8]))


def test_gradients_and_low_precision_pass():
    images = torch.rand(1, 1, 12, 12, requires_grad=True)
    in_tiles(lambda some: some**2, images, 8, 2).sum().backward()
    torch.testing.assert_close(images.grad, 2 * images.detach())
    assert in_tiles(lambda some: some, images.detach().bfloat16(), 8, 2).dtype == torch.bfloat16
