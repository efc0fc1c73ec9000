"""Likelihoods by the probability-flow ODE against the density itself."""

import math

import pytest
import torch

from vitrail.diffusion.likelihood import bits_per_dimension, log_likelihood
from vitrail.diffusion.mixture import Mixture

MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.5, 0.0], [1.0, 0.0, 0.2]], dtype=torch.float64),
    torch.tensor([0.3, 0.6], dtype=torch.float64),
    torch.tensor([0.4, 0.6], dtype=torch.float64),
)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_exact_trace_gives_the_exact_density(mode):
    with mode():
        x = MIXTURE.sample(6, torch.Generator().manual_seed(0))
        found = log_likelihood(MIXTURE, x, 0.05, 1e5, probes=None, tolerance=1e-7)
        exact = MIXTURE.log_density(x, torch.full((6,), 0.05, dtype=torch.float64))
    assert torch.allclose(found, exact, atol=1e-5)


def test_random_probes_are_right_on_average():
    x = torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64).expand(3000, 3)
    found = log_likelihood(MIXTURE, x, 0.05, 1e4, probes=1, generator=torch.Generator().manual_seed(0))
    exact = MIXTURE.log_density(x[:1], torch.tensor([0.05], dtype=torch.float64)).item()
    assert found.std() > 1e-3  # each alone is not
    assert found.mean().item() == pytest.approx(exact, abs=5 * (found.std() / 3000**0.5).item())


def test_bits_per_dimension_of_bytes():
    """Pixels of N(0, s²) cost log₂(s √(2πe) / step) bits each, the entropy of the rounded Gaussian."""
    deviation = 0.25

    def denoiser(x, sigma, cond):
        return x * (deviation**2 / (deviation**2 + sigma**2)).reshape(-1, 1, 1, 1)

    pictures = deviation * torch.randn(400, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pictures = pictures / pictures.square().mean().sqrt() * deviation  # so that the average is exact
    found = log_likelihood(denoiser, pictures, 1e-3, 100.0, probes=1, generator=torch.Generator().manual_seed(1))
    bits = bits_per_dimension(found, 18)
    assert bits.shape == (400,)
    assert bits.mean().item() == pytest.approx(math.log2(deviation * math.sqrt(2 * math.pi * math.e) * 128), abs=1e-3)
    assert torch.allclose(bits_per_dimension(found, 18, step=1 / 256), bits + 1)
