"""Inpainting with a network that was never trained for it: what is known of a picture is put in at every step."""

import math
from typing import Any

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, rows


def inpainting(denoiser: Denoiser, known: Tensor, noise: Tensor, mask: Tensor, *, below: float = math.inf) -> Denoiser:
    """m D(m x + (1 - m) (known + σ n)) + (1 - m) known: only where the mask is 1 is anything unknown.

    Lugmayr et al. 2022 (2201.09865), eq. 8, without their resampling, and with one noise for all levels, as diffusers
    has it: a sampler that adds no noise then carries known + σ n through every step by itself.

    Args:
        denoiser: what is asked for the rest.
        known: the clean picture, (B, …).
        noise: standard normal, (B, …).
        mask: 1 where the picture is painted, 0 where it is known; broadcast to (B, …).
        below: the noise level below which what is known is put in: a run from nothing but noise begins with just that.
    """

    def filled(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        level = rows(sigma, x)
        seen = torch.where(level < below, mask * x + (1 - mask) * (known + level * noise), x)
        return mask * denoiser(seen, sigma, cond) + (1 - mask) * known

    return filled
