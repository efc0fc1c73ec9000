"""A mixture of Gaussians: data whose score is known at every noise level, to try and to watch samplers on."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixture:
    """Σ_k w_k N(μ_k, s_k² I). Noise of level σ only widens each of its Gaussians: s_k² becomes s_k² + σ².

    A mixture is its own `Denoiser`: calling it gives E[x0 | x] exactly.

    Args:
        means: μ, (K, D).
        deviations: s, (K,).
        weights: w, (K,), which sum to 1.
    """

    means: Tensor
    deviations: Tensor
    weights: Tensor

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        """Σ_k p(k | x, σ) (μ_k + s_k² / (s_k² + σ²) (x - μ_k)): (B, D), (B,) -> (B, D)."""
        variances = self.deviations**2
        shrink = variances / (variances + sigma[:, None] ** 2)
        each = self.means + shrink[..., None] * (x[:, None] - self.means)
        return (self.log_joint(x, sigma).softmax(1)[..., None] * each).sum(1)

    def log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x, k; σ): (B, D), (B,) -> (B, K), nats."""
        variances = self.deviations**2 + sigma[:, None] ** 2
        distances = (x[:, None] - self.means).square().sum(2)
        return self.weights.log() - distances / (2 * variances) - x.shape[1] / 2 * (2 * math.pi * variances).log()

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x; σ): (B, D), (B,) -> (B,), nats."""
        return self.log_joint(x, sigma).logsumexp(1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) clean points."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.deviations[which, None] * noise
