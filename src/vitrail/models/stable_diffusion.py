"""Stable Diffusion 1 and 2: latents denoised by a UNet that is told a text.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022 (2112.10752), figure 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.chain import Chain, ChainGenerator
from vitrail.models.clip_text import CLIPTextEncoder, CLIPTextEncoderConfig, prompt_ids
from vitrail.models.generator import Usual
from vitrail.models.latent import LatentGenerator
from vitrail.models.unet import UNet, UNetConfig


@dataclass(frozen=True)
class StableDiffusionConfig:
    """Three networks and the noise; the defaults are Stable Diffusion 1.5's.

    Attributes:
        unet: what denoises; with more channels than a latent's it was trained to inpaint, and reads the mask and the
            masked picture, too.
        autoencoder: what makes latents of pictures and pictures of latents.
        text: what reads the prompt.
        chain: the noise it was trained on.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    autoencoder: AutoencoderKLConfig = field(default_factory=AutoencoderKLConfig)
    text: CLIPTextEncoderConfig = field(default_factory=CLIPTextEncoderConfig)
    chain: Chain = field(default_factory=Chain)


class TextToImage(ChainGenerator, LatentGenerator):
    """What Stable Diffusion 1, 2 and XL have in common.

    Attributes:
        clip_skip: how many more blocks of the text towers are left out at their end than usual: one less than the
            "clip skip" of other tools. Networks trained on drawings sometimes ask for 1.
    """

    reads: ClassVar[bool] = True
    unet: UNet
    clip_skip: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the pictures it was trained on."""
        side, factor = self.unet.config.image_size, self.autoencoder.config.factor
        height, width = (side, side) if isinstance(side, int) else side
        return height * factor, width * factor

    @property
    def inpaints(self) -> bool:
        """Whether the UNet reads a mask and the masked picture."""
        return self.unet.config.channels > self.autoencoder.config.latent_channels

    def example(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """Latents of a picture of (height, width), their time, and a text's tokens."""
        _, *grid = self.latent_shape(size)
        x, t, context, added = self.unet.example((grid[0], grid[1]))
        cond = {"context": context, **(dict(zip(("vector", "numbers"), added, strict=True)) if added else {})}
        return x, t, cond

    def look_at(self, cond: Any, size: tuple[int, int], hole: tuple[Tensor, Tensor] | None = None) -> Any:
        """The tokens as every block of the UNet reads them, and where to inpaint."""
        told = {**cond, "context": self.unet.look_at(cond["context"])}
        return told if hole is None else {**told, "hole": torch.cat(hole, dim=1)}

    def predict(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """What the UNet says, float32."""
        seen = torch.cat([x, cond["hole"]], dim=1) if "hole" in cond else x
        added = (cond["vector"], cond["numbers"]) if "numbers" in cond else None
        dtype = self.unet.stem.weight.dtype
        return self.unet(seen.to(dtype), t, cond["context"], added).float()

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> token ids (B, N); what is longer than the context is cut, and said.

        Raises:
            UsageError: there is no tokenizer, or something is no text.
        """
        if self.tokenizer is None:
            raise UsageError(
                "this network came without a tokenizer: put CLIP's vocab.json and merges.txt (of "
                "openai/clip-vit-large-patch14) beside its file"
            )
        return prompt_ids(prompts, self.tokenizer).to(self.unet.stem.weight.device)


class StableDiffusion(TextToImage):
    """A text's tokens, a UNet that reads them, an autoencoder.

    A guided step of version 1.5 at 512×512 pixels and the decoding took 5.3 GiB of memory on a CPU, the program and 4.0
    of weights among them, and in bfloat16 2.9, with 2.0 of weights. Attention never holds a weight for every pair of
    places, and the autoencoder takes large pictures in tiles.
    """

    family: ClassVar[str] = "stable-diffusion"
    config: StableDiffusionConfig

    def __init__(self, config: StableDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.unet)
        self.autoencoder = AutoencoderKL(config.autoencoder)
        self.text = CLIPTextEncoder(config.text)
        self.head = torch.nn.Identity()

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """As diffusers' pipeline is run."""
        return Usual(50, self.config.chain.sampler, 7.5, self.size)

    def condition(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Texts, which may be empty -> {"context": (B, N, D)}: the final tokens."""
        return self.read(self.ids(prompts))

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """Token ids (B, N) -> what `condition` gives."""
        tokens, _ = self.text.read(ids, self.clip_skip)
        return {"context": tokens}
