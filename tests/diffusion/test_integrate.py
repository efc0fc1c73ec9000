"""The adaptive solver on equations with known ends."""

import math

import pytest
import torch

from vitrail.diffusion.integrate import integrate
from vitrail.errors import VitrailError


@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
@pytest.mark.parametrize("end", [6.0, -6.0])
def test_turning_points_come_where_they_should(end: float, tolerance: float):
    """y'' = -y as two equations: (cos t, -sin t), forwards and backwards in time."""
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    found = integrate(lambda t, y: torch.stack([y[:, 1], -y[:, 0]], 1), start, 0.0, end, tolerance)
    expected = torch.tensor([[math.cos(end), -math.sin(end)]], dtype=torch.float64)
    assert (found - expected).abs().max() < 20 * tolerance


def test_slope_may_depend_on_time():
    found = integrate(lambda t, y: torch.full_like(y, 2 * t), torch.zeros(1, 1, dtype=torch.float64), 1.0, 3.0)
    assert found.item() == pytest.approx(8.0)


def test_effort_follows_the_tolerance():
    """An order of five: a hundred thousandth of the error costs about ten times the steps."""
    asked = []
    for tolerance in (1e-4, 1e-9):
        times: list[float] = []

        def slope(t: float, y: torch.Tensor, times: list[float] = times) -> torch.Tensor:
            times.append(t)
            return torch.stack([y[:, 1], -y[:, 0]], 1)

        integrate(slope, torch.ones(1, 2, dtype=torch.float64), 0.0, 30.0, tolerance)
        asked.append(len(times))
    assert 6 < asked[1] / asked[0] < 14


def test_no_way_is_no_way():
    start = torch.ones(1, 1)
    assert integrate(lambda t, y: y, start, 2.0, 2.0) is start
    with pytest.raises(VitrailError, match=r"cannot be solved to 1e-05: its slope is not smooth"):
        integrate(lambda t, y: y * math.nan, start, 0.0, 1.0)
