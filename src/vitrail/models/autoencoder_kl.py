"""The KL autoencoder of latent diffusion: a picture is a Gaussian in a smaller space, kept near the normal one.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022 (2112.10752), §3.1 and G.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.models.autoencoder import TILE, Autoencoder, AutoencoderConfig, Decoder, Encoder


@dataclass(frozen=True)
class AutoencoderKLConfig(AutoencoderConfig):
    """The numbers of a KL autoencoder; the defaults are Stable Diffusion's.

    Attributes:
        shift_factor: what is taken from latents before they are multiplied by `scaling_factor`; None for nothing.
        encoder_projection: whether a linear map stands between the encoder and the moments; FLUX has none.
        decoder_projection: whether a linear map stands between the latents and the decoder.
        float16: whether it runs in float16: the activations of most, SDXL's above all, leave its range.
    """

    shift_factor: float | None = None
    encoder_projection: bool = True
    decoder_projection: bool = True
    float16: bool = False


class DiagonalGaussian(NamedTuple):
    """q(z | x): independent Gaussians, one a latent.

    Attributes:
        mean: (B, Z, h, w).
        log_variance: (B, Z, h, w), log σ², between -30 and 20.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """μ + σ ε with ε from N(0, 1): (B, Z, h, w). Gradients flow to both. `generator` is on the latents' device."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + (self.log_variance / 2).exp() * noise

    def kl(self) -> Tensor:
        """The divergence from the normal Gaussian, ½ Σ (μ² + σ² - 1 - log σ²): (B,), in nats a picture."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).flatten(1).sum(1)


class AutoencoderKL(Autoencoder):
    """Encoder and decoder of latent diffusion, with a Gaussian between them. Rombach et al. 2022 (2112.10752), §3.1.

    `encode` gives the Gaussian's mean, `posterior` the whole of it.
    """

    family: ClassVar[str] = "autoencoder-kl"
    config: AutoencoderKLConfig

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        self.config = config
        latent, moments = config.latent_channels, 2 * config.latent_channels
        self.encoder = Encoder(config, moments)
        self.encoder_projection = nn.Conv2d(moments, moments, 1) if config.encoder_projection else nn.Identity()
        self.decoder_projection = nn.Conv2d(latent, latent, 1) if config.decoder_projection else nn.Identity()
        self.decoder = Decoder(config)
        self.head = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """What is left of pictures after a way through the latents' mean: (B, C, H, W) in [-1, 1] -> (B, C, H, W)."""
        return self.decode(self.encode(images))

    def posterior(self, images: Tensor, *, tile: int = TILE) -> DiagonalGaussian:
        """Pictures (B, C, H, W) in [-1, 1] -> the Gaussian of their latents (B, Z, H / f, W / f).

        Arguments and errors as `encode` has them.
        """
        mean, log_variance = super().encode(images, tile=tile).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(-30, 20))

    def encode(self, images: Tensor, *, tile: int = TILE) -> Tensor:
        """The mean of the posterior; see `Autoencoder.encode`."""
        return self.posterior(images, tile=tile).mean

    def _encode(self, images: Tensor) -> Tensor:
        """The moments, (B, 2 Z, h, w)."""
        return self.encoder_projection(self.encoder(images))

    def _decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.decoder_projection(latents))
