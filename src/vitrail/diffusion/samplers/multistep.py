"""Samplers that remember: the clean pictures of earlier steps tell where the next one is heading, at no cost."""

import math
from typing import Any

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, denoise
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.samplers.run import Preview, move, steps


def dpm_2m(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """DPM-Solver++(2M): Euler's step towards the clean picture that half a step further on will show. Draws nothing.

    x' = σ'/σ x + (1 - σ'/σ) D̂ with D̂ = D + (D - D_before) / 2r, where h = log(σ/σ') and r = h_before / h.
    Lu et al. 2022 (2211.01095), algorithm 2. Second order. The first step, and one to σ' = 0, is Euler's.
    """
    return _dpm(denoiser, x, sigmas, cond, generator, preview, fresh=False)


def dpm_2m_sde(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """SDE-DPM-Solver++(2M): the ancestral step towards the same D̂ as `dpm_2m`.

    x' = e^{-2h} x + (1 - e^{-2h}) D̂ + σ' √(1 - e^{-2h}) n, e^{-h} = σ'/σ. Lu et al. 2022 (2211.01095), appendix B,
    in its "midpoint" form. Draws one noise a step, after the denoiser, where σ' > 0.
    """
    return _dpm(denoiser, x, sigmas, cond, generator, preview, fresh=True)


def _dpm(
    denoiser: Denoiser, x: Tensor, sigmas: Tensor, cond: Any, generator: Dice, preview: Preview | None, *, fresh: bool
) -> Tensor:
    before: tuple[float, Tensor] | None = None  # the noise level of the last step and what it saw
    for step, sigma, to in steps(sigmas):
        x0 = heading = denoise(denoiser, x, sigma, cond)
        if before is not None and to > 0:
            ratio = _log_ratio(before[0], sigma) / _log_ratio(sigma, to)
            heading = x0 + (x0 - before[1]) / (2 * ratio)
        if fresh and to > 0:
            x = move(x, heading, sigma, to**2 / sigma)
            x = x + to * (1 - (to / sigma) ** 2) ** 0.5 * noise_like(x, generator)
        else:
            x = move(x, heading, sigma, to)
        before = sigma, x0
        if preview:
            preview(step, x0)
    return x


def unipc(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    order: int = 2,
) -> Tensor:
    """UniPC with B(h) = e^h - 1: a multistep predictor, corrected by the picture that the next step sees anyway.

    Over a step from σ to σ', with h = log(σ/σ'), D(λ) is a polynomial in λ = -log σ through the pictures already seen
    (predictor: order p) and, once it is there, the one at σ' too (corrector: order p + 1); its integral
    x' = σ'/σ x + σ' ∫ e^λ D(λ) dλ is the step. Zhao et al. 2023 (2302.04867), eq. 3 and 8, algorithms 5-6. Draws
    nothing.

    Args:
        denoiser: as every sampler's, like what follows it.
        x: the noisy pictures.
        sigmas: the noise levels.
        cond: handed to the denoiser.
        generator: not used.
        preview: called after each step.
        order: p, of the predictor: 1, 2 or 3. The first steps are of the order that the past allows, the last of one.
    """
    seen: list[tuple[float, Tensor]] = []  # noise levels and clean pictures, the newest last
    start, from_sigma, last_order = x, 0.0, 0
    levels = list(steps(sigmas))
    for step, sigma, to in levels:
        x0 = denoise(denoiser, x, sigma, cond)
        if last_order:  # this step's picture completes the last step
            x = _unify(start, from_sigma, sigma, seen[-last_order:], x0)
        seen = [*seen, (sigma, x0)][-order:]
        last_order = min(order, len(seen), len(levels) - step + 1)
        start, from_sigma = x, sigma
        x = _unify(start, sigma, to, seen[-last_order:], None) if to > 0 else x0
        if preview:
            preview(step, x0)
    return x


def _unify(x: Tensor, sigma: float, to: float, seen: list[tuple[float, Tensor]], arrived: Tensor | None) -> Tensor:
    """One step from σ to σ' by the pictures `seen`, of which the last is at σ, and, if there, the one at σ'.

    Zhao et al. 2023, eq. 3 and 5: the differences of the pictures to that at σ, each over its distance r in units of h,
    are summed with the weights that make the powers of λ exact, Σ ρ r^{k-1} = b_k.
    """
    h = _log_ratio(sigma, to)
    current = seen[-1][1]
    distances = [_log_ratio(sigma, level) / h for level, _ in seen[:-1]]
    differences = [(picture - current) / r for r, (_, picture) in zip(distances, seen[:-1], strict=True)]
    if arrived is not None:
        distances, differences = [*distances, 1.0], [*differences, arrived - current]
    weights = _weights(distances, h)
    heading = current + sum(w * difference for w, difference in zip(weights, differences, strict=True))
    return move(x, heading, sigma, to)


def _weights(distances: list[float], h: float) -> list[float]:
    """ρ with Σ_m ρ_m r_m^{k-1} = b_k for k = 1, 2 …: the weights of the differences."""
    if len(distances) < 2:
        return [0.5] * len(distances)  # what b_1 tends to as h falls, of the same order: the authors' own shortcut
    exponents = torch.arange(len(distances), dtype=torch.float64)[:, None]
    powers = torch.tensor(distances, dtype=torch.float64) ** exponents
    return torch.linalg.solve(powers, torch.tensor(_moments(len(distances), h), dtype=torch.float64)).tolist()


def _moments(count: int, h: float) -> list[float]:
    """b_k = k! φ_{k+1}(-h) (-h) / (e^{-h} - 1), with φ_{k+1}(z) = (φ_k(z) - 1 / k!) / z and φ_1(z) = (e^z - 1) / z."""
    phi = math.expm1(-h) / -h
    moments = []
    for k in range(1, count + 1):
        phi = (phi - 1 / math.factorial(k)) / -h
        moments.append(math.factorial(k) * phi * h / -math.expm1(-h))
    return moments


def _log_ratio(sigma: float, to: float) -> float:
    """The distance between two noise levels in λ = -log σ."""
    return math.log(sigma / to)
