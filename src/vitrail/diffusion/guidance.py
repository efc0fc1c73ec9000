"""Guidance: functions from a denoiser to a denoiser that follows its condition more closely."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, each_tensor, rows


def classifier_free(
    denoiser: Denoiser,
    negative: Any,
    scale: float,
    *,
    rescale: float = 0.0,
    interval: tuple[float, float] = (0.0, math.inf),
) -> Denoiser:
    """D_neg + w (D_cond - D_neg). Ho & Salimans 2022 (2207.12598), eq. 6, with w = 1 + their weight.

    Both conditions go through the network in one batch, the negative half first; at w = 1, and outside the interval,
    only the condition itself does. Being linear it may as well wrap a bare network (x_in, t, cond), whose output is
    then what is guided: the same but for `rescale`, which diffusers applies there, and for `interval`, then in t.

    Args:
        denoiser: what is guided; `cond` is given to the guided denoiser as to this one.
        negative: the condition to move away from, usually of the empty text: as `cond`, with B rows or one.
        scale: w; 1 does nothing.
        rescale: φ. The guided prediction is scaled towards the standard deviation of the conditional one, which large w
            inflates: φ · x std(D_cond) / std(x) + (1 - φ) · x. Lin et al. 2023 (2305.08891), eq. 15-16.
        interval: (low, high]: the noise levels σ at which to guide. Kynkäänniemi et al. 2024 (2404.07724), eq. 6.

    Returns:
        The guided denoiser.
    """
    low, high = interval

    def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        inside = (sigma > low) & (sigma <= high)
        if scale == 1 or not inside.any():
            return denoiser(x, sigma, cond)
        spread = each_tensor(lambda values: values.expand(len(x), *values.shape[1:]), negative)
        without, positive = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), _joined(spread, cond)).chunk(2)
        result = without + scale * (positive - without)
        if rescale:
            ratio = positive.flatten(1).std(1) / result.flatten(1).std(1)
            result = result * rows(rescale * ratio + 1 - rescale, x)
        return torch.where(rows(inside, x), result, positive)

    return guided


def classifier(denoiser: Denoiser, log_probability: Callable[[Tensor, Tensor, Any], Tensor], scale: float) -> Denoiser:
    """D + w σ² ∇ₓ log p(cond | x, σ). Dhariwal & Nichol 2021 (2105.05233), eq. 14, in terms of the clean picture.

    Args:
        denoiser: what is guided; it is given `cond` too.
        log_probability: (x (B, …), sigma (B,), cond) -> (B,): how well noisy pictures fit the condition, by a
            classifier that was trained on noisy pictures in the samplers' frame.
        scale: w; 1 is Bayes' rule.

    Returns:
        The guided denoiser. It works under `torch.no_grad` and `torch.inference_mode`.
    """

    def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            free = x.detach().clone().requires_grad_()
            fit = log_probability(free, sigma.clone(), each_tensor(Tensor.clone, cond))
            (gradient,) = torch.autograd.grad(fit.sum(), free)
        return denoiser(x, sigma, cond) + scale * rows(sigma, x) ** 2 * gradient

    return guided


def _joined(first: Any, second: Any) -> Any:
    """Two conditions of one form, one after the other."""
    if isinstance(first, dict):
        return {name: _joined(first[name], second[name]) for name in first}
    if isinstance(first, tuple):
        return tuple(_joined(one, other) for one, other in zip(first, second, strict=True))
    return None if first is None else torch.cat([first, second])
