"""How likely a picture is, by the probability-flow ODE: a diffusion model as a continuous normalising flow."""

import math
from typing import Any

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, denoise, each_tensor
from vitrail.diffusion.integrate import integrate
from vitrail.diffusion.noise import Dice, noise_like


def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    cond: Any = None,
    *,
    probes: int | None = 1,
    generator: Dice = None,
    tolerance: float = 1e-5,
) -> Tensor:
    """log p(x; σ_min) = log N(x(σ_max); 0, σ_max² I) + ∫ ∇·(x - D) d log σ along the ODE from x up to σ_max.

    Song et al. 2021 (2011.13456), eq. 39 and appendix D.2. The divergence is an average over Rademacher probes v of
    vᵀ (v - ∇(vᵀ D)) (Skilling and Hutchinson; the same probes along the whole path, as in Grathwohl et al. 2019,
    1810.01367), or exact.

    Args:
        denoiser: of the model; it must let gradients through to x.
        x: (B, …), float32 or float64, at noise level `sigma_min`: data itself where that is negligible.
        sigma_min: where the path starts.
        sigma_max: where it ends; so large that x(σ_max) is taken for pure noise. What that neglects is about the
            length of the data's mean divided by σ_max, in nats.
        cond: handed to the denoiser.
        probes: how many; unbiased with any number, noisy with few. None takes every axis of x: exact, and as many
            backward passes as x has numbers.
        generator: where the probes are drawn, before anything else.
        tolerance: of the ODE solver.

    Returns:
        (B,), nats.
    """
    shape, size = x.shape, x[0].numel()
    if probes is None:
        directions = [axis.expand(len(x), size).reshape(shape) for axis in torch.eye(size).to(x)]
        weight = 1.0
    else:
        directions = [noise_like(x, generator).sign() for _ in range(probes)]
        weight = 1 / probes

    def slope(log_sigma: float, state: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            here = state[:, :size].detach().clone().reshape(shape).requires_grad_()
            x0 = denoise(denoiser, here, math.exp(log_sigma), each_tensor(Tensor.clone, cond))
            trace = torch.zeros_like(state[:, 0])
            for direction in directions:
                (gradient,) = torch.autograd.grad(x0, here, direction, retain_graph=True)
                trace = trace + weight * (gradient * direction).flatten(1).sum(1)
        return torch.cat([(here - x0).detach().flatten(1), (size - trace)[:, None]], 1)

    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
    state = integrate(slope, state, math.log(sigma_min), math.log(sigma_max), tolerance)
    noise, change = state[:, :size], state[:, size]
    prior = -(noise**2).sum(1) / (2 * sigma_max**2) - size * math.log(sigma_max * math.sqrt(2 * math.pi))
    return prior + change


def bits_per_dimension(log_likelihoods: Tensor, size: int, *, step: float = 2 / 256) -> Tensor:
    """-log₂ of the probability of the cell that a picture's values were rounded to, per value.

    Theis et al. 2016 (1511.01844), §3.1: the density of x + u, u uniform over the cell, times the cell's volume is a
    lower bound of the cell's probability.

    Args:
        log_likelihoods: (B,), nats, of pictures whose roundings were filled with uniform noise.
        size: how many values a picture has, such as 3 · 32 · 32.
        step: the distance between neighbouring values: 2 / 256 for bytes in [-1, 1], which adds 7 bits; 1 / 256 in
            [0, 1]; 1 for a density that stays one.

    Returns:
        (B,), bits.
    """
    return -log_likelihoods / (size * math.log(2)) - math.log2(step)
