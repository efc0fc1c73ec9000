"""DDPM: a U-Net that says which noise is in a picture, and with it a chain from noise to pictures.

Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (2006.11239), appendix B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.nn.norm import GroupNorm
from vitrail.nn.resnet import Downsample, ResidualBlock, SpatialAttention, Upsample
from vitrail.nn.time import TimeMLP, sinusoids


@dataclass(frozen=True)
class DDPMConfig:
    """The numbers of a DDPM network; the defaults are the paper's for CIFAR-10 (appendix B).

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels. Others will do.
        channels: channels of a picture.
        outputs: channels of what comes out: a picture's, or twice as many where a network says its variance, too.
        widths: channels at each resolution, the finest first; each has half the side of the one before.
        depth: residual blocks at each resolution on the way down; on the way up there is one more.
        attention: at which resolutions there is attention behind every block.
        middle_attention: whether there is attention between the two blocks at the bottom.
        head_width: channels of an attention head; None for a single head of all channels.
        groups: groups of channels of the norms.
        norm_eps: ε of the norms.
        dropout: probability that an entry is dropped in a residual block, while training.
        cosine_first: whether the cosines stand before the sines in the waves of the time.
        frequency_shift: see `vitrail.nn.time.sinusoids`.
        padding: where the zeros stand when the side is halved, see `vitrail.nn.resnet.Downsample`.
    """

    image_size: int | tuple[int, int] = 32
    channels: int = 3
    outputs: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    depth: int = 2
    attention: tuple[bool, ...] = (False, True, False, False)
    middle_attention: bool = True
    head_width: int | None = None
    groups: int = 32
    norm_eps: float = 1e-6
    dropout: float = 0.0
    cosine_first: bool = False
    frequency_shift: float = 1.0
    padding: Literal["symmetric", "trailing"] = "trailing"

    def __post_init__(self) -> None:
        check_levels(self.widths, self.attention)


class DownLevel(nn.Module):
    """All blocks at one resolution on the way down, with attention behind each where there is any; then half the side.

    `resize` is None at the bottom.
    """

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resize = resize

    def forward(self, maps: Tensor, time: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> what the way up will see again: the maps behind each block, and the halved ones."""
        seen = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            maps = attention(block(maps, time))
            seen.append(maps)
        return seen if self.resize is None else [*seen, self.resize(maps)]


class UpLevel(nn.Module):
    """All blocks at one resolution on the way up, each of which sees again what one saw on the way down.

    `resize` doubles the side; it is None at the top.
    """

    def __init__(self, blocks: Sequence[nn.Module], attentions: Sequence[nn.Module], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resize = resize

    def forward(self, maps: Tensor, seen: list[Tensor], time: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, 2 H, 2 W); the last of `seen` are taken from it, one for each block."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            maps = attention(block(torch.cat([maps, seen.pop()], dim=1), time))
        return maps if self.resize is None else self.resize(maps)


class DDPM(Model):
    """A PixelCNN++-like U-Net: residual blocks that know the time, attention at some resolutions (appendix B)."""

    family: ClassVar[str] = "ddpm"
    config: DDPMConfig

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__()
        self.config = config
        widths, deepest = config.widths, len(config.widths) - 1
        self.input = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.time = TimeMLP(widths[0], 4 * widths[0])
        seen = [widths[0]]  # channels of what the way up will see again
        self.down = nn.ModuleList()
        for number, (width, attends) in enumerate(zip(widths, config.attention, strict=True)):
            blocks = []
            for _ in range(config.depth):
                blocks.append(self._block(seen[-1], width))
                seen.append(width)
            resize = None
            if number < deepest:
                resize = Downsample(width, padding=config.padding)
                seen.append(width)
            self.down.append(DownLevel(blocks, [self._attention(width, attends) for _ in blocks], resize))
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
            attentions = [self._attention(width, config.attention[number]) for _ in blocks]
            self.up.append(UpLevel(blocks, attentions, Upsample(width) if number else None))
        self.norm = GroupNorm(config.groups, widths[0], eps=config.norm_eps)
        self.output = nn.Conv2d(widths[0], config.outputs, 3, padding=1)
        self.head = nn.Identity()
        initialise(self)

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        """ε_θ(x_t, t), eq. 14: noisy pictures -> the noise in them, of unit variance.

        Args:
            images: x_t, (B, C, H, W), pictures in [-1, 1] as the schedule mixes them with noise.
            times: t, (B,), the steps of the schedule, from 0.

        Returns:
            (B, outputs, H, W), in the weights' dtype.

        Raises:
            ValueError: the pictures' channels or sides are none that the network takes.
        """
        config = self.config
        check_pictures(images, config.channels, len(config.widths))
        time = self.time(
            sinusoids(times, config.widths[0], cosine_first=config.cosine_first, shift=config.frequency_shift)
        )
        seen = [self.input(images.to(self.input.weight.dtype))]
        for level in self.down:
            seen += level(seen[-1], time)
        first, attention, last = self.middle
        maps = last(attention(first(seen[-1], time)), time)
        for level in self.up:
            maps = level(maps, seen, time)
        return self.output(F.silu(self.norm(maps)))

    def example(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """A noisy picture and its time."""
        return torch.zeros(1, self.config.channels, *size), torch.zeros(1)

    def _block(self, in_channels: int, out_channels: int) -> ResidualBlock:
        config = self.config
        return ResidualBlock(
            in_channels,
            out_channels,
            time_width=4 * config.widths[0],
            groups=config.groups,
            eps=config.norm_eps,
            dropout=config.dropout,
        )

    def _attention(self, width: int, attends: bool) -> nn.Module:
        config = self.config
        if not attends:
            return nn.Identity()
        heads = attention_heads(width, config.head_width)
        return SpatialAttention(width, heads, groups=config.groups, eps=config.norm_eps)


def attention_heads(width: int, head_width: int | None) -> int:
    """How many heads share this many channels.

    Raises:
        ValueError: they cannot be shared evenly.
    """
    if head_width is not None and (head_width < 1 or width % head_width):
        raise ValueError(f"{width} channels cannot be cut into heads of {head_width}")
    return 1 if head_width is None else width // head_width


def check_levels(widths: tuple[int, ...], attention: tuple[bool, ...]) -> None:
    """A config's levels must be said in full.

    Raises:
        ValueError: they are not.
    """
    if not widths or len(widths) != len(attention):
        raise ValueError(f"there are {len(widths)} widths, and for {len(attention)} of them is said if they attend")


def check_pictures(images: Tensor, channels: int, levels: int) -> None:
    """Pictures (B, C, H, W) must be such as can be halved on the way down and doubled on the way up.

    Raises:
        ValueError: they are not.
    """
    _, found, height, width = images.shape
    if found != channels:
        raise ValueError(f"the network takes pictures of {channels} channels, not {found}")
    step = 2 ** (levels - 1)
    if not height or not width or height % step or width % step:
        raise ValueError(f"the network takes pictures whose sides are multiples of {step}, not {height}×{width}")


def initialise(network: nn.Module) -> None:
    """Start as the paper's code does: U(±√(3 / mean of fan in and out)), and zero where a branch joins or ends."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.weight)
        elif isinstance(module, SpatialAttention):
            nn.init.zeros_(module.attention.out.weight)
        elif isinstance(output := getattr(module, "output", None), nn.Conv2d):
            nn.init.zeros_(output.weight)
