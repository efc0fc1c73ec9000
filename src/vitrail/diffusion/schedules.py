"""Noise schedules: which noise level σ a network's time t means, and the levels that a run visits.

A schedule mixes a clean picture with noise as scale(σ) · (x0 + σ n), n standard normal: σ is the noise a picture
carries in the frame of the samplers, scale(σ) what brings that frame into the one the network was trained in.

    variance preserving (Ho et al. 2020, 2006.11239, eq. 4):   scale = √ᾱ = 1 / √(1 + σ²),  σ = √((1 - ᾱ) / ᾱ)
    variance exploding (Song et al. 2021, 2011.13456, eq. 31): scale = 1
    sub-VP (the same, eq. 29):                                 scale = α,  σ = (1 - α²) / α
    flow matching (Lipman et al. 2023, 2210.02747, eq. 22):    scale = 1 - s = 1 / (1 + σ),  σ = s / (1 - s)

Where a schedule ends in nothing but noise, σ would be infinite. Here it never is: a zero-terminal-SNR schedule ends at
σ = 4096 (ᾱ = 2⁻²⁴, as in diffusers) and a flow at σ = 2²⁰ (s = 0.999999), each said by its `sigma_max`. A run starts
from x = n / scale(σ) in the first, second and last, and from x = σ n in a variance-exploding one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from vitrail.errors import UsageError

Spacing = Literal["leading", "trailing", "linspace"]
SPACINGS: tuple[Spacing, ...] = ("leading", "trailing", "linspace")


class Schedule(Protocol):
    """What a parameterisation and a pipeline ask of a schedule."""

    @property
    def sigma_min(self) -> float:
        """The least noise that the network was trained on."""

    @property
    def sigma_max(self) -> float:
        """The most noise that the network was trained on; finite."""

    def sigma(self, time: Tensor) -> Tensor:
        """Times as the network knows them -> noise levels, of the same shape."""

    def time(self, sigma: Tensor) -> Tensor:
        """Noise levels -> times as the network knows them, of the same shape; beyond the ends, the end."""

    def scale(self, sigma: Tensor) -> Tensor:
        """Noise levels -> what x0 + σ n is multiplied by before the network sees it."""


@dataclass(frozen=True, eq=False, repr=False)
class Discrete:
    """A variance-preserving chain of T steps. Ho et al. 2020 (2006.11239), eq. 4; time t is 0 … T - 1.

    Between two steps σ is interpolated linearly, and t linearly in log σ, as diffusers' schedulers do (the first for
    the fractional times of "linspace", the second for the levels of Karras): for a fraction of a step the two are each
    other's inverse to a twentieth of a step, at whole steps exactly.

    Args:
        alphas_cumprod: ᾱ (T,), float64, falling within (0, 1).
    """

    alphas_cumprod: Tensor

    @cached_property
    def sigmas(self) -> Tensor:
        """σ_t = √((1 - ᾱ_t) / ᾱ_t), (T,), float64, rising."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    @property
    def sigma_min(self) -> float:
        """σ_0."""
        return self.sigmas[0].item()

    @property
    def sigma_max(self) -> float:
        """σ_{T-1}."""
        return self.sigmas[-1].item()

    def sigma(self, time: Tensor) -> Tensor:
        """(…) times from 0 to T - 1, fractions too -> (…) noise levels, float64."""
        return _interpolate(time.double(), self.sigmas.to(time.device))

    def time(self, sigma: Tensor) -> Tensor:
        """(…) noise levels -> (…) times, float32.

        A level that is a whole step's to a thousandth of a step is that step: networks were trained on whole steps.
        """
        levels = self.sigmas.log().to(sigma.device, torch.float32)
        wanted = sigma.float().clamp(min=1e-20).log().clamp(levels[0], levels[-1])
        below = (levels <= wanted[..., None]).sum(-1)  # no binary search, which ONNX has no word for
        low = (below - 1).clamp(0, len(levels) - 2)
        time = low + (wanted - levels[low]) / (levels[low + 1] - levels[low])
        return torch.where((time - time.round()).abs() < 1e-3, time.round(), time)

    def scale(self, sigma: Tensor) -> Tensor:
        """√ᾱ = 1 / √(1 + σ²)."""
        return (1 + sigma**2).rsqrt()


def linear(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Discrete:
    """β rises linearly. Ho et al. 2020 (2006.11239), §4: ᾱ_t = Π (1 - β_s)."""
    return _from_betas(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64))


def scaled_linear(steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Discrete:
    """√β rises linearly, by default between Stable Diffusion's ends. Rombach et al. 2022 (2112.10752)."""
    return _from_betas(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2)


def cosine(steps: int = 1000, offset: float = 0.008) -> Discrete:
    """ᾱ(t) ∝ cos²((t + s) / (1 + s) · π / 2). Nichol & Dhariwal 2021 (2102.09672), eq. 17; β at most 0.999."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = ((time + offset) / (1 + offset) * math.pi / 2).cos() ** 2
    return _from_betas((1 - kept[1:] / kept[:-1]).clamp(max=0.999))


def trained(betas: Sequence[float]) -> Discrete:
    """The schedule of given β_t, each in (0, 1)."""
    return _from_betas(torch.tensor(betas, dtype=torch.float64))


def zero_terminal(schedule: Discrete) -> Discrete:
    """The schedule stretched so that its last step keeps nothing of the picture. Lin et al. 2023 (2305.08891), alg. 1.

    √ᾱ is shifted to end at 0 and scaled to begin where it began. The last ᾱ, then 0, is set to 2⁻²⁴, whose σ is 4096:
    finite, and what diffusers takes; or, where the step before it keeps less than twice that, to half of it.
    """
    roots = schedule.alphas_cumprod.sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    kept = roots**2
    kept[-1] = min(2.0**-24, kept[-2].item() / 2)
    return Discrete(kept)


@dataclass(frozen=True)
class VarianceExploding:
    """σ(t) = σ_min (σ_max / σ_min)^t, t from 0 to 1. Song et al. 2021 (2011.13456), eq. 31 and appendix C.

    The network's time is σ itself where it was trained as NCSN++ was: see `parameterisations.score`.

    Args:
        sigma_min: the least noise, for pictures in [-1, 1] or [0, 1] 0.01.
        sigma_max: the most, about the largest distance between two pictures: 50 for CIFAR-10, 348 for 256 pixels,
            1348 for 1024.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def sigma(self, time: Tensor) -> Tensor:
        """(…) times from 0 to 1 -> (…) noise levels."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** time

    def time(self, sigma: Tensor) -> Tensor:
        """(…) noise levels -> (…) times from 0 to 1."""
        ratio = (sigma / self.sigma_min).clamp(min=1e-20).log() / math.log(self.sigma_max / self.sigma_min)
        return ratio.clamp(0, 1)

    def scale(self, sigma: Tensor) -> Tensor:
        """1: the samplers' own frame."""
        return torch.ones_like(sigma)


@dataclass(frozen=True)
class SubVP:
    """The SDE whose variance stays below the variance-preserving one's. Song et al. 2021 (2011.13456), eq. 27-29.

    dx = -½ β(t) x dt + √(β(t) (1 - e^{-2 ∫β})) dw with β linear in t from 0 to 1, so that x(t) = α x0 + (1 - α²) n,
    α = e^{-½ ∫β}, and in the samplers' frame σ = (1 - α²) / α.

    Args:
        beta_min: β(0).
        beta_max: β(1).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    @property
    def sigma_min(self) -> float:
        """σ(10⁻³): the time at which sub-VP runs stop (the same, appendix C)."""
        return self.sigma(torch.tensor(1e-3, dtype=torch.float64)).item()

    @property
    def sigma_max(self) -> float:
        """σ(1)."""
        return self.sigma(torch.tensor(1.0, dtype=torch.float64)).item()

    def sigma(self, time: Tensor) -> Tensor:
        """(…) times from 0 to 1 -> (…) noise levels: with α = e^{-a}, σ = (1 - α²) / α = 2 sinh a."""
        return 2 * (self._decay(time)).sinh()

    def time(self, sigma: Tensor) -> Tensor:
        """(…) noise levels -> (…) times from 0 to 1: the root of ½ ∫β = asinh(σ / 2), a quadratic in t."""
        wanted = 2 * (sigma / 2).asinh()
        slope = self.beta_max - self.beta_min
        return (2 * wanted / (self.beta_min + (self.beta_min**2 + 2 * slope * wanted).sqrt())).clamp(0, 1)

    def scale(self, sigma: Tensor) -> Tensor:
        """α = e^{-asinh(σ / 2)}."""
        return (-(sigma / 2).asinh()).exp()

    def _decay(self, time: Tensor) -> Tensor:
        """½ ∫β from 0 to t."""
        return (self.beta_min * time + (self.beta_max - self.beta_min) * time**2 / 2) / 2


@dataclass(frozen=True)
class Flow:
    """The straight line from a picture to noise, (1 - s) x0 + s n. Lipman et al. 2023 (2210.02747); Liu et al. 2023.

    σ = s / (1 - s); at s = 1, where σ is infinite, it is 2²⁰, which float32 holds beside 1 to a part in ten million.

    Args:
        steps: what the network's time is at s = 1: 1000 where it counts as diffusers' flow models do, 1 where it is s.
    """

    steps: float = 1000.0
    sigma_min: float = 0.0
    sigma_max: float = 2.0**20

    def sigma(self, time: Tensor) -> Tensor:
        """(…) times from 0 to `steps` -> (…) noise levels, at most `sigma_max`."""
        s = time / self.steps
        return (s / (1 - s).clamp(min=1e-30)).clamp(max=self.sigma_max)

    def time(self, sigma: Tensor) -> Tensor:
        """(…) noise levels -> (…) times from 0 to `steps`: s = σ / (1 + σ)."""
        return sigma / (1 + sigma) * self.steps

    def scale(self, sigma: Tensor) -> Tensor:
        """1 - s = 1 / (1 + σ)."""
        return 1 / (1 + sigma)


def karras(sigma_min: float, sigma_max: float, num_steps: int, *, rho: float = 7.0) -> Tensor:
    """σ_i = (σ_max^{1/ρ} + i / (n - 1) (σ_min^{1/ρ} - σ_max^{1/ρ}))^ρ, then 0. Karras et al. 2022 (2206.00364), eq. 5.

    Returns:
        (num_steps + 1,), float64, falling, the last 0.
    """
    ramp = torch.linspace(0, 1, _checked(num_steps), dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho, 0.0)


def geometric(sigma_min: float, sigma_max: float, num_steps: int) -> Tensor:
    """σ_max to σ_min with one ratio between neighbours, then 0: the levels of annealed Langevin dynamics and of the
    variance-exploding SDE. Song & Ermon 2019 (1907.05600), §4.3; Song et al. 2021 (2011.13456), eq. 30.

    Returns:
        (num_steps + 1,), float64, falling, the last 0.
    """
    ramp = torch.linspace(0, 1, _checked(num_steps), dtype=torch.float64)
    return _ended((math.log(sigma_max) + ramp * math.log(sigma_min / sigma_max)).exp(), 0.0)


def even(schedule: Schedule, num_steps: int) -> Tensor:
    """Levels even in the schedule's own time, from its sigma_max to its sigma_min, then 0. Song et al. 2021
    (2011.13456), appendix C and D; for a variance-exploding schedule the same as `geometric`.

    Returns:
        (num_steps + 1,), float64, falling, the last 0.
    """
    first, last = schedule.time(torch.tensor([schedule.sigma_max, schedule.sigma_min], dtype=torch.float64)).tolist()
    return _ended(schedule.sigma(torch.linspace(first, last, _checked(num_steps), dtype=torch.float64)), 0.0)


def flow_spaced(schedule: Flow, num_steps: int, *, shift: float = 1.0) -> Tensor:
    """s = 1, 1 - 1/n, … 1/n, then 0, each moved to shift · s / (1 + (shift - 1) s). Esser et al. 2024 (2403.03206),
    eq. 23: larger pictures need more of their steps where there is much noise.

    Returns:
        (num_steps + 1,), float64, falling, the first `schedule.sigma_max`, the last 0.
    """
    s = torch.linspace(1, 1 / _checked(num_steps), num_steps, dtype=torch.float64)
    s = shift * s / (1 + (shift - 1) * s)
    return _ended(schedule.sigma(s * schedule.steps), 0.0)


def spaced(
    schedule: Discrete,
    num_steps: int,
    spacing: Spacing = "leading",
    *,
    offset: int = 0,
    spare: bool = False,
    whole: bool = True,
    final: float = 0.0,
) -> Tensor:
    """The noise levels at steps of the training chain, spread evenly. Lin et al. 2023 (2305.08891), table 2.

    `leading` takes every ⌊T/n⌋-th from the first, `trailing` every T/n-th from the last, `linspace` n from the first
    to the last. Stable Diffusion's checkpoints say leading with an offset of 1.

    Args:
        schedule: the training chain.
        num_steps: n, how many of its steps to visit.
        spacing: which.
        offset: added to the steps of `leading`.
        spare: spread n + 1 steps and leave out the last, as diffusers' DPM-Solver and UniPC do (not in `trailing`).
        whole: round the steps of `linspace`; diffusers' Euler, Euler-ancestral and Heun do not.
        final: the last noise level. 0 is the clean picture; diffusers' DDIM and PNDM stop at the chain's first level
            (`schedule.sigma_min`) where their `set_alpha_to_one` is false, as in Stable Diffusion's own checkpoints.

    Returns:
        (num_steps + 1,), float64, falling.

    Raises:
        UsageError: with fewer than one step, more than the chain has, or an unknown spacing.
    """
    steps, spare = len(schedule.alphas_cumprod), spare and spacing != "trailing"
    if _checked(num_steps) + spare > steps:
        raise UsageError(f"num_steps must be at most the {steps - spare} that this model was trained with")
    count = num_steps + spare
    if spacing == "leading":
        times = torch.arange(count, dtype=torch.float64).flip(0) * (steps // count) + offset
    elif spacing == "trailing":
        times = (steps - torch.arange(num_steps, dtype=torch.float64) * steps / num_steps).round() - 1
    elif spacing == "linspace":
        times = torch.linspace(steps - 1, 0, count, dtype=torch.float64) if count > 1 else torch.zeros(1).double()
        times = times.round() if whole else times
    else:
        raise UsageError(f"spacing must be one of {', '.join(SPACINGS)}, not {spacing!r}")
    return _ended(schedule.sigma(times[:num_steps].clamp(max=steps - 1)), final)


def _checked(num_steps: int) -> int:
    if num_steps < 1:
        raise UsageError(f"num_steps must be at least 1, not {num_steps}")
    return num_steps


def _ended(sigmas: Tensor, final: float) -> Tensor:
    return torch.cat([sigmas, sigmas.new_tensor([final])])


def _from_betas(betas: Tensor) -> Discrete:
    return Discrete((1 - betas).cumprod(0))


def _interpolate(at: Tensor, values: Tensor) -> Tensor:
    """`values` (T,) read at fractional places, linearly."""
    low = at.floor().long().clamp(0, len(values) - 2)
    return torch.lerp(values[low], values[low + 1], (at - low).clamp(0, 1))
