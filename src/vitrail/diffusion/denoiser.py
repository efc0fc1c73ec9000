"""What every sampler asks of a model: the clean picture it sees in a noisy one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: (x (B, …), sigma (B,), cond) -> x0 (B, …), the mean of the clean pictures that x = x0 + σ n may have come from,
#: E[x0 | x]. `cond` is None, a tensor or a tuple or dict of tensors, rows first. By Tweedie's formula a denoiser is a
#: score: ∇ log p(x; σ) = (D(x, σ) - x) / σ².
Denoiser = Callable[[Tensor, Tensor, Any], Tensor]


def each_tensor(function: Callable[[Tensor], Tensor], cond: Any) -> Any:
    """A condition of the same form with `function` on each of its tensors."""
    if isinstance(cond, dict):
        return {name: each_tensor(function, values) for name, values in cond.items()}
    if isinstance(cond, tuple):
        return tuple(each_tensor(function, values) for values in cond)
    return function(cond) if isinstance(cond, Tensor) else cond


def rows(values: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, …) with as many axes as `like` (B, …), so that each row is multiplied by its own number."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def denoise(denoiser: Denoiser, x: Tensor, sigma: float, cond: Any = None) -> Tensor:
    """The clean pictures in `x` (B, …), all at the same noise level."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return denoiser(x, torch.full((len(x),), sigma, device=x.device, dtype=dtype), cond)


def score(denoiser: Denoiser, x: Tensor, sigma: float, cond: Any = None) -> Tensor:
    """∇ log p(x; σ) (B, …), by Tweedie's formula. Robbins 1956; Karras et al. 2022 (2206.00364), eq. 3."""
    return (denoise(denoiser, x, sigma, cond) - x) / sigma**2
