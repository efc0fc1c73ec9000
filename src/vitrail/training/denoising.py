"""Make pictures from noise by taking noise from pictures: what is minimised for that, and how well it does."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.diffusion import parameterisations
from vitrail.diffusion.denoiser import Denoiser, rows
from vitrail.diffusion.guidance import classifier_free
from vitrail.diffusion.likelihood import bits_per_dimension, log_likelihood
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.schedules import (
    Discrete,
    Flow,
    Schedule,
    VarianceExploding,
    cosine,
    flow_spaced,
    geometric,
    linear,
    scaled_linear,
    spaced,
)
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.generation import GenerationScores, Made
from vitrail.models.ddpm import DDPM
from vitrail.models.dit import DiT
from vitrail.models.model import Model
from vitrail.models.ncsnpp import NCSNpp
from vitrail.settings import Section
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of
from vitrail.training.randomness import evenly_spread, generator_for
from vitrail.training.sheet import picture_sheet

_LEVELS = 4  # of noise, at which the loss of a test picture is taken
_GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly
_FIRST, _LAST = 1e-3, 1 - 1e-6  # of a flow's times: at 0 there is nothing to learn, at 1 the noise level is infinite
_CLEAN, _NOISE = 2e-3, 200.0  # noise levels between which likelihoods are taken: about a byte's rounding, and all noise
_TOLERANCE = 1e-4
_SCORES = {"score": parameterisations.score, "preconditioned": parameterisations.preconditioned}
"""What a network says that divides by the noise level itself."""


class SamplingSection(Section):
    """How pictures are made in a test.

    Attributes:
        sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`.
        num_steps: from noise to picture.
        guidance_scale: of a network that is told classes, and in training sometimes was not; 1 is no guidance.
    """

    sampler: str = "ddim"
    num_steps: Annotated[int, Field(ge=1)] = 50
    guidance_scale: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"there is no sampler '{self.sampler}'; there are {', '.join(SAMPLERS)}")
        return self


class DenoisingSection(Objective):
    """The squared error of what a network says about a noisy picture, at noise levels drawn from the schedule's.

    Whatever the network says, the error is taken of the clean picture D(x; σ) that follows from it
    (`vitrail.diffusion.parameterisations`), and weighted so that it is the error of what was said: ‖D - x0‖² / σ² is
    that of the noise (Ho et al. 2020, 2006.11239, eq. 14), of which σ² times the score's is the same (Song et al. 2021,
    2011.13456, eq. 7).

    Attributes:
        parameterisation: what the network says: the noise ("epsilon"), "velocity", the "clean" picture, the "flow",
            the "score", or "preconditioned", the score under little noise and the picture under much, which a small
            network of the schedule "variance-exploding" needs.
        schedule: which noise levels there are, and how pictures are scaled beneath them.
        sigma_max: the most noise of the schedule "variance-exploding": about the largest distance of two pictures.
        times: how a time of the schedule is drawn: "uniform", or "logit-normal", more often in the middle (Esser et al.
            2024, 2403.03206, §3.1, with mean 0 and deviation 1).
        min_snr: γ: no noise level counts more than it would if the picture's error were weighted with min(1/σ², γ)
            (Hang et al. 2023, 2303.09556, eq. 8); null for the weights above.
        class_dropout: how often the network is told no class, to learn what classifier-free guidance needs (Ho and
            Salimans 2022, 2207.12598, algorithm 1).
        likelihood: of how many of the test's pictures, spread evenly, the bits per dimension are found, which takes
            hundreds of looks at each.
        sampling: how pictures are made in a test.
    """

    name: Literal["denoising"]
    parameterisation: Literal["epsilon", "velocity", "clean", "flow", "score", "preconditioned"] = "epsilon"
    schedule: Literal["linear", "scaled-linear", "cosine", "variance-exploding", "flow"] = "linear"
    sigma_max: Annotated[float, Field(gt=0.01)] = 50.0
    times: Literal["uniform", "logit-normal"] = "uniform"
    min_snr: Annotated[float, Field(gt=0)] | None = None
    class_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    likelihood: Annotated[int, Field(ge=0)] = 0
    sampling: SamplingSection = SamplingSection()

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        fits = {
            "velocity": ("linear", "scaled-linear", "cosine"),
            "flow": ("flow",),
            "score": ("variance-exploding",),
            "preconditioned": ("variance-exploding",),
        }
        if self.schedule not in fits.get(self.parameterisation, (self.schedule,)):
            needed = " or ".join(fits[self.parameterisation])
            raise ValueError(f"the parameterisation {self.parameterisation} goes with the schedule {needed} alone")
        if self.sampling.guidance_scale != 1 and not self.class_dropout:
            raise ValueError(
                "sampling.guidance_scale needs a network that learned without classes, too: set class_dropout"
            )
        return self

    @property
    def makes(self) -> bool:
        """Whether networks learn to make pictures."""
        return True

    def noise(self) -> Schedule:
        """The schedule that `schedule` names."""
        if self.schedule == "variance-exploding":
            return VarianceExploding(sigma_max=self.sigma_max)
        if self.schedule == "flow":
            return Flow()
        chains: dict[str, Callable[[], Schedule]] = {
            "linear": linear,
            "scaled-linear": scaled_linear,
            "cosine": cosine,
        }
        return chains[self.schedule]()

    def denoiser(self, network: Model) -> Denoiser:
        """A network as D(x, sigma, cond) -> x0; cond are numbers of classes (B,) where it is told any, else None."""
        told = told_classes(network)

        def run(x: Tensor, time: Tensor, cond: Any) -> Tensor:
            return network(x, time, cond) if told else network(x, time)

        if self.parameterisation in _SCORES:
            return _SCORES[self.parameterisation](run)
        wrap: Callable[[Any, Any], Denoiser] = getattr(parameterisations, self.parameterisation)
        return wrap(run, self.noise())

    def weight(self, sigma: Tensor) -> Tensor:
        """What ‖D - x0‖² is multiplied by at noise levels (B,)."""
        weights = {
            "epsilon": sigma**-2,
            "score": sigma**-2,
            "preconditioned": sigma**-2 + parameterisations.DATA**-2,
            "velocity": 1 + sigma**-2,
            "clean": torch.ones_like(sigma),
            "flow": (1 + 1 / sigma) ** 2,
        }
        if self.min_snr is not None:
            return (sigma**-2).clamp(max=self.min_snr)
        return weights[self.parameterisation]

    def sigma(self, place: Tensor) -> Tensor:
        """Evenly distributed numbers (B,) in [0, 1) -> the noise levels that training draws so, (B,) float32."""
        schedule = self.noise()
        if self.times == "logit-normal":
            place = torch.special.ndtri(place.double()).sigmoid()
        if isinstance(schedule, Discrete):
            time = (place * len(schedule.alphas_cumprod)).floor()
        else:
            time = place.clamp(_FIRST, _LAST) * (schedule.steps if isinstance(schedule, Flow) else 1)
        return schedule.sigma(time).float()

    def errors(self, network: Model, images: Tensor, noise: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """The loss of each of some pictures.

        Args:
            network: sees them with noise.
            images: (B, C, H, W), pictures in [-1, 1] or latents.
            noise: as many, of unit variance.
            sigma: noise levels, (B,).
            labels: numbers of classes, (B,), of a network that is told any.

        Returns:
            (B,) float32.
        """
        seen = self.denoiser(network)(images + rows(sigma, images) * noise, sigma, labels)
        return self.weight(sigma) * (seen.float() - images).square().flatten(1).mean(1)

    def sample(self, network: Model, noise: Tensor, labels: Tensor | None = None, dice: Dice = None) -> Tensor:
        """Pictures from noise, as `sampling` says.

        Args:
            network: trained so.
            noise: (B, C, H, W), of unit variance.
            labels: numbers of classes, (B,), of a network that is told any.
            dice: what a sampler draws that adds noise on its way.

        Returns:
            (B, C, H, W) in [-1, 1].
        """
        how, denoiser = self.sampling, self.denoiser(network)
        if isinstance(network, DiT) and how.guidance_scale != 1:
            assert labels is not None
            nothing = torch.full_like(labels[:1], network.no_class)
            denoiser = classifier_free(denoiser, nothing, how.guidance_scale)
        sigmas = self.levels(how.num_steps)
        start = noise * math.hypot(1, sigmas[0])  # pictures of unit variance, with that much noise on them
        denoiser = parameterisations.clipped(denoiser)
        return SAMPLERS[how.sampler](denoiser, start, sigmas, labels, generator=dice).clamp(-1, 1)

    def bits(self, network: Model, images: Tensor, labels: Tensor | None, dice: Dice) -> Tensor:
        """How many bits per dimension a network takes for pictures of bytes, without guidance.

        Args:
            network: trained so.
            images: (B, C, H, W), bytes scaled to [-1, 1].
            labels: numbers of classes, (B,), of a network that is told any.
            dice: fills the bytes' cells, and probes the divergence.

        Returns:
            (B,).
        """
        schedule, step = self.noise(), 2 / 255
        filled = images + step * (_uniform_like(images, dice) - 0.5)
        low, high = max(schedule.sigma_min, _CLEAN), min(schedule.sigma_max, _NOISE)
        with torch.autocast(images.device.type, enabled=False):  # the solver would take bfloat16's steps for the path's
            likelihood = log_likelihood(
                self.denoiser(network), filled, low, high, labels, generator=dice, tolerance=_TOLERANCE
            )
        return bits_per_dimension(likelihood, images[0].numel(), step=step)

    def levels(self, num_steps: int) -> Tensor:
        """The falling noise levels of a run of so many steps, (num_steps + 1,), the last 0."""
        schedule = self.noise()
        if isinstance(schedule, Discrete):
            return spaced(schedule, num_steps, "trailing")
        if isinstance(schedule, Flow):
            return flow_spaced(schedule, num_steps)
        return geometric(schedule.sigma_min, schedule.sigma_max, num_steps)

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network says nothing about noisy pictures, or not what this section says.
        """
        if not isinstance(model, DDPM | NCSNpp | DiT):
            raise UsageError(
                f"objective.name is 'denoising', which {model.family} is not trained by: use ddpm, ncsnpp or dit"
            )
        if isinstance(model, NCSNpp) != (self.parameterisation in _SCORES):
            raise UsageError(
                "objective.parameterisation is 'score' or 'preconditioned' for ncsnpp, and for no other family"
            )
        if isinstance(model, NCSNpp) and model.config.center_input:
            raise UsageError("pictures of training are in [-1, 1] already: set model.center_input to false")
        if isinstance(model, DiT) and model.config.variance:
            raise UsageError("objective.name is 'denoising', which teaches no variance: set model.variance to false")
        if self.class_dropout and not told_classes(model):
            raise UsageError(f"objective.class_dropout is {self.class_dropout}, and {model.family} is told no classes")
        return Denoising(model, self)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) and their classes (B,) forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        return passes.learn(batch["images"], batch["targets"])

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], list[Made]]:
        """What makes a picture in the place of each of a test's, (B, 3, H, W), and says what the loss on these is.

        The noise is that of the picture's number in the test, in every evaluation of every run.
        """
        network, length = network_of(model), len(data.test)
        told = told_classes(network)

        def answer(images: Tensor, batch: Batch) -> list[Made]:
            numbers, device = batch["numbers"], images.device
            labels = batch["targets"].to(device) if told else None
            dice = [generator_for("made", number) for number in numbers.tolist()]
            made = self.sample(network, noise_like(images, dice), labels, dice)
            losses = self._test_losses(network, images, labels, numbers)
            bits: list[float | None] = [None] * len(images)
            chosen = (numbers * self.likelihood % length < self.likelihood).nonzero().flatten()
            if len(chosen):
                asked = None if labels is None else labels[chosen]
                dice = [generator_for("bits", number) for number in numbers[chosen].tolist()]
                found = self.bits(network, images[chosen], asked, dice)
                for place, bit in zip(chosen.tolist(), found.tolist(), strict=True):
                    bits[place] = bit
            every = zip(made, images, losses.tolist(), bits, strict=True)
            return [Made(*one, asked=told) for one in every]

        return answer

    def _test_losses(self, network: Model, images: Tensor, labels: Tensor | None, numbers: Tensor) -> Tensor:
        """The losses (B,) of pictures of a test, each the mean over a few noise levels that follow from its number."""
        noise = noise_like(images, [generator_for("noise", number) for number in numbers.tolist()])
        total = torch.zeros(len(images), device=images.device)
        for level in range(_LEVELS):
            places = (numbers * _GOLDEN + level / _LEVELS) % 1
            total += self.errors(network, images, noise, self.sigma(places).to(images.device), labels)
        return total / _LEVELS

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these pictures, and scores them."""
        return GenerationScores(data.train, device)

    def sheet(self, batch: Batch, outputs: Sequence[Made], data: Data, title: str) -> Image.Image:
        """The made pictures, each with what it was asked to be."""
        asked = [
            data.labels[target] if output.asked else ""
            for output, target in zip(outputs, batch["targets"].tolist(), strict=True)
        ]
        return picture_sheet([[output.picture] for output in outputs], asked, title)


class Denoising(Trainable):
    """A network and its loss in one forward pass.

    Args:
        network: what is left when training is over.
        section: what the loss is.
    """

    network: DDPM | NCSNpp | DiT

    def __init__(self, network: DDPM | NCSNpp | DiT, section: DenoisingSection) -> None:
        super().__init__(network)
        self.section = section
        # Convolutions as narrow as a small network's learn faster so.
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs do not know it

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) and their classes (B,) -> the loss, (), at noise levels spread evenly."""
        count, device = len(images), images.device
        places = evenly_spread(count)
        known: Tensor | None = None
        if isinstance(self.network, DiT):
            hidden = (torch.rand(count) < self.section.class_dropout).to(device)
            known = labels.masked_fill(hidden, self.network.no_class)
        noise, sigma = torch.randn_like(images), self.section.sigma(places).to(device)
        return self.section.errors(self.network, images, noise, sigma, known).mean()


def told_classes(network: Model) -> bool:
    """Whether a network is told which class a picture is of."""
    return isinstance(network, DiT)


def _uniform_like(images: Tensor, dice: Dice) -> Tensor:
    """Numbers from [0, 1), of the shape and device of pictures."""
    return torch.special.ndtr(noise_like(images, dice))
