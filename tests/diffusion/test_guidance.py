"""Guidance against its equations, and against Bayes' rule where everything is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.diffusion.guidance import classifier, classifier_free
from vitrail.diffusion.mixture import Mixture
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.schedules import karras

MIXTURE = Mixture(torch.tensor([[-1.0, 0.5], [1.0, 0.0]]), torch.tensor([0.3, 0.6]), torch.tensor([0.4, 0.6]))


class Watched:
    """A denoiser that counts the rows it is asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        self.rows.append(len(x))
        assert len(x) == len(sigma) == len(cond)
        return torch.sin(x * cond + sigma[:, None])


X, SIGMA, COND = (
    torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    torch.tensor([2.0] * 3),
    torch.ones(3, 1),
)


def test_classifier_free_is_its_equation_in_one_batch():
    watched = Watched()
    negative = torch.tensor([[0.3]])
    result = classifier_free(watched, negative, 7.5)(X, SIGMA, COND)
    assert watched.rows == [6]
    positive, without = watched(X, SIGMA, COND), watched(X, SIGMA, negative.expand(3, 1))
    assert torch.allclose(result, without + 7.5 * (positive - without), atol=1e-6)


def test_scale_one_runs_the_condition_alone():
    watched = Watched()
    assert torch.equal(classifier_free(watched, torch.zeros(1, 1), 1.0)(X, SIGMA, COND), watched(X, SIGMA, COND))
    assert watched.rows == [3, 3]


@pytest.mark.parametrize(("level", "guided"), [(0.5, False), (0.51, True), (3.0, True), (3.1, False)])
def test_interval_is_open_below_and_closed_above(level: float, guided: bool):
    watched = Watched()
    classifier_free(watched, torch.zeros(1, 1), 4.0, interval=(0.5, 3.0))(X, torch.full((3,), level), COND)
    assert watched.rows == [6 if guided else 3]


def test_interval_holds_for_each_row():
    sigma = torch.tensor([0.1, 1.0, 9.0])
    partly = classifier_free(Watched(), torch.zeros(1, 1), 4.0, interval=(0.5, 3.0))(X, sigma, COND)
    fully = classifier_free(Watched(), torch.zeros(1, 1), 4.0)(X, sigma, COND)
    plain = Watched()(X, sigma, COND)
    assert torch.allclose(partly, torch.stack([plain[0], fully[1], plain[2]]))


def test_rescale_gives_back_the_deviation_of_the_conditional():
    plain = classifier_free(Watched(), torch.zeros(1, 1), 9.0)(X, SIGMA, COND)
    positive = Watched()(X, SIGMA, COND)
    whole = classifier_free(Watched(), torch.zeros(1, 1), 9.0, rescale=1.0)(X, SIGMA, COND)
    part = classifier_free(Watched(), torch.zeros(1, 1), 9.0, rescale=0.7)(X, SIGMA, COND)
    assert torch.allclose(whole.std(1), positive.std(1), atol=1e-6)
    assert torch.allclose(part, 0.7 * whole + 0.3 * plain, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda t: {"text": (t, t)}, lambda t: (t, {"pooled": t})])
def test_conditions_of_any_form(wrap: Any):
    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        flat = cond["text"] if isinstance(cond, dict) else (cond[0], cond[1]["pooled"])
        return Watched()(x, sigma, flat[0]) + flat[1]

    result = classifier_free(denoiser, wrap(torch.zeros(1, 1)), 3.0)(X, SIGMA, wrap(COND))
    bare = classifier_free(lambda x, sigma, cond: Watched()(x, sigma, cond) + cond, torch.zeros(1, 1), 3.0)
    assert torch.allclose(result, bare(X, SIGMA, COND))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_classifier_guidance_of_scale_one_is_bayes_rule(mode: Any):
    """The mixture's own p(k | x, σ) makes its denoiser that of component k alone: Dhariwal & Nichol's premise."""

    def log_probability(x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        return MIXTURE.log_joint(x, sigma).log_softmax(1)[torch.arange(len(x)), cond]

    with mode():
        x, sigma = torch.randn(6, 2), torch.tensor([0.2, 0.5, 1.0, 2.0, 5.0, 0.1])
        guided = classifier(MIXTURE, log_probability, 1.0)(x, sigma, torch.ones(6, dtype=torch.int64))
        alone = Mixture(MIXTURE.means[1:], MIXTURE.deviations[1:], torch.ones(1))(x, sigma)
    assert torch.allclose(guided, alone, atol=1e-5)


def test_guided_samples_are_of_the_class():
    def denoiser(x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """cond 1 is the second component alone, cond 0 both."""
        alone = Mixture(MIXTURE.means[1:], MIXTURE.deviations[1:], torch.ones(1))(x, sigma)
        return torch.where(cond > 0, alone, MIXTURE(x, sigma))

    dice = torch.Generator().manual_seed(0)
    start = 20 * torch.randn(3000, 2, generator=dice)
    means = []
    for scale in (0.0, 1.0, 3.0):
        guided = classifier_free(denoiser, torch.zeros(1, 1), scale)
        points = SAMPLERS["heun"](guided, start, karras(0.01, 20, 25), torch.ones(3000, 1))
        means.append(points[:, 0].mean().item())
    assert means[0] == pytest.approx(0.2, abs=0.06)  # the mixture's mean, 0.4 · -1 + 0.6 · 1
    assert means[1] == pytest.approx(1.0, abs=0.06)
    assert means[2] > 1.1  # further from the other component than the data itself
