"""Train an autoencoder and the diffusion prior of its latents together, for the likelihood of pictures."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.diffusion.noise import noise_like
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.generation import GenerationScores, Made
from vitrail.models.lsgm import LSGM, Weighting
from vitrail.models.model import Model
from vitrail.training.denoising import SamplingSection
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of
from vitrail.training.randomness import evenly_spread, generator_for
from vitrail.training.sheet import picture_sheet


class LSGMSection(Objective):
    """A bound of the pictures' likelihood, in bits per dimension. Vahdat et al. 2021 (2106.05931), eq. 3 and 8-9.

    Attributes:
        kl: what log q(z | x) - log p(z) counts in the gradients of encoder and decoder. 1 is the bound; less makes
            pictures that come back sharper, and a prior that has more to learn.
        weighting: of the noise levels, for the prior (Table 1): "likelihood" is the bound's, and counts the error of
            the velocity alike at all; "unweighted" counts that of the noise alike, and "reweighted" that of the clean
            latents, which looks most at what gives a picture its shape. Where little noise counts for little, the prior
            is wrong there and the encoder pays for it: from nothing only the first two train well.
        looks: from how many draws the bound of a test picture is found.
        sampling: how pictures are made in a test.
    """

    name: Literal["lsgm"]
    kl: Annotated[float, Field(ge=0)] = 1.0
    weighting: Weighting = "likelihood"
    looks: Annotated[int, Field(ge=1)] = 8
    sampling: SamplingSection = SamplingSection(sampler="heun", num_steps=25)

    @property
    def makes(self) -> bool:
        """Whether networks learn to make pictures."""
        return True

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network is of another family, or should be told what to make.
        """
        if not isinstance(model, LSGM):
            raise UsageError(f"objective.name is 'lsgm', which {model.family} is not trained by: use lsgm")
        if self.sampling.guidance_scale != 1:
            raise UsageError("objective.sampling.guidance_scale guides towards what is asked for: an lsgm is not asked")
        return JointTraining(model, self)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        return passes.learn(batch["images"])

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], list[Made]]:
        """What makes a picture in the place of each of a test's, (B, 3, H, W), and bounds the bits of these.

        The noise is that of the picture's number in the test, in every evaluation of every run.
        """
        network: LSGM = network_of(model)

        def answer(images: Tensor, batch: Batch) -> list[Made]:
            numbers = batch["numbers"].tolist()
            dice = [generator_for("made", number) for number in numbers]
            shape = network.latent_shape((images.shape[2], images.shape[3]))
            noise = noise_like(images.new_empty(len(images), *shape), dice)
            how = self.sampling
            made = network.sample(None, noise, num_steps=how.num_steps, sampler=how.sampler, generator=dice)
            dice = [generator_for("bits", number) for number in numbers]
            bits = network.bits(images, looks=self.looks, dice=dice).tolist()
            return [Made(one, real, bit, bit) for one, real, bit in zip(made, images, bits, strict=True)]

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these pictures, and scores them."""
        return GenerationScores(data.train, device)

    def sheet(self, batch: Batch, outputs: Sequence[Made], data: Data, title: str) -> Image.Image:
        """The made pictures."""
        return picture_sheet([[output.picture] for output in outputs], [""] * len(outputs), title)


class JointTraining(Trainable):
    """An LSGM and its loss in one forward pass.

    Args:
        network: what is left when training is over.
        section: what the loss is.
    """

    network: LSGM

    def __init__(self, network: LSGM, section: LSGMSection) -> None:
        super().__init__(network)
        self.section = section

    def forward(self, images: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) -> the loss, (), at times spread evenly."""
        count = len(images)
        time = evenly_spread(count)[torch.randperm(count)].to(images.device)
        shape = self.network.latent_shape((images.shape[2], images.shape[3]))
        draw, noise = torch.randn(2, count, *shape, device=images.device)
        return self.network.loss(images, time, draw, noise, kl=self.section.kl, weighting=self.section.weighting)
