"""What turns pictures into a smaller grid of latents and back: the halves that both autoencoders are made of.

Esser et al., "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021 (2012.09841), table 7; Rombach et
al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022 (2112.10752), keep it.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.model import Model
from vitrail.nn.norm import GroupNorm
from vitrail.nn.resnet import Downsample, ResidualBlock, SpatialAttention, Upsample, silu
from vitrail.nn.tiling import in_tiles

TILE = 1024
"""Pixels: a picture with a longer side is read and made in squares of this side, unless told otherwise."""

PIXELS_AT_ONCE = 2**18
"""One picture of 512×512, or as many smaller ones: where nothing is learned, larger batches take turns."""

PIXELS_FOR_LAST = 2**14
"""From so many pixels in a batch on, convolutions on a CPU are faster with the channels last, and take less memory: by
18% and a quarter at 256×256. Below, turning the weights costs more than it saves."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The numbers of an autoencoder; the defaults are Stable Diffusion's.

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels. Others will do.
        channels: channels of a picture.
        latent_channels: channels of a latent.
        widths: channels of each level; every level has half the side of the one before.
        depth: residual blocks of a level; the decoder's have one more.
        attention_levels: the levels, counted from 0 at the pixels, whose blocks are each followed by attention.
        middle_attention: whether there is attention at the bottom, between encoder and latents and back.
        groups: groups of channels of the norms.
        scaling_factor: what latents are multiplied by before diffusion, so that their variance is 1 (§D.1 of Rombach).
    """

    image_size: int | tuple[int, int] = 512
    channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    depth: int = 2
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    groups: int = 32
    scaling_factor: float = 0.18215

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("an autoencoder has one level at least")
        if any(level >= len(self.widths) for level in self.attention_levels):
            raise ValueError(f"there is no level {max(self.attention_levels)} of {len(self.widths)}")

    @property
    def factor(self) -> int:
        """Pixels to a latent, along a side: f."""
        return 2 ** (len(self.widths) - 1)


class Level(nn.Module):
    """Residual blocks at one resolution, each with its attention where there is any, and the way to the next.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        depth: residual blocks.
        groups: groups of channels of the norms.
        attention: whether each block is followed by attention.
        resize: the way to the next level; None for the last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        *,
        groups: int,
        attention: bool,
        resize: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(out_channels if place else in_channels, out_channels, groups=groups) for place in range(depth)
        )
        self.attentions = nn.ModuleList(
            SpatialAttention(out_channels, groups=groups) if attention else nn.Identity() for _ in range(depth)
        )
        self.resize = nn.Identity() if resize is None else resize

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W')."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            images = attention(block(images))
        return self.resize(images)


def _middle(width: int, config: AutoencoderConfig) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(width, width, groups=config.groups),
        SpatialAttention(width, groups=config.groups) if config.middle_attention else nn.Identity(),
        ResidualBlock(width, width, groups=config.groups),
    )


class Encoder(nn.Module):
    """A picture, halved level by level.

    Args:
        config: the autoencoder's numbers.
        out_channels: what it says of every place: Z, or 2 Z for the mean and log-variance of Z.
    """

    def __init__(self, config: AutoencoderConfig, out_channels: int) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(
                widths[max(level - 1, 0)],
                width,
                config.depth,
                groups=config.groups,
                attention=level in config.attention_levels,
                resize=Downsample(width, padding="trailing") if level < last else None,
            )
            for level, width in enumerate(widths)
        )
        self.middle = _middle(widths[-1], config)
        self.norm = GroupNorm(config.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, Z or 2 Z, H / f, W / f)."""
        images = self.conv_in(images)
        for level in self.levels:
            images = level(images)
        return self.conv_out(silu(self.norm(self.middle(images))))


class Decoder(nn.Module):
    """Latents, doubled level by level into a picture.

    Args:
        config: the autoencoder's numbers.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths, last = config.widths[::-1], len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.middle = _middle(widths[0], config)
        self.levels = nn.ModuleList(
            Level(
                widths[max(level - 1, 0)],
                width,
                config.depth + 1,
                groups=config.groups,
                attention=last - level in config.attention_levels,
                resize=Upsample(width) if level < last else None,
            )
            for level, width in enumerate(widths)
        )
        self.norm = GroupNorm(config.groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], config.channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, Z, h, w) -> (B, C, f h, f w)."""
        images = self.middle(self.conv_in(latents))
        for level in self.levels:
            images = level(images)
        return self.conv_out(silu(self.norm(images)))


class Autoencoder(Model):
    """Pictures to latents and back, in bounded memory. What a latent is, a family says.

    A batch is run a few pictures at a time where no gradients are wanted, and a picture larger than `tile` in tiles. So
    whatever their size and number, Stable Diffusion's decoder took at most 2.8 GiB in float32 beside its weights and
    the pictures, those of a picture or tile of 1024×1024; 0.75 GiB with a tile of 512, where its encoder took 0.5.
    """

    config: AutoencoderConfig
    encoder: Encoder
    decoder: Decoder

    def encode(self, images: Tensor, *, tile: int = TILE) -> Tensor:
        """Pictures (B, C, H, W) in [-1, 1] -> latents (B, Z, H / f, W / f) in the weights' dtype, scaled by nothing.

        Args:
            images: the pictures, in any float dtype; their sides are multiples of f, `config.factor`.
            tile: the longest side in pixels that is read at once; longer ones are read in overlapping tiles of this
                side. What it says of such a picture is near what it would say of it whole, and not the same: the norms
                and the attention of a tile know that tile alone.

        Raises:
            UsageError: a picture does not fit the grid of latents, or a tile.
        """
        factor = self.config.factor
        if any(side % factor or not side for side in images.shape[2:]):
            height, width = images.shape[2:]
            raise UsageError(
                f"a picture of {width}×{height} pixels does not fit this autoencoder, whose latents stand for squares "
                f"of {factor}×{factor}: scale it so that its sides are multiples of {factor}"
            )
        return self._bounded(self._encode, images, tile, before=factor, after=1)

    def decode(self, latents: Tensor, *, tile: int = TILE) -> Tensor:
        """Latents (B, Z, h, w), as `encode` gives them -> pictures (B, C, f h, f w), about in [-1, 1].

        Args:
            latents: the latents, in any float dtype; pictures are in the weights'.
            tile: the longest side of a picture in pixels that is made at once; as for `encode`.

        Raises:
            UsageError: a tile is smaller than two latents.
        """
        return self._bounded(self._decode, latents, tile, before=1, after=self.config.factor)

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """`encode` in one go."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """`decode` in one go."""

    def features(self, images: Tensor) -> Tensor:
        """The latents, (B, Z, H / f, W / f)."""
        return self.encode(images)

    def pool(self, features: Tensor) -> Tensor:
        """There is no one vector.

        Raises:
            UsageError: always.
        """
        raise UsageError("an autoencoder keeps where everything is and says nothing of a picture as a whole")

    def _bounded(
        self, network: Callable[[Tensor], Tensor], images: Tensor, tile: int, *, before: int, after: int
    ) -> Tensor:
        """A half of the autoencoder, a few pictures at a time, each in tiles where it is large."""
        factor = self.config.factor
        steps = tile // factor
        if steps < 2:
            raise UsageError(f"a tile of {tile} pixels is smaller than two latents of {factor}×{factor}")
        images = images.to(self.encoder.conv_in.weight.dtype)
        height, width = (side // before for side in images.shape[2:])
        pixels = min(height, steps) * min(width, steps) * factor**2
        at_once = max(PIXELS_AT_ONCE // max(pixels, 1), 1)
        graph = torch.compiler.is_exporting()

        def whole(some: Tensor) -> Tensor:
            if not graph and some.device.type == "cpu" and len(some) * pixels >= PIXELS_FOR_LAST:
                some = some.contiguous(memory_format=torch.channels_last)
            return network(some).contiguous()

        def run(some: Tensor) -> Tensor:
            if max(height, width) <= steps:
                return whole(some)
            return in_tiles(whole, some, steps, steps // 4, before=before, after=after)

        # what learning keeps, it keeps of the whole batch; and a graph is of batches of any length
        if graph or torch.is_grad_enabled() or len(images) <= at_once:
            return run(images)
        return torch.cat([run(some) for some in images.split(at_once)])
