"""Samplers that follow the score by Langevin dynamics: ∇ log p(x; σ) = (D - x) / σ² uphill, with noise beside it."""

from typing import Any

from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, denoise, rows, score
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.samplers.run import Preview, steps


def langevin(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    repeats: int = 5,
    step_size: float = 0.062,
) -> Tensor:
    """Annealed Langevin dynamics: at each noise level, `repeats` times x ← x + α s(x) + √(2α) n, α = step_size · σ².

    Song & Ermon 2019 (1907.05600), algorithm 1 (α there is half of this one), and 2020 (2006.09011), algorithm 1, whose
    T = 5 and ε / σ_L² = 0.062 for CIFAR-10 are the defaults here. Where the levels end in 0 the last x is denoised,
    x' = D (2020, §3.5, after Jolicoeur-Martineau et al.). Draws one noise a repeat, after the denoiser.

    Args:
        denoiser: as every sampler's, like what follows it.
        x: the noisy pictures.
        sigmas: the noise levels, best in one ratio (`schedules.geometric`) not far from 1.
        cond: handed to the denoiser.
        generator: where the noise is drawn.
        preview: called after each level.
        repeats: T, how many steps to take at each level.
        step_size: how long they are in units of σ²; below 1.
    """
    for step, sigma, to in steps(sigmas):
        for _ in range(repeats):
            x0 = denoise(denoiser, x, sigma, cond)
            x = x + step_size * (x0 - x) + (2 * step_size) ** 0.5 * sigma * noise_like(x, generator)
        if to == 0:
            x = x0 = denoise(denoiser, x, sigma, cond)
        if preview:
            preview(step, x0)
    return x


def predictor_corrector(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    corrections: int = 1,
    signal_to_noise: float = 0.16,
) -> Tensor:
    """The reverse SDE's step, after Langevin steps that correct what the last one left.

    Corrector: x ← x + α s(x) + √(2α) n with α = 2 (r |n| / |s|)², r the signal-to-noise ratio; predictor:
    x' = x + (σ² - σ'²) s(x) + √(σ² - σ'²) n, without the noise where σ' = 0. Song et al. 2021 (2011.13456),
    algorithms 2 and 4, eq. 46 (reverse diffusion). |n| and |s| are each row's own, so that a picture does not depend on
    its neighbours; the reference takes the batch's means, which for one picture is the same. Draws one noise a
    correction and one a prediction, each after its denoiser.

    Args:
        denoiser: as every sampler's, like what follows it.
        x: the noisy pictures.
        sigmas: the noise levels (`schedules.geometric`).
        cond: handed to the denoiser.
        generator: where the noise is drawn.
        preview: called after each step.
        corrections: M, Langevin steps before each prediction.
        signal_to_noise: r; 0.16 for CIFAR-10, 0.075 for pictures of 256 pixels (the same, appendix G).
    """
    for step, sigma, to in steps(sigmas):
        for _ in range(corrections):
            uphill = score(denoiser, x, sigma, cond)
            noise = noise_like(x, generator)
            size = 2 * (signal_to_noise * _norm(noise) / _norm(uphill)) ** 2
            x = x + size * uphill + (2 * size).sqrt() * noise
        x0 = denoise(denoiser, x, sigma, cond)
        x = x0 + (to / sigma) ** 2 * (x - x0)  # x + (σ² - σ'²) s(x), exact where σ' is 0
        if to > 0:
            x = x + (sigma**2 - to**2) ** 0.5 * noise_like(x, generator)
        if preview:
            preview(step, x0)
    return x


def _norm(values: Tensor) -> Tensor:
    """(B, …) -> (B, 1, …): the length of each row."""
    return rows(values.flatten(1).norm(dim=1), values)
