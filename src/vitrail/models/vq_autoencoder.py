"""The VQ autoencoder: a picture is a grid of words from a learned codebook.

van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017 (1711.00937), with the encoder and decoder
of Esser et al., "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021 (2012.09841).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.autoencoder import TILE, Autoencoder, AutoencoderConfig, Decoder, Encoder

COMMITMENT = 0.25
"""β of eq. 3: how much the encoder is drawn to the words it chose."""

DISTANCES_AT_ONCE = 2**24
"""Distances between latents and words that are held at once, in 64 MiB."""


@dataclass(frozen=True)
class VQAutoencoderConfig(AutoencoderConfig):
    """The numbers of a VQ autoencoder; the defaults are those of CompVis/ldm-celebahq-256.

    Attributes:
        codes: words of the codebook, K.
        code_width: channels of a word, D; they are what diffusion sees as latents.
    """

    image_size: int | tuple[int, int] = 256
    latent_channels: int = 3
    widths: tuple[int, ...] = (128, 256, 512)
    codes: int = 8192
    code_width: int = 3


class Quantised(NamedTuple):
    """Latents, and the words that stand for them.

    Attributes:
        latents: (B, D, h, w), the words; gradients pass through to what was quantised as if nothing had been done.
        ids: (B, h, w) int64, which words they are.
        loss: (), ‖sg[z] - e‖² + β ‖z - sg[e]‖² of eq. 3, as means: it draws words and latents together.
    """

    latents: Tensor
    ids: Tensor
    loss: Tensor


class VQAutoencoder(Autoencoder):
    """Encoder, codebook and decoder. van den Oord et al. 2017 (1711.00937), fig. 1.

    `encode` gives latents that are still free, `quantise` the words nearest to them; `decode` quantises what it is
    given, so that it draws words alone.
    """

    family: ClassVar[str] = "vq-autoencoder"
    config: VQAutoencoderConfig

    def __init__(self, config: VQAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, config.latent_channels)
        self.encoder_projection = nn.Conv2d(config.latent_channels, config.code_width, 1)
        self.codebook = nn.Embedding(config.codes, config.code_width)
        self.decoder_projection = nn.Conv2d(config.code_width, config.latent_channels, 1)
        self.decoder = Decoder(config)
        self.head = nn.Identity()
        nn.init.uniform_(self.codebook.weight, -1 / max(config.codes, 1), 1 / max(config.codes, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Quantised]:
        """Pictures (B, C, H, W) in [-1, 1] -> what is left of them (B, C, H, W), and the words between."""
        quantised = self.quantise(self.encode(images))
        return self._bounded(self._draw, quantised.latents, TILE, before=1, after=self.config.factor), quantised

    def quantise(self, latents: Tensor) -> Quantised:
        """The word nearest to each latent, eq. 1 and 2: (B, D, h, w), as `encode` gives them -> `Quantised`."""
        words = self.codebook.weight.float()
        offsets = (words**2).sum(1)  # ‖z - e‖² is ‖e‖² - 2 z·e, and ‖z‖², which is the same for all words
        places = latents.detach().float().permute(0, 2, 3, 1)
        nearest = [
            torch.addmm(offsets, some, words.T, alpha=-2).argmin(1)
            for some in places.flatten(0, 2).split(max(DISTANCES_AT_ONCE // len(words), 1))
        ]
        ids = torch.cat(nearest).unflatten(0, places.shape[:3])
        chosen = self.lookup(ids)
        loss = F.mse_loss(chosen, latents.detach()) + COMMITMENT * F.mse_loss(latents, chosen.detach())
        return Quantised(latents + (chosen - latents).detach(), ids, loss)

    def lookup(self, ids: Tensor) -> Tensor:
        """Words by their numbers: (B, h, w) int64 below K -> (B, D, h, w).

        Raises:
            UsageError: a number is that of no word.
        """
        if ids.numel() and not ids.is_meta and not 0 <= int(ids.min()) <= int(ids.max()) < self.config.codes:
            raise UsageError(f"the codebook's words are numbered from 0 to {self.config.codes - 1}")
        return self.codebook(ids).permute(0, 3, 1, 2)

    def decode_ids(self, ids: Tensor, *, tile: int = TILE) -> Tensor:
        """Words by their numbers -> pictures: (B, h, w) int64 -> (B, C, f h, f w), about in [-1, 1].

        Raises:
            UsageError: a number is that of no word, or a tile is smaller than two words.
        """
        return self._bounded(self._draw, self.lookup(ids), tile, before=1, after=self.config.factor)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder_projection(self.encoder(images))

    def _decode(self, latents: Tensor) -> Tensor:
        return self._draw(self.quantise(latents).latents)

    def _draw(self, words: Tensor) -> Tensor:
        """Words (B, D, h, w) -> pictures."""
        return self.decoder(self.decoder_projection(words))
