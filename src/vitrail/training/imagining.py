"""Draw what a text asks for, in the latents of an autoencoder: what is minimised for that, and how well it does."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.diffusion.noise import noise_like
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.generation import box_encoder, prepared
from vitrail.evaluation.imagining import ImaginingScores
from vitrail.models.latent_diffusion import LatentDiffusion
from vitrail.models.model import Model
from vitrail.training.denoising import SamplingSection
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of
from vitrail.training.randomness import evenly_spread, generator_for
from vitrail.training.sheet import picture_sheet

_REMEMBERED = 100_000  # pictures' latents, of 4 kB each where they are 8×8×16


class ImaginingSection(Objective):
    """The squared error of the velocity from latents to noise: flow matching, Lipman et al. 2023 (2210.02747), eq. 23.

    The autoencoder stays as it is; the text tower learns unless the recipe's `freeze` names it. A picture's latents are
    found when it is first seen and remembered, so that pictures should look the same each time: no augmentation.

    Attributes:
        time_mean, time_deviation: of the normal distribution that the logit of a time is drawn from, 0 for a picture
            and 1 for noise (Esser et al. 2024, 2403.03206, §3.1). What a picture shows is decided where there is much
            noise.
        text_dropout: how often a text is left out, so that guidance has something to be guided away from (Ho and
            Salimans 2022, 2207.12598, algorithm 1).
        token_dropout: the share of a picture's tokens that pass by the middle blocks, others at each look, so that an
            update costs less (see `TextDiT`).
        alignment: weight of a second loss, 0 for none: the cosines between a batch's tokens, behind the first third
            of the blocks, shall be those between what the box's own encoder sees at these places. It is representation
            alignment, Yu et al. 2025 (2410.06940), §3.2, on relations (Park et al. 2019, 1904.05068, eq. 1), which need
            no projection from one width to another.
        sampling: how pictures are made in a test.
    """

    name: Literal["imagining"]
    time_mean: float = 0.0
    time_deviation: Annotated[float, Field(gt=0)] = 1.0
    text_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    alignment: Annotated[float, Field(ge=0)] = 0.0
    sampling: SamplingSection = SamplingSection(sampler="dpm++2m", num_steps=20, guidance_scale=3.0)

    @property
    def makes(self) -> bool:
        """Whether networks learn to make pictures."""
        return True

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network makes no pictures from texts.
        """
        if not isinstance(model, LatentDiffusion):
            raise UsageError(
                f"objective.name is 'imagining', which {model.family} is not trained by: use latent-diffusion"
            )
        model.autoencoder.requires_grad_(False)
        return Imagining(model, self)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) and their B texts forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        network, device = network_of(passes.model), batch["images"].device
        left_out = torch.rand(len(batch["texts"])) < self.text_dropout
        texts = ["" if out else text for text, out in zip(batch["texts"], left_out.tolist(), strict=True)]
        return passes.learn(batch["images"], network.tokenizer(texts).to(device))

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What makes a picture for each prompt of a test, and puts it beside the real one: (B, 2, 3, H, W) float32.

        The noise is that of the prompt's number in the test, in every evaluation of every run.
        """
        network: LatentDiffusion = network_of(model)
        assert data.prompts is not None
        tests = data.prompts.tests

        def answer(images: Tensor, batch: Batch) -> Tensor:
            how, numbers = self.sampling, batch["numbers"].tolist()
            dice = [generator_for("made", number) for number in numbers]
            shape = network.latent_shape(network.usual.size)
            made = network.sample(
                network.condition([tests[number].prompt for number in numbers]),
                noise_like(images.new_empty(len(images), *shape), dice),
                negative=network.condition([""]),
                num_steps=how.num_steps,
                sampler=how.sampler,
                guidance_scale=how.guidance_scale,
                generator=dice,
            )
            return torch.stack([made, images], 1)

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these pictures, and scores them."""
        assert data.prompts is not None
        return ImaginingScores(data.prompts, device)

    def sheet(self, batch: Batch, outputs: Sequence[Tensor], data: Data, title: str) -> Image.Image:
        """The made pictures beside the real ones, each pair with its prompt."""
        assert data.prompts is not None
        asked = [data.prompts.tests[number].prompt for number in batch["numbers"].tolist()]
        return picture_sheet([[made, real] for made, real in outputs], asked, title)


class Imagining(Trainable):
    """The network and its loss in one forward pass.

    Args:
        network: what is left when training is over.
        section: what the loss is.
    """

    network: LatentDiffusion

    def __init__(self, network: LatentDiffusion, section: ImaginingSection) -> None:
        super().__init__(network)
        self.section = section
        self.remembered: dict[bytes, tuple[Tensor, ...]] = {}
        if section.alignment:
            network.denoise.blocks[network.config.denoiser.opening - 1].register_forward_hook(self._notice)

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        """Prepared pictures (B, 3, H, W) and token ids (B, N) -> the loss, ()."""
        network, section = self.network, self.section
        with torch.no_grad():
            latents, *seen_by_encoder = self.known(images)
            if (network.latent_deviation == 1).all():  # the first batch of all says what latents are like
                network.latent_mean.copy_(latents.mean((0, 2, 3), keepdim=True))
                network.latent_deviation.copy_(latents.std((0, 2, 3), keepdim=True))
            latents = (latents - network.latent_mean) / network.latent_deviation
        noise = torch.randn_like(latents)
        logits = torch.special.ndtri(evenly_spread(len(latents))) * section.time_deviation + section.time_mean
        time = logits.sigmoid().float().to(latents.device)
        mixed = time[:, None, None, None]
        seen = (1 - mixed) * latents + mixed * noise
        velocity = network(seen, network.schedule.steps * time, ids, self._kept(latents))
        loss = F.mse_loss(velocity.float(), noise - latents)
        if section.alignment:
            loss = loss + section.alignment * F.mse_loss(_cosines(self.noticed), _cosines(seen_by_encoder[0]))
        return loss

    def known(self, images: Tensor) -> list[Tensor]:
        """What is known of prepared pictures (B, 3, H, W), each found alone and in float32, so that it is the same
        whatever batch it first comes in.

        Returns:
            The autoencoder's latents (B, C, h, w) float32, scaled by nothing; and, where tokens are aligned, what the
            encoder sees at the places of the transformer's tokens, (B, N, E).
        """
        found = []
        for image in images:
            key = hashlib.blake2b(image.cpu().contiguous().numpy(), digest_size=16).digest()
            if key not in self.remembered:
                if len(self.remembered) >= _REMEMBERED:
                    self.remembered.clear()
                with torch.autocast(images.device.type, enabled=False):
                    latents = self.network.autoencoder.encode(image[None])[0].float().cpu()
                    aligned = (self._patches(image).cpu(),) if self.section.alignment else ()
                self.remembered[key] = (latents, *aligned)
            found.append(self.remembered[key])
        return [torch.stack(each).to(images.device) for each in zip(*found, strict=True)]

    def _kept(self, latents: Tensor) -> Tensor | None:
        """The numbers of the tokens that go through all blocks, drawn anew, (B, K); None for all."""
        if not self.section.token_dropout:
            return None
        config = self.network.config.denoiser
        count = (config.grid // config.patch_size) ** 2
        order = torch.rand(len(latents), count, device=latents.device).argsort(1)
        return order[:, : max(1, round(count * (1 - self.section.token_dropout)))]

    def _notice(self, block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.noticed = output

    def _patches(self, image: Tensor) -> Tensor:
        """What the encoder sees in a prepared picture (3, H, W), where the transformer's tokens are: (N, E)."""
        encoder = box_encoder(image.device)
        tokens = encoder.features(prepared(image[None], encoder))[0, encoder.prefix_tokens :]
        side, config = math.isqrt(len(tokens)), self.network.config.denoiser
        grid = tokens.T.reshape(1, -1, side, side)
        return F.adaptive_avg_pool2d(grid, config.grid // config.patch_size)[0].flatten(1).T.contiguous()


def _cosines(tokens: Tensor) -> Tensor:
    """Tokens (B, N, D) -> the cosines between all of them, (B N, B N) float32."""
    unit = F.normalize(tokens.flatten(0, 1).float(), dim=1)
    return unit @ unit.T
