"""Each sampler, step by step, beside diffusers' scheduler: what the network is shown, when, and the picture it ends in.

Both run the same made-up network and draw the same noise (one generator, one seed): ours draw in diffusers' order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers.deprecated import KarrasVeScheduler
from torch import Tensor

from vitrail.diffusion import schedules
from vitrail.diffusion.parameterisations import Network, clean, clipped, epsilon, flow, score, velocity
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.samplers.first_order import ddim, ddpm
from vitrail.diffusion.samplers.levels import levels
from vitrail.diffusion.samplers.ordinary import heun
from vitrail.diffusion.samplers.score import predictor_corrector

SHAPE = (2, 3, 4, 4)
STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PARAMETERISATIONS = {"epsilon": epsilon, "v_prediction": velocity, "sample": clean}


class Watched:
    """A smooth function of picture and time that keeps what it was asked."""

    def __init__(self, timeless: bool = False) -> None:
        self.pictures: list[Tensor] = []
        self.times: list[float] = []
        self.timeless = timeless

    def __call__(self, x: Tensor, time: Tensor, cond: Any = None) -> Tensor:
        time = torch.as_tensor(time).float().reshape(-1)
        assert (time == time[0]).all()
        self.pictures.append(x)
        self.times.append(time[0].item())
        phase = 0.0 if self.timeless else time[0] / 300
        return torch.tanh(0.8 * x + torch.sin(phase + torch.arange(4.0))) + 0.2 * x.roll(1, -1)


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Within a part of the largest value."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max(), (ours - theirs).abs().max()


def agree(ours: Watched, theirs: Watched, tolerance: float = 1e-5) -> None:
    assert len(ours.pictures) == len(theirs.pictures)
    for mine, reference in zip(ours.pictures, theirs.pictures, strict=True):
        close(mine, reference, tolerance)
    if not ours.timeless:
        assert ours.times == pytest.approx(theirs.times, abs=5e-3)


def run_theirs(scheduler: Any, network: Network, noise: Tensor, num_steps: int, **options: Any) -> Tensor:
    scheduler.set_timesteps(num_steps)
    x = noise * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, time), time, None), time, x, **options).prev_sample
    return x


@dataclass
class Case:
    name: str
    scheduler: str
    config: dict[str, Any] = field(default_factory=dict)
    sampler: Callable[..., Tensor] | None = None
    start_like_k: bool = False  # x = σ n and not n / scale
    kind: str = "epsilon"
    timeless: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    stop: bool = False  # at the chain's first level
    clip: bool = False
    tolerance: float = 1e-5

    def __str__(self) -> str:
        return " ".join([self.name, self.kind, *(str(value) for value in self.config.values())])


LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}
LINSPACE = {"timestep_spacing": "linspace"}
SDE = {"algorithm_type": "sde-dpmsolver++"}
KARRAS = {"use_karras_sigmas": True}

CASES = [
    Case("ddpm", "DDPMScheduler", {"clip_sample": False} | LEADING),
    Case("ddpm", "DDPMScheduler", {"clip_sample": False} | TRAILING, kind="v_prediction"),
    Case(
        "ddpm",
        "DDPMScheduler",
        {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "variance_type": "fixed_large"},
        partial(ddpm, variance="large"),
        clip=True,
    ),
    Case("ddim", "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False} | LEADING, stop=True),
    Case("ddim", "DDIMScheduler", {"clip_sample": False} | TRAILING, kind="sample"),
    Case("ddim", "DDIMScheduler", {"clip_sample": False} | TRAILING, kind="v_prediction"),
    Case(
        "ddim",
        "DDIMScheduler",
        {"clip_sample": False, "set_alpha_to_one": False} | LEADING,
        partial(ddim, eta=0.6),
        options={"eta": 0.6},
        stop=True,
    ),
    Case(
        "ddim",
        "DDIMScheduler",
        TRAILING,
        options={"use_clipped_model_output": True},
        clip=True,
    ),
    Case("ddim", "DDIMScheduler", {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2"}),
    *(Case("euler", "EulerDiscreteScheduler", spacing, start_like_k=True) for spacing in (LINSPACE, TRAILING)),
    Case("euler", "EulerDiscreteScheduler", LEADING | {"interpolation_type": "linear"}),
    Case("euler", "EulerDiscreteScheduler", LINSPACE | KARRAS, start_like_k=True),
    Case("euler", "EulerDiscreteScheduler", LINSPACE, kind="v_prediction", start_like_k=True),
    Case(
        "euler",
        "EulerDiscreteScheduler",
        TRAILING | {"rescale_betas_zero_snr": True},
        kind="v_prediction",
        start_like_k=True,
        tolerance=1e-3,  # from σ = 4096 theirs takes differences of x, in float32
    ),
    Case("euler-ancestral", "EulerAncestralDiscreteScheduler", LINSPACE, start_like_k=True),
    Case("euler-ancestral", "EulerAncestralDiscreteScheduler", LEADING, kind="v_prediction"),
    Case("heun", "HeunDiscreteScheduler", LINSPACE, start_like_k=True),
    Case("heun", "HeunDiscreteScheduler", TRAILING | KARRAS, start_like_k=True),
    *(Case("dpm++2m", "DPMSolverMultistepScheduler", spacing) for spacing in (LINSPACE, LEADING, TRAILING)),
    Case("dpm++2m", "DPMSolverMultistepScheduler", LINSPACE | KARRAS, timeless=True),
    Case("dpm++2m", "DPMSolverMultistepScheduler", LEADING, kind="v_prediction"),
    Case("dpm++2m-sde", "DPMSolverMultistepScheduler", LINSPACE | SDE),
    Case("dpm++2m-sde", "DPMSolverMultistepScheduler", TRAILING | SDE | KARRAS, timeless=True),
    *(Case("unipc", "UniPCMultistepScheduler", spacing) for spacing in (LINSPACE, LEADING, TRAILING)),
    Case("unipc", "UniPCMultistepScheduler", LEADING, kind="v_prediction"),
    Case(
        "unipc",
        "UniPCMultistepScheduler",
        TRAILING | {"solver_order": 3},
        partial(SAMPLERS["unipc"], order=3),
    ),
    Case("pndm", "PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False} | LEADING, stop=True),
    Case("lcm", "LCMScheduler", {"clip_sample": False}),
]


@pytest.mark.parametrize("num_steps", [1, 4, 10])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sampler_takes_the_schedulers_steps(case: Case, num_steps: int):
    scheduler = getattr(diffusers, case.scheduler)(**STABLE_DIFFUSION | {"prediction_type": case.kind} | case.config)
    noise = torch.randn(SHAPE)
    ours, theirs = Watched(case.timeless), Watched(case.timeless)
    options = case.options
    if case.scheduler in ("DDPMScheduler", "DDIMScheduler", "LCMScheduler", "EulerAncestralDiscreteScheduler") or (
        case.config.get("algorithm_type") == "sde-dpmsolver++"
    ):
        options = options | {"generator": torch.Generator().manual_seed(7)}
    expected = run_theirs(scheduler, theirs, noise, num_steps, **options)

    schedule = schedules.Discrete(scheduler.alphas_cumprod.double())  # counted in float32: ours are below
    sigmas = levels(
        case.name,
        schedule,
        num_steps,
        spacing=case.config.get("timestep_spacing", "leading"),
        offset=case.config.get("steps_offset", 0),
        ends_clean=not case.stop,
        karras=case.config.get("use_karras_sigmas", False),
    )
    denoiser = PARAMETERISATIONS[case.kind](ours, schedule)
    if case.clip:
        denoiser = clipped(denoiser)
    sampler = case.sampler or SAMPLERS[case.name]
    x = noise * sigmas[0].float() if case.start_like_k else noise / schedule.scale(sigmas[0]).float()
    result = sampler(denoiser, x, sigmas, generator=torch.Generator().manual_seed(7))
    agree(ours, theirs, case.tolerance)
    close(result * schedule.scale(sigmas[-1]).float(), expected, case.tolerance)


def test_flow_takes_the_schedulers_steps():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    noise, ours, theirs = torch.randn(SHAPE), Watched(), Watched()
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    x = noise
    for time in scheduler.timesteps:
        x = scheduler.step(theirs(x, time), time, x).prev_sample
    schedule = schedules.Flow()
    sigmas = levels("euler", schedule, 8, shift=3.0)
    result = SAMPLERS["euler"](flow(ours, schedule), noise / schedule.scale(sigmas[0]).float(), sigmas)
    agree(ours, theirs)
    close(result, x)


def test_predictor_corrector_takes_the_schedulers_steps():
    scheduler = diffusers.ScoreSdeVeScheduler(snr=0.16, sigma_min=0.02, sigma_max=30.0, correct_steps=2)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(1, *SHAPE[1:])

    def uphill(x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        sigma = torch.as_tensor(sigma).reshape(-1, 1, 1, 1)
        return (0.4 * torch.tanh(x) - x) / sigma**2

    scheduler.set_timesteps(12)
    scheduler.set_sigmas(12)
    scheduler.sigmas = scheduler.discrete_sigmas.flip(0)  # its two tables differ by a factor (σ_max / σ_min)^1e-5
    x = noise * scheduler.init_noise_sigma
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=True):
        for _ in range(2):
            x = scheduler.step_correct(uphill(x, sigma), x, generator=generator).prev_sample
        x, mean = scheduler.step_pred(uphill(x, sigma), time, x, generator=generator, return_dict=False)

    schedule = schedules.VarianceExploding(0.02, 30.0)
    sigmas = levels("predictor-corrector", schedule, 12)
    result = predictor_corrector(
        score(uphill), noise * 30, sigmas, generator=torch.Generator().manual_seed(7), corrections=2
    )
    close(result, mean, 1e-4)  # the last step takes x from x


def test_heun_with_churn_takes_karras_steps():
    scheduler = KarrasVeScheduler(sigma_min=0.1, sigma_max=5, s_noise=1.007, s_churn=4, s_min=0.0, s_max=1e6)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(SHAPE)
    scheduler.set_timesteps(9)
    x = noise * scheduler.init_noise_sigma

    def denoiser(x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        sigma = torch.as_tensor(sigma).float().reshape(-1, 1, 1, 1)
        return torch.tanh(x / (1 + sigma**2))

    def output(x: Tensor, sigma: Tensor) -> Tensor:
        return (denoiser(x, sigma) - x) / sigma

    grid = scheduler.schedule
    for time in scheduler.timesteps:
        sigma, to = grid[time], grid[time - 1] if time > 0 else torch.tensor(0.0)
        raised, sigma = scheduler.add_noise_to_input(x, sigma, generator=generator)
        step = scheduler.step(output(raised, sigma), sigma, to, raised)
        x = step.prev_sample
        if to > 0:
            corrected = output(x, to)
            x = scheduler.step_correct(corrected, sigma, to, raised, x, step["derivative"]).prev_sample
    sigmas = torch.cat([grid.flip(0), torch.zeros(1)])
    result = heun(
        denoiser,
        noise * scheduler.init_noise_sigma,
        sigmas,
        generator=torch.Generator().manual_seed(7),
        churn=4,
        churn_noise=1.007,
    )
    close(result, x)


@pytest.mark.parametrize(
    ("ours", "config"),
    [
        (schedules.linear(), {}),
        (schedules.scaled_linear(), STABLE_DIFFUSION),
        (schedules.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
        (schedules.zero_terminal(schedules.scaled_linear()), STABLE_DIFFUSION | {"rescale_betas_zero_snr": True}),
        (schedules.trained([0.1, 0.2, 0.3]), {"trained_betas": [0.1, 0.2, 0.3]}),
    ],
    ids=["linear", "scaled linear", "cosine", "zero terminal", "trained"],
)
def test_schedules_keep_what_diffusers_keep(ours: schedules.Discrete, config: dict[str, Any]):
    theirs = diffusers.EulerDiscreteScheduler(**config).alphas_cumprod
    assert torch.allclose(ours.alphas_cumprod.float(), theirs, rtol=2e-4, atol=1e-9)  # theirs in float32
    assert math.isfinite(ours.sigma_max)
