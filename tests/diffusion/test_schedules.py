"""Schedules: times and noise levels are each other's inverse, and no level is infinite."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.diffusion import schedules
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.samplers.levels import levels
from vitrail.errors import UsageError

DISCRETE = {
    "linear": schedules.linear(),
    "scaled linear": schedules.scaled_linear(),
    "cosine": schedules.cosine(),
    "zero terminal": schedules.zero_terminal(schedules.scaled_linear()),
    "zero terminal of linear": schedules.zero_terminal(schedules.linear()),
}
CONTINUOUS = {
    "variance exploding": (schedules.VarianceExploding(), 1.0),
    "sub-VP": (schedules.SubVP(), 1.0),
    "flow": (schedules.Flow(), 999.0),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_whole_steps_and_levels_are_inverse(name: str):
    schedule = DISCRETE[name]
    times = torch.arange(len(schedule.alphas_cumprod))
    assert torch.allclose(schedule.sigma(times), schedule.sigmas)
    assert torch.equal(schedule.time(schedule.sigmas.float()), times.float())
    assert (schedule.sigmas.diff() > 0).all()
    assert math.isfinite(schedule.sigma_max)
    assert torch.allclose(schedule.scale(schedule.sigmas) ** 2, schedule.alphas_cumprod)


@given(st.floats(0, 999), st.sampled_from(sorted(set(DISCRETE) - {"cosine"})))
def test_fractions_of_a_step_come_back_to_a_twentieth(time: float, name: str):
    schedule = DISCRETE[name]
    if not (name.startswith("zero") and time > 990):  # there a step doubles σ
        assert schedule.time(schedule.sigma(torch.tensor([time]))).item() == pytest.approx(time, abs=0.06)


def test_levels_beyond_the_ends_are_the_ends():
    schedule = schedules.linear()
    assert schedule.time(torch.tensor([0.0, 1e-9, 1e9])).tolist() == [0, 0, 999]


@given(st.floats(0.001, 1), st.sampled_from(sorted(CONTINUOUS)))
def test_continuous_times_and_levels_are_inverse(part: float, name: str):
    schedule, last = CONTINUOUS[name]
    time = torch.tensor([part * last], dtype=torch.float64)
    assert torch.allclose(schedule.time(schedule.sigma(time)), time, rtol=1e-9)


def test_sub_vp_is_what_its_equation_integrates_to():
    """d mean/dt = -½ β mean and d var/dt = -β var + β (1 - e^{-2 ∫β}), by small steps."""
    schedule = schedules.SubVP()
    count = 20_000
    mean, variance, integral = 1.0, 0.0, 0.0
    for step in range(count):
        time = (step + 0.5) / count
        beta = schedule.beta_min + time * (schedule.beta_max - schedule.beta_min)
        middle = integral + beta / count / 2
        mean -= 0.5 * beta * mean / count
        variance += beta * (1 - math.exp(-2 * middle) - variance) / count
        integral += beta / count
        if step + 1 in (count // 5, count // 2):
            sigma = schedule.sigma(torch.tensor((step + 1) / count, dtype=torch.float64))
            assert schedule.scale(sigma).item() == pytest.approx(mean, rel=1e-3)
            assert (schedule.scale(sigma) * sigma).item() == pytest.approx(variance**0.5, rel=1e-3)


def test_flow_at_its_end_is_a_large_number():
    schedule = schedules.Flow()
    sigma = schedule.sigma(torch.tensor([1000.0, 500.0, 0.0]))
    assert sigma.tolist() == [2.0**20, 1.0, 0.0]
    assert schedule.scale(sigma)[1:].tolist() == [0.5, 1.0]
    assert schedule.time(sigma).tolist() == pytest.approx([1000, 500, 0], rel=2e-6)


def test_karras_levels_are_those_of_the_paper():
    """EDM's table 1: σ from 80 to 0.002 with ρ = 7; the 2nd of 18 by hand."""
    sigmas = schedules.karras(0.002, 80, 18)
    expected = (80 ** (1 / 7) + 1 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert sigmas[[0, 1, 17, 18]].tolist() == pytest.approx([80, expected, 0.002, 0])
    assert expected == pytest.approx(57.586, abs=0.001)


def test_even_levels_of_the_exploding_schedule_are_geometric():
    even = schedules.even(schedules.VarianceExploding(0.01, 50), 30)
    assert torch.allclose(even, schedules.geometric(0.01, 50, 30))


@pytest.mark.parametrize("schedule", [*DISCRETE.values(), *(schedule for schedule, _ in CONTINUOUS.values())])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_run_falls_to_zero(sampler: str, schedule: schedules.Schedule):
    if isinstance(schedule, schedules.Flow) and sampler in ("langevin", "predictor-corrector"):
        pytest.skip("a flow has no least level")
    for num_steps in (1, 2, 7, 50):
        for karras in (False, True):
            sigmas = levels(sampler, schedule, num_steps, offset=1, karras=karras)
            assert len(sigmas) == num_steps + 1
            assert (sigmas.diff() < 0).all()
            assert sigmas[-1] == 0
            assert sigmas.isfinite().all()


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
def test_all_steps_of_the_chain_can_be_visited(spacing: schedules.Spacing):
    schedule = schedules.linear(20)
    assert torch.allclose(schedules.spaced(schedule, 20, spacing)[:-1], schedule.sigmas.flip(0))
    if spacing == "trailing":  # of which diffusers' solvers leave nothing out
        assert torch.allclose(levels("unipc", schedule, 20, spacing=spacing)[:-1], schedule.sigmas.flip(0))


def test_impossible_runs_are_sentences():
    schedule = schedules.linear(20)
    with pytest.raises(UsageError, match="num_steps must be at least 1, not 0"):
        schedules.spaced(schedule, 0)
    with pytest.raises(UsageError, match="at most the 20 that this model was trained with"):
        schedules.spaced(schedule, 21)
    with pytest.raises(UsageError, match="at most the 19"):
        levels("unipc", schedule, 20)
    with pytest.raises(UsageError, match="spacing must be one of leading, trailing, linspace, not 'even'"):
        schedules.spaced(schedule, 3, "even")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="from 1 to 50, not 51"):
        levels("lcm", schedules.linear(), 51)
