"""Whatever a network says, the denoiser made of it is the one that it was made from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.diffusion import parameterisations, schedules
from vitrail.diffusion.denoiser import score
from vitrail.diffusion.mixture import Mixture

MIXTURE = Mixture(
    torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64),
    torch.tensor([0.3, 0.6], dtype=torch.float64),
    torch.tensor([0.4, 0.6], dtype=torch.float64),
)
DISCRETE = schedules.scaled_linear()


def epsilon(seen: Tensor, x0: Tensor, alpha: Tensor, deviation: Tensor) -> Tensor:
    return (seen - alpha * x0) / deviation


def velocity(seen: Tensor, x0: Tensor, alpha: Tensor, deviation: Tensor) -> Tensor:
    return alpha * epsilon(seen, x0, alpha, deviation) - deviation * x0


def clean(seen: Tensor, x0: Tensor, alpha: Tensor, deviation: Tensor) -> Tensor:
    return x0


def flow(seen: Tensor, x0: Tensor, alpha: Tensor, deviation: Tensor) -> Tensor:
    return epsilon(seen, x0, alpha, deviation) - x0


@pytest.mark.parametrize(
    ("says", "schedule", "level"),
    [
        (epsilon, DISCRETE, DISCRETE.sigmas[700].item()),
        (velocity, DISCRETE, DISCRETE.sigmas[100].item()),
        (clean, DISCRETE, DISCRETE.sigmas[999].item()),
        (epsilon, schedules.SubVP(), 0.8),
        (epsilon, schedules.VarianceExploding(), 3.0),
        (flow, schedules.Flow(), 0.7),
        (flow, schedules.Flow(steps=1), 100.0),
    ],
)
def test_denoiser_of_a_network_of_a_denoiser(says: Callable[..., Tensor], schedule: schedules.Schedule, level: float):
    """A network that sees α x0 + √ n and says what its equation says, of the exact x0."""
    sigma = torch.full((5,), level, dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64) * level
    alpha = schedule.scale(sigma)[:, None]

    def network(seen: Tensor, time: Tensor, cond: Any) -> Tensor:
        assert torch.allclose(seen, alpha * x)
        assert torch.allclose(schedule.sigma(time).double(), sigma, rtol=1e-4)
        assert cond == "as given"
        return says(seen, MIXTURE(x, sigma), alpha, alpha * level)

    denoiser = getattr(parameterisations, says.__name__)(network, schedule)
    assert torch.allclose(denoiser(x, sigma, "as given"), MIXTURE(x, sigma))


def test_score_of_the_mixture_is_the_gradient_of_its_density():
    """Tweedie's formula; and a network that says that score is the mixture's denoiser."""
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(MIXTURE.log_density(x, sigma).sum(), x)
    for row in range(3):
        assert torch.allclose(score(MIXTURE, x[row : row + 1], sigma[row].item()), gradient[row : row + 1])
    denoiser = parameterisations.score(lambda x, sigma, cond: gradient)
    assert torch.allclose(denoiser(x, sigma, None), MIXTURE(x, sigma))


@pytest.mark.parametrize("level", [1e-3, 0.5, 50.0])
def test_preconditioned_is_the_score_under_little_noise_and_the_picture_under_much(level: float):
    """A network of the exact denoiser, by eq. 7 solved for F; what it sees and says is of unit size."""
    sigma = torch.full((200,), level, dtype=torch.float64)
    x0 = 0.5 * torch.randn(200, 2, dtype=torch.float64)
    x = x0 + level * torch.randn(200, 2, dtype=torch.float64)
    spread = (level**2 + 0.5**2) ** 0.5

    def network(seen: Tensor, time: Tensor, cond: Any) -> Tensor:
        assert torch.equal(time, sigma)
        assert seen.std().item() == pytest.approx(1, abs=0.15)
        said = (x0 - 0.25 / spread**2 * x) / (0.5 * level / spread)
        assert said.std().item() == pytest.approx(1, abs=0.15)
        if level == 1e-3:
            torch.testing.assert_close(said / level, (x0 - x) / level**2, rtol=0.02, atol=20)
        if level == 50:
            torch.testing.assert_close(said, 2 * x0, rtol=0.02, atol=0.06)
        return said / level

    torch.testing.assert_close(parameterisations.preconditioned(network)(x, sigma, None), x0)


def test_clipped_holds_pictures_to_their_range():
    denoiser = parameterisations.clipped(lambda x, sigma, cond: x, 2.0)
    assert denoiser(torch.tensor([[-3.0, 0.5, 7.0]]), torch.ones(1), None).tolist() == [[-2.0, 0.5, 2.0]]
