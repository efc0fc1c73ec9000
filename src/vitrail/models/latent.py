"""Generators that work in the latents of an autoencoder. Rombach et al. 2022 (2112.10752), §3.2."""

import torch
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKL
from vitrail.models.generator import Generator


class LatentGenerator(Generator):
    """A generator with a KL autoencoder between its pictures and what it denoises.

    Attributes:
        autoencoder: pictures to latents and back. It takes few pictures at a time, and large ones in tiles.
    """

    autoencoder: AutoencoderKL

    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32 of variance about 1, the likeliest ones."""
        coder = self._coder()
        latents = coder.encode(images.to(next(coder.parameters()))).float()
        return (latents - (coder.config.shift_factor or 0.0)) * coder.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> pictures (B, 3, H, W) float32, about in [-1, 1]."""
        coder = self._coder()
        latents = latents.float() / coder.config.scaling_factor + (coder.config.shift_factor or 0.0)
        return coder.decode(latents.to(next(coder.parameters()))).float()

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Pictures' (height, width) in pixels -> (C, h, w).

        Raises:
            UsageError: the grid of latents does not divide the size.
        """
        config = self.autoencoder.config
        height, width = size
        if min(size) < 1 or height % config.factor or width % config.factor:
            raise UsageError(
                f"a picture of {width}×{height} pixels is not one this network makes: both sides are multiples of "
                f"{config.factor}"
            )
        return config.latent_channels, height // config.factor, width // config.factor

    def _coder(self) -> AutoencoderKL:
        """The autoencoder; in float32 where what it computes would leave the range of float16."""
        if next(self.autoencoder.parameters()).dtype == torch.float16 and not self.autoencoder.config.float16:
            self.autoencoder.float()
        return self.autoencoder
