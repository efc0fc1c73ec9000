"""Samplers that solve the probability-flow ODE dx/dσ = (x - D(x, σ)) / σ by the textbook.

Karras et al. 2022 (2206.00364), eq. 1 and 3 with σ(t) = t: the deterministic path that has the same distribution at
every noise level as the noising itself.
"""

import math
from typing import Any

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, denoise
from vitrail.diffusion.integrate import integrate
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.samplers.run import PURE_NOISE, Preview, move, steps


def heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    churn: float = 0.0,
    churn_between: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
) -> Tensor:
    """Euler's step, then again with the mean of the slopes at both ends. Karras et al. 2022 (2206.00364), algorithm 2.

    d = (x - D(x, σ)) / σ, x₁ = x + (σ' - σ) d, d' = (x₁ - D(x₁, σ')) / σ', x' = x + (σ' - σ) (d + d') / 2. Second
    order, two looks a step; a step to σ' = 0, or from nothing but noise, is Euler's. With `churn` each step first adds
    noise, up to σ̂ = (1 + min(churn / n, √2 - 1)) σ: one draw a step, before the denoiser.

    Args:
        denoiser: as every sampler's, like what follows it.
        x: the noisy pictures.
        sigmas: the noise levels.
        cond: handed to the denoiser.
        generator: where the noise of `churn` is drawn.
        preview: called after each step.
        churn: S_churn; 0 is the ODE.
        churn_between: S_tmin and S_tmax, the noise levels at which to churn.
        churn_noise: S_noise, the standard deviation of what is drawn.
    """
    for step, sigma, to in steps(sigmas):
        if churn and churn_between[0] <= sigma <= churn_between[1]:
            raised = sigma * (1 + min(churn / (len(sigmas) - 1), 2**0.5 - 1))
            x = x + (raised**2 - sigma**2) ** 0.5 * churn_noise * noise_like(x, generator)
            sigma = raised
        x0 = denoise(denoiser, x, sigma, cond)
        ahead = move(x, x0, sigma, to)
        if to > 0 and sigma < PURE_NOISE:
            slopes = (x - x0) / sigma + (ahead - denoise(denoiser, ahead, to, cond)) / to
            ahead = x + (to - sigma) * slopes / 2
        x = ahead
        if preview:
            preview(step, x0)
    return x


def pndm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """Adams-Bashforth's steps on the noise ε = (x - D) / σ: x' = x + (σ' - σ) ε̂. Draws nothing.

    ε̂ is (55 ε - 59 ε₁ + 37 ε₂ - 9 ε₃) / 24 of the four newest; (23 ε - 16 ε₁ + 5 ε₂) / 12 and (3 ε - ε₁) / 2 while the
    past is short; and on the first of several steps Heun's mean of both ends, at the cost of a second look. Liu et al.
    2022 (2202.09778), eq. 9 and 12-13, without their Runge-Kutta start: latent diffusion's PLMS, and diffusers' PNDM
    with `skip_prk_steps`, the default of Stable Diffusion 1.5.
    """
    past: list[Tensor] = []  # the noises seen, the newest first
    for step, sigma, to in steps(sigmas):
        x0 = denoise(denoiser, x, sigma, cond)
        if sigma > PURE_NOISE:
            x = move(x, x0, sigma, to)
        else:
            past = [(x - x0) / sigma, *past][:4]
            slope = sum((w * noise for w, noise in zip(_ADAMS[len(past)], past, strict=True)), torch.zeros_like(x))
            if len(past) == 1 and to > 0 and len(sigmas) > 2:
                ahead = x + (to - sigma) * slope
                slope = (slope + (ahead - denoise(denoiser, ahead, to, cond)) / to) / 2
            x = x + (to - sigma) * slope
        if preview:
            preview(step, x0)
    return x


_ADAMS = {1: (1,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


def ode(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    tolerance: float = 1e-5,
) -> Tensor:
    """The probability-flow ODE solved to a tolerance, whatever that takes. Song et al. 2021 (2011.13456), §4.3, D.4.

    Dormand and Prince's pair of order 5(4) chooses its own steps in log σ, where dx/d log σ = x - D; between them, the
    `sigmas` only say where it starts, ends and shows what it sees. A step to σ' = 0 is a look: x' = D. Draws nothing.

    Args:
        denoiser: as every sampler's, like what follows it.
        x: the noisy pictures.
        sigmas: the noise levels.
        cond: handed to the denoiser.
        generator: not used.
        preview: called at each of `sigmas`.
        tolerance: how far a step may be off, relative to x and absolutely, in root mean square.
    """

    def slope(log_sigma: float, x: Tensor) -> Tensor:
        return x - denoise(denoiser, x, math.exp(log_sigma), cond)

    for step, sigma, to in steps(sigmas):
        x0 = denoise(denoiser, x, sigma, cond) if preview or to == 0 else x
        x = integrate(slope, x, math.log(sigma), math.log(to), tolerance) if to > 0 else x0
        if preview:
            preview(step, x0)
    return x
