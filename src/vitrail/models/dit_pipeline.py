"""DiT whole: a transformer that is told a class, and an autoencoder.

Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023 (2212.09748), §4.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.chain import Chain, ChainGenerator
from vitrail.models.dit import DiT, DiTConfig
from vitrail.models.generator import Usual
from vitrail.models.latent import LatentGenerator
from vitrail.nn.patches import pair


@dataclass(frozen=True)
class DiTPipelineConfig:
    """Two networks and the noise; the defaults are DiT-XL/2's for 256 pixels.

    Attributes:
        network: what says the noise.
        autoencoder: what makes latents of pictures and pictures of latents.
        chain: the noise it was trained on.
    """

    network: DiTConfig = field(default_factory=DiTConfig)
    autoencoder: AutoencoderKLConfig = field(default_factory=lambda: AutoencoderKLConfig(image_size=256))
    chain: Chain = field(
        default_factory=lambda: Chain(
            betas="linear", beta_start=1e-4, beta_end=0.02, sampler="ddim", offset=0, ends_clean=True
        )
    )


class DiTPipeline(ChainGenerator, LatentGenerator):
    """A DiT that is told what to make by the name of a class."""

    family: ClassVar[str] = "dit-pipeline"
    config: DiTPipelineConfig

    def __init__(self, config: DiTPipelineConfig) -> None:
        super().__init__()
        self.config = config
        self.network = DiT(config.network)
        self.autoencoder = AutoencoderKL(config.autoencoder)
        self.head = nn.Identity()

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """As diffusers' pipeline is run."""
        factor = self.autoencoder.config.factor
        height, width = pair(self.network.config.image_size)
        return Usual(50, self.config.chain.sampler, 4.0, (height * factor, width * factor))

    def condition(self, prompts: Sequence[str]) -> Tensor:
        """Names of classes -> their numbers (B,) int64. "" is no class; any of several names does, in any case.

        Raises:
            UsageError: there is no such class.
        """
        return torch.tensor([self._number(prompt) for prompt in prompts], device=self.network.classes.weight.device)

    def example(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """Latents of a picture of (height, width), their time and their class."""
        _, *grid = self.latent_shape(size)
        return self.network.example((grid[0], grid[1]))

    def predict(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """The noise that the network sees in latents, float32."""
        said = self.network(x.to(self.network.classes.weight.dtype), t, cond)
        return said[:, : self.network.config.channels].float()

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Pictures' (height, width) in pixels -> (C, h, w).

        Raises:
            UsageError: latents, and patches of them, do not divide the size.
        """
        channels, height, width = super().latent_shape(size)
        patch = self.network.config.patch_size
        if height % patch or width % patch:
            raise UsageError(
                f"a picture of {size[1]}×{size[0]} pixels is not one this network makes: both sides are multiples of "
                f"{patch * self.autoencoder.config.factor}"
            )
        return channels, height, width

    def _number(self, prompt: str) -> int:
        if not prompt.strip():
            return self.network.no_class
        names: dict[str, int] = {}
        for number, label in enumerate(self.labels or map(str, range(self.config.network.classes))):
            names |= dict.fromkeys([label.casefold(), *(name.strip().casefold() for name in label.split(","))], number)
        wanted = prompt.strip().casefold()
        if wanted not in names:
            near = difflib.get_close_matches(wanted, names, n=3)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise UsageError(f"this network makes pictures of classes, and '{prompt}' is the name of none{hint}")
        return names[wanted]
