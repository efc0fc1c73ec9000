"""Samplers on data whose score is known: they reach the true distribution, and at the order they claim."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.diffusion.quantiles import LINE, distance, path, quantile
from vitrail.diffusion import schedules
from vitrail.diffusion.samplers import SAMPLERS, first_order, multistep
from vitrail.diffusion.samplers.levels import levels
from vitrail.diffusion.samplers.ordinary import ode
from vitrail.diffusion.samplers.score import langevin, predictor_corrector

HIGH, LOW = 5.0, 0.3
DOUBLE = torch.float64


def slope(steps: list[int], errors: list[float]) -> float:
    """k of error ∝ steps^-k, by least squares."""
    x, y = torch.tensor(steps).double().log(), torch.tensor(errors).double().log()
    return -(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()).item()


def endpoint(sampler: str, start: Tensor, sigmas: Tensor) -> Tensor:
    """The x that a sampler shows the denoiser at the last of its levels, after which it would jump to a picture."""
    shown = []

    def watched(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        shown.append((x, sigma[0].item()))
        return LINE(x, sigma, cond)

    SAMPLERS[sampler](watched, start, torch.cat([sigmas, torch.zeros(1, dtype=DOUBLE)]))
    assert shown[-1][1] == sigmas[-1]
    return shown[-1][0]


@pytest.mark.parametrize(
    ("sampler", "order"),
    [("euler", 1), ("ddim", 1), ("heun", 2), ("dpm++2m", 2), ("unipc", 3)],
)
def test_error_falls_at_the_solvers_order(sampler: str, order: int):
    start = quantile(torch.linspace(0.02, 0.98, 25, dtype=DOUBLE), HIGH)[:, None]
    true = path(start, HIGH, LOW)
    steps, errors = [32, 64, 128], []
    for count in steps:
        reached = endpoint(sampler, start, schedules.geometric(LOW, HIGH, count + 1)[:-1])
        errors.append((reached - true).abs().mean().item())
    assert slope(steps, errors) == pytest.approx(order, abs=0.12)


def test_adams_of_fourth_order_starts_with_third():
    """Multistep coefficients are of even steps in σ; the first steps are of second and third order, but few."""
    start = quantile(torch.linspace(0.02, 0.98, 25, dtype=DOUBLE), HIGH)[:, None]
    true = path(start, HIGH, LOW)
    steps, errors = [64, 128, 256], []
    for count in steps:
        reached = endpoint("pndm", start, torch.linspace(HIGH, LOW, count + 1, dtype=DOUBLE))
        errors.append((reached - true).abs().mean().item())
    assert 3.4 < slope(steps, errors) < 4.1


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_adaptive_ode_keeps_its_tolerance(tolerance: float):
    start = quantile(torch.linspace(0.02, 0.98, 25, dtype=DOUBLE), HIGH)[:, None]
    error = (ode(LINE, start, torch.tensor([HIGH, LOW]), tolerance=tolerance) - path(start, HIGH, LOW)).abs().max()
    assert error < 10 * tolerance


class OneEach:
    """In place of noise: row k of x gets the k-th draw, 1, and no other. Row 0 is where the start's noise is."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, x: Tensor, dice: Any) -> Tensor:
        self.drawn += 1
        return torch.nn.functional.one_hot(torch.tensor(self.drawn), len(x)).to(x)[:, None]


@pytest.mark.parametrize(("sampler", "order"), [("ddpm", 1), ("euler-ancestral", 1), ("dpm++2m-sde", 2)])
def test_variance_converges_at_the_solvers_weak_order(sampler: str, order: int, monkeypatch: pytest.MonkeyPatch):
    """For data of N(0, 1) every step is linear, so that the variance it ends in is known without any chance: the sum
    of the squares of what each draw contributes. The true one is 1 + σ²."""
    steps, errors = [32, 64, 128], []
    for count in steps:
        for module in (first_order, multistep):
            monkeypatch.setattr(module, "noise_like", OneEach())
        sigmas = schedules.geometric(0.1, 10.0, count + 1)[:-1]
        start = torch.zeros(count + 1, 1, dtype=DOUBLE)
        start[0] = (1 + 10.0**2) ** 0.5
        end = SAMPLERS[sampler](lambda x, sigma, cond: x / (1 + sigma[:, None] ** 2), start, sigmas)
        errors.append(abs(end.square().sum().item() - (1 + 0.1**2)))
    assert slope(steps, errors) == pytest.approx(order, abs=0.12)


def test_ancestral_variances_are_those_of_the_chain():
    """One step of the chain, in its own frame. Ho et al. 2020, eq. 7: μ̃ and β̃, or β."""
    chain = schedules.linear()
    sigmas = chain.sigmas[[500, 499]]
    kept, before = chain.alphas_cumprod[[500, 499]].tolist()
    beta = 1 - kept / before
    x, x0 = torch.full((200_000, 1), 0.7, dtype=DOUBLE), 0.3
    for variance, expected in [("small", (1 - before) / (1 - kept) * beta), ("large", beta)]:
        there = first_order.ddpm(
            lambda x, sigma, cond: torch.full_like(x, x0),
            x / kept**0.5,
            sigmas,
            generator=torch.Generator().manual_seed(0),
            variance=variance,
        )
        there = there * before**0.5
        mean = before**0.5 * beta / (1 - kept) * x0 + (1 - beta) ** 0.5 * (1 - before) / (1 - kept) * 0.7
        assert there.mean().item() == pytest.approx(mean, abs=5 * (expected / len(x)) ** 0.5)
        assert there.var().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("sampler", "num_steps"),
    [
        ("ddpm", 400),
        ("ddim", 400),
        ("euler", 400),
        ("euler-ancestral", 400),
        ("heun", 40),
        ("dpm++2m", 40),
        ("dpm++2m-sde", 60),
        ("unipc", 40),
        ("pndm", 100),
        ("ode", 10),
        ("langevin", 150),
        ("predictor-corrector", 200),
    ],
)
def test_sampled_distribution_is_the_true_one(sampler: str, num_steps: int):
    """5,000 points, drawn as rows of a thousand numbers (the corrector's step is measured over a row)."""
    schedule = schedules.VarianceExploding(0.01, 60.0)
    dice = torch.Generator().manual_seed(3)
    sigmas = levels(sampler, schedule, num_steps)
    if sampler == "pndm":  # its steps are best even in σ; Karras's are near that where there is much noise
        sigmas = schedules.karras(0.01, 60.0, num_steps, rho=3.0)

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return LINE(x.reshape(-1, 1), sigma.repeat_interleave(x.shape[1]), cond).reshape(x.shape)

    start = 60.0 * torch.randn(5, 1000, generator=dice, dtype=DOUBLE)
    points = SAMPLERS[sampler](denoiser, start, sigmas, generator=dice)
    assert distance(points) < 0.03  # chance alone: 1.63 / √5000 = 0.023 once in a hundred
    assert points.std().item() == pytest.approx(1.336, rel=0.04)


def normal(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
    """The denoiser of data of N(0, 1)."""
    return x / (1 + rows_of(sigma, x) ** 2)


def test_langevin_settles_at_the_variance_of_its_level():
    """x ← (1 - α/2) x + √(2α) n at σ = 1, where the true variance is 2: a fixed point known exactly."""
    dice = torch.Generator().manual_seed(0)
    points = langevin(
        normal, torch.zeros(100, 1000), torch.tensor([1.0, 0.9]), generator=dice, repeats=150, step_size=0.05
    )
    assert points.var().item() == pytest.approx(0.1 / (1 - 0.975**2), rel=0.02)


def test_corrector_settles_at_the_variance_of_its_level_and_the_predictor_takes_it_on():
    """With |s| = |x| / 2 and r = 0.1, α = 0.02 |n|² / |s|² tends to 0.04; then x' = D + 0.81 (x - D) + √0.19 n."""
    dice = torch.Generator().manual_seed(0)
    start = 2**0.5 * torch.randn(100, 2000, generator=dice)
    points = predictor_corrector(
        normal, start, torch.tensor([1.0, 0.9]), generator=dice, corrections=60, signal_to_noise=0.1
    )
    settled = 2.0  # α = 0.08 / v of its own variance v: v = 2α / (1 - (1 - α/2)²) at v = 2.02
    for _ in range(50):
        alpha = 0.02 * 4 / settled
        settled = 2 * alpha / (1 - (1 - alpha / 2) ** 2)
    assert points.var().item() == pytest.approx(0.905**2 * settled + 0.19, rel=0.01)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_lcm_keeps_the_distribution_of_a_consistency_model(num_steps: int):
    """Whose denoiser is the whole path at one look."""

    def consistent(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return path(x, sigma[0].item(), 0.0)

    dice = torch.Generator().manual_seed(3)
    sigmas = schedules.karras(0.05, 60.0, num_steps)
    start = 60.0 * torch.randn(10_000, 1, generator=dice, dtype=DOUBLE)
    assert distance(SAMPLERS["lcm"](consistent, start, sigmas, generator=dice)) < 0.02


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler_is_a_pure_function_of_its_generator(sampler: str):
    start = torch.full((2, 3), 5.0)
    sigmas = schedules.geometric(0.05, 5.0, 6)
    state, seen = torch.get_rng_state(), []

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        assert x.dtype == sigma.dtype == torch.float32
        return x / (1 + rows_of(sigma, x) ** 2) + cond

    cond = torch.tensor([[0.1], [0.2]])
    draw = [
        SAMPLERS[sampler](
            denoiser,
            start,
            sigmas,
            cond,
            generator=torch.Generator().manual_seed(5),
            preview=lambda step, x0: seen.append((step, x0.shape)),
        )
        for _ in range(2)
    ]
    SAMPLERS[sampler](denoiser, start, sigmas, cond)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draw[0], draw[1])
    assert draw[0].dtype == torch.float32
    assert seen == [(step, (2, 3)) for step in range(1, 7)] * 2
    assert torch.equal(start, torch.full((2, 3), 5.0))


def rows_of(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"ode"}))
def test_row_does_not_depend_on_its_neighbours(sampler: str):
    """One generator a row; only the adaptive solver's steps are chosen by all rows together."""
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * 5
    sigmas = schedules.geometric(0.05, 5.0, 6)

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return torch.tanh(x) / (1 + sigma[:, None])

    def draw(rows: list[int]) -> Tensor:
        return SAMPLERS[sampler](
            denoiser, start[rows], sigmas, generator=[torch.Generator().manual_seed(row) for row in rows]
        )

    assert torch.allclose(draw([0, 1, 2])[1:2], draw([1]), atol=1e-6)


def test_generators_must_be_as_many_as_rows():
    with pytest.raises(ValueError, match="3 rows need 3 generators, not 2"):
        SAMPLERS["ddpm"](
            lambda x, sigma, cond: x, torch.ones(3, 1), torch.tensor([2.0, 1.0]), generator=[torch.Generator()] * 2
        )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_nothing_is_lost_from_the_end_of_a_flow(sampler: str):
    """From σ = 2²⁰ in float32, data of N(0.5, 0.2²) comes out of the noise in every sampler that a flow is run with."""
    if sampler in ("langevin", "predictor-corrector", "lcm"):
        pytest.skip("these start from a level where noise of σ is still worth following, or need a consistency model")
    schedule = schedules.Flow()
    sigmas = levels(sampler, schedule, 50)
    assert math.isfinite(sigmas.max())

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return 0.5 + 0.04 / (0.04 + sigma[:, None] ** 2) * (x - 0.5)

    dice = torch.Generator().manual_seed(1)
    start = torch.randn(4000, 1, generator=dice) / schedule.scale(sigmas[0]).float()
    points = SAMPLERS[sampler](denoiser, start, sigmas, generator=dice)
    assert points.mean().item() == pytest.approx(0.5, abs=0.02)
    assert points.std().item() == pytest.approx(0.2, rel=0.15)
