"""Cutting pictures into tokens, and positions for grids of any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.nn.patches import PatchEmbedding, pair, prepend, resize_positions

sides = st.integers(1, 6)
quick = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize(("size", "expected"), [(7, (7, 7)), ((7, 5), (7, 5))])
def test_pair(size, expected):
    assert pair(size) == expected


@quick
@given(sides, sides, sides, sides, st.integers(1, 4))
@torch.no_grad()
def test_a_token_is_the_projection_of_its_patch(rows, columns, height, width, channels):
    """x_p E, patch by patch, row by row."""
    patchify = PatchEmbedding((height, width), channels, 5)
    images = torch.randn(2, channels, rows * height, columns * width)
    tokens = patchify(images)
    assert patchify.grid(images) == (rows, columns)
    assert tokens.shape == (2, rows * columns, 5)
    matrix = patchify.projection.weight.flatten(1)
    for row in range(rows):
        for column in range(columns):
            top, left = row * height, column * width
            patch = images[:, :, top : top + height, left : left + width].flatten(1)
            expected = patch @ matrix.T + patchify.projection.bias
            torch.testing.assert_close(tokens[:, row * columns + column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pictures", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_pictures_take_the_weights_type(pictures, weights):
    patchify = PatchEmbedding((4, 4), 3, 5).to(weights)
    assert patchify(torch.rand(1, 3, 8, 8, dtype=pictures)).dtype == weights


@quick
@given(sides, sides, sides, sides, st.booleans())
def test_positions_for_any_grid(rows, columns, to_rows, to_columns, antialias):
    positions = torch.randn(1, rows * columns, 3)
    resized = resize_positions(positions, (rows, columns), (to_rows, to_columns), antialias=antialias)
    assert resized.shape == (1, to_rows * to_columns, 3)
    if (rows, columns) == (to_rows, to_columns):
        assert resized is positions


@pytest.mark.parametrize("antialias", [True, False])
def test_equal_positions_stay_equal(antialias):
    positions = torch.randn(1, 1, 3).expand(1, 20, 3)
    resized = resize_positions(positions, (4, 5), (7, 2), antialias=antialias)
    torch.testing.assert_close(resized, positions[:, :1].expand(1, 14, 3), rtol=1e-4, atol=1e-5)


def test_rows_are_rows_and_columns_columns():
    """Positions that only tell rows apart still do in the larger grid."""
    by_row = torch.tensor([0.0, 1.0, 2.0]).repeat_interleave(4).reshape(1, 12, 1)
    resized = resize_positions(by_row, (3, 4), (6, 8), antialias=False).reshape(6, 8)
    torch.testing.assert_close(resized, resized[:, :1].expand(6, 8))
    assert (resized[1:, 0] > resized[:-1, 0]).all()


def test_antialiasing_matters_only_where_the_grid_shrinks():
    positions = torch.randn(1, 64, 3)

    def resized(to, antialias):
        return resize_positions(positions, (8, 8), (to, to), antialias=antialias)

    assert not torch.allclose(resized(3, True), resized(3, False), atol=1e-2)
    assert resized(3, True).var() < resized(3, False).var()


def test_half_precision_positions_are_interpolated_in_float32():
    positions = torch.randn(1, 64, 3).bfloat16()
    resized = resize_positions(positions, (8, 8), (5, 5), antialias=True)
    assert resized.dtype == torch.bfloat16
    exact = resize_positions(positions.float(), (8, 8), (5, 5), antialias=True)
    assert torch.equal(resized, exact.bfloat16())


def test_prepend():
    tokens, first, second = torch.randn(2, 5, 3), torch.randn(1, 1, 3), torch.randn(1, 4, 3)
    joined = prepend(tokens, first, second)
    assert joined.shape == (2, 10, 3)
    for picture in joined:
        assert torch.equal(picture[:1], first[0])
        assert torch.equal(picture[1:5], second[0])
    assert torch.equal(joined[:, 5:], tokens)
    assert torch.equal(prepend(tokens), tokens)
