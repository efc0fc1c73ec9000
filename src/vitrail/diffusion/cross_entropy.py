"""How many nats a diffusion prior takes for a distribution: the cross entropy, and the diffusion that finds it best.

Vahdat, Kreis and Kautz, "Score-based Generative Modeling in Latent Space", NeurIPS 2021 (2106.05931), §3.1 and
appendix B.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from vitrail.diffusion.denoiser import rows


@dataclass(frozen=True)
class GeometricVP:
    """The variance-preserving diffusion whose noise grows by a fixed ratio. Vahdat et al. 2021, appendix B.

    z_t = √(1 - v_t) z_0 + √v_t ε with v_t = v_0 (v_1 / v_0)^t, t from 0 to 1. Evenly spread times are then the best to
    find a likelihood at: for standard normal data the integrand of `cross_entropy` is the same everywhere.

    In the samplers' frame the noise level is √(v / (1 - v)): it is a `Schedule`.

    Args:
        variance_min: v_0, above 0: at no noise at all a likelihood has no bound.
        variance_max: v_1, below 1.
    """

    variance_min: float = 3e-5
    variance_max: float = 0.999

    @property
    def span(self) -> float:
        """log (v_1 / v_0), which is g(t)² (1 - v_t) / v_t at every time."""
        return math.log(self.variance_max / self.variance_min)

    def variance(self, time: Tensor) -> Tensor:
        """(…) times from 0 to 1 -> v_t."""
        return self.variance_min * (self.span * time).exp()

    @property
    def sigma_min(self) -> float:
        """The noise level at t = 0."""
        return math.sqrt(self.variance_min / (1 - self.variance_min))

    @property
    def sigma_max(self) -> float:
        """The noise level at t = 1."""
        return math.sqrt(self.variance_max / (1 - self.variance_max))

    def sigma(self, time: Tensor) -> Tensor:
        """(…) times from 0 to 1 -> noise levels."""
        variance = self.variance(time)
        return (variance / (1 - variance)).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """(…) noise levels -> times from 0 to 1."""
        variance = sigma**2 / (1 + sigma**2)
        return ((variance / self.variance_min).clamp(min=1e-20).log() / self.span).clamp(0, 1)

    def scale(self, sigma: Tensor) -> Tensor:
        """√(1 - v) = 1 / √(1 + σ²)."""
        return (1 + sigma**2).rsqrt()

    def diffuse(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """z_t (B, …) of z_0 and ε, (B, …) each, at times (B,)."""
        variance = rows(self.variance(time), clean)
        return (1 - variance).sqrt() * clean + variance.sqrt() * noise


def cross_entropy(error: Tensor, time: Tensor, dimensions: int, diffusion: GeometricVP) -> Tensor:
    """What a prior takes for a point, seen at one time: an unbiased guess of CE(q(z_0 | x) ‖ p(z_0)) for even times.

    Theorem 1 with its score as noise (eq. 8): D/2 log(2πe v_0) + ½ E_t[w_ll(t) ‖ε - ε_θ(z_t, t)‖²], with the likelihood
    weighting w_ll = g² / v_t = log(v_1 / v_0) / (1 - v_t).

    Args:
        error: ‖ε - ε_θ(z_t, t)‖², (B,), summed over the dimensions.
        time: t, (B,), drawn evenly from [0, 1).
        dimensions: D, of a z_0.
        diffusion: what makes z_t of z_0.

    Returns:
        (B,), in nats.
    """
    constant = dimensions / 2 * math.log(2 * math.pi * math.e * diffusion.variance_min)
    return constant + likelihood_weight(time, diffusion) / 2 * error


def likelihood_weight(time: Tensor, diffusion: GeometricVP) -> Tensor:
    """w_ll(t) of Table 1, (…)."""
    return diffusion.span / (1 - diffusion.variance(time))


def mixed(noisy: Tensor, said: Tensor, mixing: Tensor, variance: Tensor) -> Tensor:
    """The noise by a prior that is part standard normal and part network, multiplied and not added (§3.2).

    p(z_t) ∝ N(z_t; 0, 1)^(1 - α) p'(z_t)^α, so ε = (1 - α) √v_t z_t + α ε'(z_t, t). At α = 0 it is the standard
    normal's own, whose score is -z_t at every time.

    Args:
        noisy: z_t, (B, …).
        said: ε'(z_t, t), what the network says, (B, …).
        mixing: α in [0, 1], of a shape that broadcasts to (B, …).
        variance: v_t, (B,).
    """
    return (1 - mixing) * rows(variance, noisy).sqrt() * noisy + mixing * said
