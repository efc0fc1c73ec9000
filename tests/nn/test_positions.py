"""Positions that are not learned."""

import math

import pytest
import torch

from vitrail.nn.positions import sincos_positions


def test_columns_first_then_rows():
    positions = sincos_positions((2, 3), 8)
    assert positions.shape == (1, 6, 8)
    row, column = 1, 2
    expected = [
        wave(place / length) for place in (column, row) for wave in (math.sin, math.cos) for length in (1.0, 100.0)
    ]
    torch.testing.assert_close(positions[0, row * 3 + column], torch.tensor(expected))


def test_another_grid_is_stretched_over_the_trained_one():
    fine = sincos_positions((4, 6), 8, base=(2, 3))
    coarse = sincos_positions((2, 3), 8)
    torch.testing.assert_close(fine.unflatten(1, (4, 6))[:, ::2, ::2], coarse.unflatten(1, (2, 3)))


def test_all_places_differ():
    positions = sincos_positions((16, 16), 32)[0]
    assert (torch.cdist(positions, positions) + torch.eye(256) > 0.1).all()


def test_a_width_that_cannot_be_quartered():
    with pytest.raises(ValueError, match="multiple of 4, not 6"):
        sincos_positions((2, 2), 6)
