"""NCSN++: a U-Net that says the score of noisy pictures, from noise of any size to none.

Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021 (2011.13456),
§4.4 and appendix H.1: anti-aliased resampling, sums with the shortcut divided by √2, residual blocks that change the
resolution themselves, and the picture itself shown at every resolution and drawn up from every resolution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.ddpm import attention_heads, check_levels, check_pictures, initialise
from vitrail.models.model import Model
from vitrail.nn.fir import FIRDownsample, FIRUpsample
from vitrail.nn.norm import GroupNorm
from vitrail.nn.resnet import ResidualBlock, SpatialAttention
from vitrail.nn.time import FourierFeatures, TimeMLP


@dataclass(frozen=True)
class NCSNppConfig:
    """The numbers of an NCSN++; the defaults are those of the published networks for 256 pixels.

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels. Others will do.
        channels: channels of a picture.
        widths: channels at each resolution, the finest first; each has half the side of the one before.
        depth: residual blocks at each resolution on the way down; on the way up there is one more.
        attention: at which resolutions there is attention: behind every block on the way down, once on the way up.
        middle_attention: whether there is attention between the two blocks at the bottom.
        head_width: channels of an attention head; None for a single head of all channels.
        norm_eps: ε of the norms. They have a group for every four channels, and at most 32.
        dropout: probability that an entry is dropped in a residual block, while training.
        center_input: pictures are in [0, 1], and the network itself begins with 2 x - 1, as the published ones do.
    """

    image_size: int | tuple[int, int] = 256
    channels: int = 3
    widths: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 256)
    depth: int = 2
    attention: tuple[bool, ...] = (False, False, False, False, True, False, False)
    middle_attention: bool = True
    head_width: int | None = None
    norm_eps: float = 1e-6
    dropout: float = 0.0
    center_input: bool = True

    def __post_init__(self) -> None:
        check_levels(self.widths, self.attention)


class DownLevel(nn.Module):
    """All blocks at one resolution on the way down; then half the side, and look at the picture of that side.

    `resize` and `show` are None at the bottom.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        attentions: Sequence[nn.Module],
        resize: nn.Module | None,
        show: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resize = resize
        self.show = show
        self.shrink = FIRDownsample()

    def forward(self, maps: Tensor, picture: Tensor, time: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps (B, D, H, W), picture (B, C, H, W) -> what the way up will see again, and the halved picture."""
        seen = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            maps = attention(block(maps, time))
            seen.append(maps)
        if self.resize is None or self.show is None:
            return seen, picture
        picture = self.shrink(picture)
        return [*seen, self.resize(maps, time) + self.show(picture)], picture


class UpLevel(nn.Module):
    """All blocks at one resolution on the way up; then draw what they add to the picture, and double the side.

    `resize` is None at the top.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        attention: nn.Module,
        norm: nn.Module,
        output: nn.Module,
        resize: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention
        self.norm = norm
        self.output = output
        self.resize = resize
        self.grow = FIRUpsample()

    def forward(self, maps: Tensor, drawn: Tensor | None, seen: list[Tensor], time: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, D, H, W), and (B, C, H / 2, W / 2) drawn so far -> maps (B, D, 2 H, 2 W), and drawn (B, C, H, W).

        The last of `seen` are taken from it, one for each block.
        """
        for block in self.blocks:
            maps = block(torch.cat([maps, seen.pop()], dim=1), time)
        maps = self.attention(maps)
        added = self.output(F.silu(self.norm(maps)))
        drawn = added if drawn is None else self.grow(drawn) + added
        return maps if self.resize is None else self.resize(maps, time), drawn


class NCSNpp(Model):
    """s_θ(x, σ) of appendix H.1, with "input skip" and "output skip" as in the published networks."""

    family: ClassVar[str] = "ncsnpp"
    config: NCSNppConfig

    def __init__(self, config: NCSNppConfig) -> None:
        super().__init__()
        self.config = config
        widths, deepest = config.widths, len(config.widths) - 1
        self.input = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.fourier = FourierFeatures(widths[0])
        self.time = TimeMLP(2 * widths[0], 4 * widths[0])
        seen = [widths[0]]  # channels of what the way up will see again
        self.down = nn.ModuleList()
        for number, (width, attends) in enumerate(zip(widths, config.attention, strict=True)):
            blocks = []
            for _ in range(config.depth):
                blocks.append(self._block(seen[-1], width))
                seen.append(width)
            resize = show = None
            if number < deepest:
                resize = self._block(width, width, FIRDownsample())
                show = nn.Conv2d(config.channels, width, 1)
                seen.append(width)
            self.down.append(DownLevel(blocks, [self._attention(width, attends) for _ in blocks], resize, show))
        width = widths[-1]
        self.middle = nn.ModuleList(
            [
                self._block(width, width),
                self._attention(width, config.middle_attention),
                self._block(width, width),
            ]
        )
        self.up = nn.ModuleList()
        for number in reversed(range(len(widths))):
            blocks = []
            for _ in range(config.depth + 1):
                blocks.append(self._block(width + seen.pop(), widths[number]))
                width = widths[number]
            self.up.append(
                UpLevel(
                    blocks,
                    self._attention(width, config.attention[number]),
                    GroupNorm(_groups(width), width, eps=config.norm_eps),
                    nn.Conv2d(width, config.channels, 3, padding=1),
                    self._block(width, width, FIRUpsample()) if number else None,
                )
            )
        self.head = nn.Identity()
        initialise(self)

    def forward(self, images: Tensor, sigmas: Tensor) -> Tensor:
        """The score ∇ log p_σ(x): noisy pictures -> which way they get likelier, about -noise / σ.

        Args:
            images: x = x₀ + σ · noise, (B, C, H, W), pictures in [0, 1], or in [-1, 1] without `center_input`.
            sigmas: σ, (B,), above 0.

        Returns:
            (B, C, H, W), in the weights' dtype.

        Raises:
            ValueError: the pictures' channels or sides are none that the network takes.
        """
        check_pictures(images, self.config.channels, len(self.config.widths))
        time = self.time(self.fourier(sigmas))
        picture = images.to(self.input.weight.dtype)
        if self.config.center_input:
            picture = 2 * picture - 1
        seen = [self.input(picture)]
        for level in self.down:
            more, picture = level(seen[-1], picture, time)
            seen += more
        first, attention, last = self.middle
        maps, drawn = last(attention(first(seen[-1], time)), time), None
        for level in self.up:
            maps, drawn = level(maps, drawn, seen, time)
        assert drawn is not None
        return drawn / sigmas.to(maps.dtype)[:, None, None, None]

    def example(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """A noisy picture and its noise level."""
        return torch.zeros(1, self.config.channels, *size), torch.ones(1)

    def _block(self, in_channels: int, out_channels: int, resize: nn.Module | None = None) -> ResidualBlock:
        config = self.config
        return ResidualBlock(
            in_channels,
            out_channels,
            time_width=4 * config.widths[0],
            groups=_groups(in_channels),
            out_groups=_groups(out_channels),
            eps=config.norm_eps,
            output_scale=math.sqrt(2),
            dropout=config.dropout,
            resize=resize,
            shortcut=True if resize is not None else None,
        )

    def _attention(self, width: int, attends: bool) -> nn.Module:
        config = self.config
        if not attends:
            return nn.Identity()
        heads = attention_heads(width, config.head_width)
        return SpatialAttention(width, heads, groups=_groups(width), eps=config.norm_eps, output_scale=math.sqrt(2))


def _groups(channels: int) -> int:
    """A group for every four channels, 32 at most."""
    return min(channels // 4, 32)
