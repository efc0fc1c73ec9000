"""Latent diffusion from texts, small: an autoencoder, a text tower, and a transformer that takes noise from latents.

Rombach et al. 2022 (2112.10752), figure 3, with the transformer of Peebles and Xie 2022 (2212.09748) in the UNet's
place, and flow matching (Lipman et al. 2023, 2210.02747) in that of the chain.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.diffusion.denoiser import Denoiser
from vitrail.diffusion.parameterisations import flow
from vitrail.diffusion.schedules import Flow, flow_spaced
from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoder, CLIPTextEncoderConfig, prompt_ids
from vitrail.models.generator import Usual
from vitrail.models.latent import LatentGenerator
from vitrail.models.text_dit import TextDiT, TextDiTConfig
from vitrail.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LatentDiffusionConfig:
    """Three networks.

    Attributes:
        image_size: side of the pictures, in pixels.
        autoencoder: makes latents of pictures and pictures of latents.
        text: reads the prompt.
        vector_width: of the space that the text tower shares with pictures.
        denoiser: takes noise from latents.
    """

    image_size: int = 64
    autoencoder: AutoencoderKLConfig = field(default_factory=AutoencoderKLConfig)
    text: CLIPTextConfig = field(default_factory=CLIPTextConfig)
    vector_width: int = 192
    denoiser: TextDiTConfig = field(default_factory=TextDiTConfig)

    def __post_init__(self) -> None:
        said = (self.denoiser.grid, self.denoiser.channels, self.denoiser.text_width, self.denoiser.vector_width)
        found = (
            self.image_size // self.autoencoder.factor,
            self.autoencoder.latent_channels,
            self.text.width,
            self.vector_width,
        )
        if said != found or self.image_size % self.autoencoder.factor:
            names = "grid, channels, text_width and vector_width"
            raise ValueError(f"the denoiser's {names} are {said}, and the other networks have {found}")


class LatentDiffusion(LatentGenerator):
    """A text's tokens, a transformer that reads them, an autoencoder.

    Attributes:
        latent_mean, latent_deviation: of each channel of the latents of training, (1, C, 1, 1): the transformer sees
            latents of mean 0 and variance 1.
    """

    family: ClassVar[str] = "latent-diffusion"
    reads: ClassVar[bool] = True
    config: LatentDiffusionConfig
    schedule: Flow
    latent_mean: Tensor
    latent_deviation: Tensor

    def __init__(self, config: LatentDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = AutoencoderKL(config.autoencoder)
        self.text = CLIPTextEncoder(CLIPTextEncoderConfig(config.text, config.vector_width))
        self.denoise = TextDiT(config.denoiser)
        self.register_buffer("latent_mean", torch.zeros(1, config.denoiser.channels, 1, 1))
        self.register_buffer("latent_deviation", torch.ones(1, config.denoiser.channels, 1, 1))
        self.schedule = Flow()
        self.head = nn.Identity()

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """Twenty steps of DPM-Solver++."""
        side = self.config.image_size
        return Usual(20, "dpm++2m", 3.0, (side, side))

    def forward(self, latents: Tensor, time: Tensor, ids: Tensor, kept: Tensor | None = None) -> Tensor:
        """The velocity n - x0 of noisy latents.

        Args:
            latents: (1 - s) x0 + s n, (B, C, h, w), x0 as `encode` gives it.
            time: 1000 s, (B,).
            ids: token ids of the texts, (B, N) int64.
            kept: in training, the tokens that are not left out; see `TextDiT`.

        Returns:
            (B, C, h, w).
        """
        if not ids.is_meta:
            ids = ids[:, : int(self.text.text.ends(ids).max()) + 1]  # nothing behind the last end counts
        return self.denoise(latents, time, **self.read(ids), kept=kept)

    def example(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Latents of a picture, their time, and a text."""
        ids = torch.zeros(1, self.config.text.context, dtype=torch.int64)
        return torch.zeros(1, *self.latent_shape(size)), torch.zeros(1), ids

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """Token ids (B, N) -> what the transformer is told: the texts' tokens, which of them count, and the vectors."""
        tokens, vectors = self.text.read(ids)
        mask = torch.arange(ids.shape[1], device=ids.device) <= self.text.text.ends(ids)[:, None]
        vectors = F.normalize(vectors.float(), dim=-1) * vectors.shape[1] ** 0.5  # of variance 1
        return {"text": tokens, "mask": mask, "vector": vectors.to(tokens)}

    def condition(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Texts, which may be empty -> what `read` gives. What is longer than the context is cut, and said.

        Raises:
            UsageError: there is no tokenizer, or a text has no letter that it knows.
        """
        if self.tokenizer is None:
            raise UsageError("this network has no tokenizer: set its `tokenizer`")
        for prompt in prompts:
            strange, known = unread(prompt, self.tokenizer)
            if strange and not known:
                raise UsageError(f"'{prompt}' is in letters that this network never read: ask in English or Chinese")
            if strange:
                said = ", ".join(strange)
                warnings.warn(f"the prompt has letters that the network hardly knows: {said}", stacklevel=2)
        return self.read(prompt_ids(prompts, self.tokenizer).to(self.latent_mean.device))

    def denoiser(self) -> Denoiser:
        """The transformer as D(x, sigma, cond) -> x0."""

        def run(x: Tensor, time: Tensor, cond: Any) -> Tensor:
            return self.denoise(x.to(cond["text"].dtype), time, **cond).float()

        return flow(run, self.schedule)

    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        """Times spread evenly from noise to picture, (num_steps + 1,)."""
        return flow_spaced(self.schedule, num_steps)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32 of mean 0 and variance 1."""
        return (super().encode(images) - self.latent_mean.float()) / self.latent_deviation.float()

    def decode(self, latents: Tensor) -> Tensor:
        """Such latents (B, C, h, w) -> pictures (B, 3, H, W) float32, about in [-1, 1]."""
        return super().decode(latents * self.latent_deviation.float() + self.latent_mean.float())

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of the one size there is.

        Raises:
            UsageError: it is another size.
        """
        side = self.config.image_size
        if tuple(size) != (side, side):
            raise UsageError(f"this network makes pictures of {side}×{side} pixels, and not of {size[1]}×{size[0]}")
        return super().latent_shape(size)


def unread(text: str, tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """The letters of a text that a byte-level tokenizer never met as such, and the others.

    One that it met often enough is a token; of the rest it has only the bytes.
    """
    strange, known = set[str](), set[str]()
    for letter in filter(str.isalpha, text):
        size = len(letter.encode())
        (strange if size > 1 and len(tokenizer.plain(letter)) >= size else known).add(letter)
    return sorted(strange), sorted(known)
