"""The cross entropy of a Gaussian and a diffused Gaussian prior, whose score is known exactly."""

import math

import pytest
import torch

from vitrail.diffusion.cross_entropy import GeometricVP, cross_entropy, likelihood_weight, mixed
from vitrail.diffusion.denoiser import rows

DIFFUSION = GeometricVP(variance_min=1e-4, variance_max=0.9999)


def exact_noise(noisy: torch.Tensor, time: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
    """ε(z_t, t) = -√v_t ∇ log p(z_t) where p(z_0) is N(mean, variance) in every dimension."""
    noise = rows(DIFFUSION.variance(time), noisy)
    return noise.sqrt() * (noisy - (1 - noise).sqrt() * mean) / ((1 - noise) * variance + noise)


@pytest.mark.parametrize(("prior_mean", "prior_variance"), [(0.0, 1.0), (0.7, 0.4), (-0.5, 2.0)])
def test_it_is_the_closed_form_for_gaussians(prior_mean, prior_variance):
    count, dimensions = 100_000, 4
    mean, variance = 0.3, 0.09  # q(z_0 | x)
    time = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    clean = mean + variance**0.5 * torch.randn(count, dimensions, dtype=torch.float64)
    noise = torch.randn(count, dimensions, dtype=torch.float64)
    noisy = DIFFUSION.diffuse(clean, noise, time)
    said = exact_noise(noisy, time, prior_mean, prior_variance)
    found = cross_entropy((noise - said).square().sum(1), time, dimensions, DIFFUSION).mean().item()
    a_dimension = 0.5 * math.log(2 * math.pi * prior_variance)
    a_dimension += (variance + (mean - prior_mean) ** 2) / (2 * prior_variance)
    assert found == pytest.approx(dimensions * a_dimension, abs=0.1)


def test_a_wrong_score_costs_more():
    count = 50_000
    time = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    clean, noise = torch.randn(2, count, 3, dtype=torch.float64)
    clean = 0.5 + 0.3 * clean
    noisy = DIFFUSION.diffuse(clean, noise, time)
    costs = [
        cross_entropy((noise - exact_noise(noisy, time, at, 0.09)).square().sum(1), time, 3, DIFFUSION).mean().item()
        for at in (0.5, 0.8, 1.1)
    ]
    assert costs[0] < costs[1] - 0.5 < costs[2] - 1


def test_without_mixing_the_prior_is_the_standard_normal_s_own():
    noisy, network, time = torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2), torch.rand(5)
    variance = DIFFUSION.variance(time)
    noise = mixed(noisy, network, torch.zeros(3, 1, 1), variance)
    torch.testing.assert_close(-noise / rows(variance, noisy).sqrt(), -noisy)  # the score of N(0, 1)
    torch.testing.assert_close(mixed(noisy, network, torch.ones(3, 1, 1), variance), network)
    half = mixed(noisy, network, torch.full((3, 1, 1), 0.5), variance)
    torch.testing.assert_close(half, (noise + network) / 2)


def test_the_integrand_is_flat_for_standard_normal_data():
    count = 200_000
    clean, noise = torch.randn(2, count, dtype=torch.float64)
    costs = []
    for at in (0.05, 0.5, 0.95):
        time = torch.full((count,), at, dtype=torch.float64)
        noisy = DIFFUSION.diffuse(clean, noise, time)
        error = (noise - exact_noise(noisy, time, 0.0, 1.0)).square()
        costs.append((likelihood_weight(time, DIFFUSION) * error).mean().item() / DIFFUSION.span)
    assert costs == pytest.approx([1, 1, 1], abs=0.02)


def test_it_is_a_schedule():
    time = torch.linspace(0, 1, 7, dtype=torch.float64)
    sigma = DIFFUSION.sigma(time)
    assert sigma[0].item() == pytest.approx(DIFFUSION.sigma_min)
    assert sigma[-1].item() == pytest.approx(DIFFUSION.sigma_max)
    torch.testing.assert_close(DIFFUSION.time(sigma), time)
    clean, noise = torch.randn(2, 7, 4, dtype=torch.float64)
    expected = rows(DIFFUSION.scale(sigma), clean) * (clean + rows(sigma, clean) * noise)
    torch.testing.assert_close(DIFFUSION.diffuse(clean, noise, time), expected)
