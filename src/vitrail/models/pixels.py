"""Generators that work in pixels, and are not told what to make."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from vitrail.errors import UsageError
from vitrail.models.ddpm import DDPM
from vitrail.models.generator import Generator
from vitrail.models.ncsnpp import NCSNpp


class PixelGenerator(Generator):
    """A generator whose latents are the pictures themselves.

    Attributes:
        network: what denoises: a U-Net that halves a picture at every resolution but the last.
    """

    prompted: ClassVar[bool] = False
    network: DDPM | NCSNpp

    def condition(self, prompts: Sequence[str]) -> Any:
        """There is none.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"a network of the family {self.family} is not told what to make: leave the prompt out")

    def encode(self, images: Tensor) -> Tensor:
        """Pictures in [-1, 1] as they are; in grey where it knows no colours."""
        return images.float() if self.network.config.channels == 3 else images.float().mean(1, keepdim=True)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures as they are; what is grey, in three channels."""
        return latents.float().expand(-1, 3, -1, -1)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, H, W) of pictures of (height, width).

        Raises:
            UsageError: a side cannot be halved as often as the network does.
        """
        config, (height, width) = self.network.config, size
        grid = 2 ** (len(config.widths) - 1)
        if min(size) < 1 or height % grid or width % grid:
            raise UsageError(
                f"a picture of {width}×{height} pixels is not one this network makes: both sides are multiples of "
                f"{grid}"
            )
        return config.channels, height, width
