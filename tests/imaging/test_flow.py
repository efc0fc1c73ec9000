"""Optical flow drawn in the colours of Baker et al."""

import numpy as np
import pytest
import torch

from vitrail.imaging.flow import draw_flow, flow_legend


def colour(right: float, down: float, longest: float | None = None) -> tuple[int, int, int]:
    return draw_flow(np.array([[[right]], [[down]]]), longest).getpixel((0, 0))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [((1, 0), "red"), ((0, 1), "yellow"), ((-1, 0), "cyan"), ((0, -1), "blue")],
)
def test_a_direction_has_its_colour(direction, expected):
    wanted = {"red": (255, 0, 0), "yellow": (255, 255, 0), "cyan": (0, 255, 255), "blue": (0, 0, 255)}
    distances = {name: np.abs(np.subtract(colour(*direction), rgb)).sum() for name, rgb in wanted.items()}
    assert min(distances, key=distances.get) == expected


def test_stillness_is_white_and_length_is_strength():
    assert colour(0, 0) == (255, 255, 255)
    red, faint, dark = colour(2, 0), colour(1, 0, longest=2), colour(3, 0, longest=2)
    assert red == (255, 0, 0)
    assert faint == (255, 127, 127)
    assert dark == (191, 0, 0)


def test_the_wheel_turns_evenly_but_for_the_published_seam():
    angles = np.radians(np.arange(0.25, 360, 0.5))
    colours = np.asarray(draw_flow(np.stack([np.cos(angles), np.sin(angles)])[:, None]), dtype=int)[0]
    assert np.abs(np.diff(colours, axis=0)).max() <= 8  # half a degree is a thirteenth of a hue, and a hue at most 64
    assert np.abs(colours[0] - colours[-1]).max() == pytest.approx(255 / 6, abs=3)  # the last hue and the first


def test_a_tensor_and_the_legend():
    flow = torch.zeros(2, 5, 7)
    flow[0, 2, 3] = 4
    picture = draw_flow(flow)
    assert picture.size == (7, 5)
    assert picture.getpixel((3, 2)) == (255, 0, 0)
    legend = flow_legend(65)
    assert legend.getpixel((32, 32)) == (255, 255, 255)
    assert legend.getpixel((0, 0)) == (255, 255, 255)
    assert legend.getpixel((64, 32)) == (255, 0, 0)
