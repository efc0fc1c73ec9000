"""A mixture on a line, whose probability-flow ODE is solved by its quantiles: noise keeps their order."""

import torch
from torch import Tensor

from vitrail.diffusion.mixture import Mixture

LINE = Mixture(
    torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64),
    torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64),
    torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64),
)


def below(x: Tensor, sigma: Tensor | float) -> Tensor:
    """The probability that a point with noise of level sigma on it lies below x (N,)."""
    deviations = (LINE.deviations**2 + torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2).sqrt()
    return (LINE.weights * torch.special.ndtr((x.double()[:, None] - LINE.means[:, 0]) / deviations)).sum(1)


def quantile(probability: Tensor, sigma: float) -> Tensor:
    """The inverse of `below`, by bisection: (N,) -> (N,)."""
    low, high = torch.full_like(probability, -500.0), torch.full_like(probability, 500.0)
    for _ in range(60):
        middle = (low + high) / 2
        under = below(middle, sigma) < probability
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    return (low + high) / 2


def path(x: Tensor, sigma: float, to: float) -> Tensor:
    """Where the probability-flow ODE leads: from x (N, 1) at one noise level to another."""
    return quantile(below(x[:, 0], sigma), to)[:, None]


def distance(points: Tensor, sigma: float = 0.0) -> float:
    """Kolmogorov and Smirnov's: the largest difference between the points' distribution and the true one."""
    ordered = points.flatten().sort().values
    return (below(ordered, sigma) - (torch.arange(len(ordered)) + 0.5) / len(ordered)).abs().max().item()
