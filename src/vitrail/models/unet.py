"""The conditional UNet of Stable Diffusion 1.5, 2.1 and XL: it says what of a noisy picture is noise, told a text.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022 (2112.10752), §3.3 and figure
3; for XL Podell et al., "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis", 2023
(2307.01952), §2.1 and §2.2. What the papers leave open as in diffusers' UNet2DConditionModel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.nn.attention import Attention
from vitrail.nn.gated import CrossAttention, KeysValues
from vitrail.nn.mlp import GEGLU
from vitrail.nn.norm import GroupNorm
from vitrail.nn.resnet import Downsample, ResidualBlock, Upsample
from vitrail.nn.time import TimeMLP, sinusoids

Added = tuple[Tensor, Tensor]
"""What XL is told besides the text's tokens: the text as one vector (B, P), and numbers (B, K), in pixels: height and
width of the original picture, top and left of its cut, height and width of the target."""


@dataclass(frozen=True)
class UNetConfig:
    """The numbers of a conditional UNet; the defaults are Stable Diffusion 1.5's.

    Tuples have one entry a level, the largest pictures first; on the way up the levels are the same, the other way
    round, with one residual block more.

    Attributes:
        image_size: side, or (height, width), of the noisy pictures it was trained on, in their own pixels: latents,
            mostly.
        channels: channels of the input: more than come out where what is known of a picture is put in, too (9 for
            inpainting: noise, mask, masked picture).
        out_channels: channels of the output.
        widths: channels of the levels.
        depths: residual blocks of each.
        transformer_depths: blocks in the transformer behind each residual block; 0 for no transformer.
        middle_depth: blocks of the transformer between the way down and the way up.
        heads: attention heads.
        context_width: D, the width of a token of the text.
        added_width: width of what XL is told besides: of the text's vector and the waves of all its numbers; 0 for
            none.
        number_width: how many waves stand for one of these numbers.
        groups: groups of channels of the norms.
        norm_eps: ε of the residual blocks' norms and the last.
        linear_projection: whether the published file holds the maps into and out of the transformers as matrices, from
            2.0 on, and not as 1×1 convolutions. They do the same.
        upcast_attention: whether diffusers is told to compute attention scores in float32. Here they always are.
    """

    image_size: int | tuple[int, int] = 64
    channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    transformer_depths: tuple[int, ...] = (1, 1, 1, 0)
    middle_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    added_width: int = 0
    number_width: int = 256
    groups: int = 32
    norm_eps: float = 1e-5
    linear_projection: bool = False
    upcast_attention: bool = False

    @property
    def time_width(self) -> int:
        """T, the width of the time's embedding."""
        return 4 * self.widths[0]


class TransformerBlock(nn.Module):
    """x + MSA(LN(x)), then x + attention(LN(x), text), then x + MLP(LN(x)). Rombach et al. 2022, appendix E.2.1.

    Args:
        width: of a token of the picture.
        context_width: of a token of the text.
        heads: of both attentions.
    """

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.cross = CrossAttention(width, context_width, heads, width // heads, out_bias=True)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = GEGLU(width, 4 * width)

    def forward(self, tokens: Tensor, text: KeysValues) -> Tensor:
        """(B, N, C) -> (B, N, C); `text` as `cross.look_at` gives it."""
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.cross(self.norm2(tokens), text)
        return tokens + self.mlp(self.norm3(tokens))


class SpatialTransformer(nn.Module):
    """A transformer whose tokens are the pixels of a picture, added to it. Rombach et al. 2022, appendix E.2.1.

    Args:
        width: C, channels of the picture and width of a token.
        context_width: of a token of the text.
        depth: the number of blocks.
        heads: attention heads.
        groups: groups of channels of the norm.
    """

    def __init__(self, width: int, context_width: int, depth: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.into = nn.Linear(width, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, context_width, heads) for _ in range(depth))
        self.out = nn.Linear(width, width)

    def forward(self, images: Tensor, text: Iterator[KeysValues]) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); `text` has keys and values for each block, and perhaps for others after it."""
        tokens = self.into(self.norm(images).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            tokens = block(tokens, next(text))
        return images + self.out(tokens).unflatten(1, images.shape[2:]).permute(0, 3, 1, 2)


class Level(nn.Module):
    """What is done at one size of picture: residual blocks, each with a transformer behind it where there is one.

    Args:
        residuals: the blocks.
        transformers: as many transformers; none; or, in the middle, one less than there are blocks.
        resize: what leads to the next level; None where there is no next one.
    """

    def __init__(
        self, residuals: list[ResidualBlock], transformers: list[SpatialTransformer], resize: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.residuals = nn.ModuleList(residuals)
        self.transformers = nn.ModuleList(transformers)
        self.resize = resize

    def stage(self, number: int, images: Tensor, time: Tensor, text: Iterator[KeysValues]) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W): a residual block, and its transformer."""
        images = self.residuals[number](images, time)
        return self.transformers[number](images, text) if number < len(self.transformers) else images


class Down(Level):
    """A level on the way down, which makes pictures smaller at its end."""

    def forward(self, images: Tensor, time: Tensor, text: Iterator[KeysValues]) -> list[Tensor]:
        """(B, C, H, W) -> what the way up is to see again, (B, D, H, W) each, and, smaller, what goes on downwards."""
        found: list[Tensor] = []
        for number in range(len(self.residuals)):
            images = self.stage(number, images, time, text)
            found.append(images)
        return found if self.resize is None else [*found, self.resize(images)]


class Middle(Level):
    """The level between the way down and the way up."""

    def forward(self, images: Tensor, time: Tensor, text: Iterator[KeysValues]) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        for number in range(len(self.residuals)):
            images = self.stage(number, images, time, text)
        return images


class Up(Level):
    """A level on the way up: each block sees, too, what one on the way down had found."""

    def forward(self, images: Tensor, time: Tensor, text: Iterator[KeysValues], found: list[Tensor]) -> Tensor:
        """(B, C, H, W) -> (B, D, H', W') as large as what is last in `found`, of which it takes one a block."""
        for number in range(len(self.residuals)):
            images = self.stage(number, torch.cat([images, found.pop()], dim=1), time, text)
        # not always twice the side: of an odd one ⌈H / 2⌉ came down
        return images if self.resize is None else self.resize(images, found[-1].shape[2:])


class UNet(Model):
    """Down to small pictures and up again, every level seeing what its twin on the way down had found (figure 3)."""

    family: ClassVar[str] = "unet"
    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        widths, last = config.widths, len(config.widths) - 1
        self.time = TimeMLP(widths[0], config.time_width)
        self.added = TimeMLP(config.added_width, config.time_width) if config.added_width else None
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        found = [widths[0]]  # the channels of what the way up is to see again
        for level, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            residuals = self._residuals(level, [found[-1], *[width] * (depth - 1)])
            resize = Downsample(width) if level < last else None
            self.down.append(Down(residuals, self._transformers(level, depth), resize))
            found += [width] * (depth + (level < last))
        residuals = self._residuals(last, [widths[-1]] * 2)
        self.middle = Middle(residuals, [self._transformer(last, config.middle_depth)])
        self.up = nn.ModuleList()
        current = widths[-1]
        for level in reversed(range(len(widths))):
            channels = []
            for _ in range(config.depths[level] + 1):
                channels.append(current + found.pop())
                current = widths[level]
            transformers = self._transformers(level, len(channels))
            self.up.append(Up(self._residuals(level, channels), transformers, Upsample(current) if level else None))
        self.norm = GroupNorm(config.groups, widths[0], eps=config.norm_eps)
        self.out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        self.head = nn.Identity()

    def _residuals(self, level: int, channels: list[int]) -> list[ResidualBlock]:
        """A level's residual blocks, which take so many channels."""
        config, width = self.config, self.config.widths[level]
        return [
            ResidualBlock(taken, width, time_width=config.time_width, groups=config.groups, eps=config.norm_eps)
            for taken in channels
        ]

    def _transformers(self, level: int, count: int) -> list[SpatialTransformer]:
        """So many transformers of a level; none where it has none."""
        depth = self.config.transformer_depths[level]
        return [self._transformer(level, depth) for _ in range(count) if depth]

    def _transformer(self, level: int, depth: int) -> SpatialTransformer:
        config = self.config
        return SpatialTransformer(config.widths[level], config.context_width, depth, config.heads[level], config.groups)

    def forward(
        self, x: Tensor, t: Tensor | float, context: Tensor | tuple[Tensor, ...], added: Added | None = None
    ) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W): the noise, or the velocity, as it was trained.

        Args:
            x: noisy pictures (B, C, H, W), of variance 1; H and W may be any.
            t: their times, (B,) or one number for all; 0 is least noise and 999 most.
            context: the text's tokens (B, N, D); or what `look_at` made of them, for all steps of a run at once.
            added: what XL is told besides.

        Raises:
            ValueError: channels or widths are not the network's, or `added` is lacking or more than it takes.
        """
        config = self.config
        if x.ndim != 4 or x.shape[1] != config.channels:
            raise ValueError(f"this UNet takes (B, {config.channels}, H, W), not {tuple(x.shape)}")
        time = self._embed(x, t, added)
        seen = self.look_at(context) if isinstance(context, Tensor) else context
        text = zip(seen[::2], seen[1::2], strict=True)
        found = [self.stem(x)]
        for level in self.down:
            found += level(found[-1], time, text)
        images = self.middle(found[-1], time, text)
        for level in self.up:
            images = level(images, time, text, found)
        return self.out(F.silu(self.norm(images)))

    def example(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """A noisy picture of (height, width), its time, a text of 77 tokens, and what XL is told besides."""
        config = self.config
        x, context = torch.zeros(1, config.channels, *size), torch.zeros(1, 77, config.context_width)
        numbers = 6
        vector = torch.zeros(1, max(config.added_width - numbers * config.number_width, 0))
        return x, torch.zeros(1), context, (vector, torch.zeros(1, numbers)) if config.added_width else None

    def look_at(self, context: Tensor) -> tuple[Tensor, ...]:
        """A text's tokens (B, N, D) -> keys and values (B, heads, N, d) of every block, one after the other.

        They are the same at every step of a run: made once, they may go into `forward` instead of the tokens.

        Raises:
            ValueError: the tokens are of another width.
        """
        if context.ndim != 3 or context.shape[2] != self.config.context_width:
            raise ValueError(f"this UNet reads texts (B, N, {self.config.context_width}), not {tuple(context.shape)}")
        modules = chain(self.down.modules(), self.middle.modules(), self.up.modules())  # in the order in which they run
        blocks = (module for module in modules if isinstance(module, TransformerBlock))
        return tuple(part for block in blocks for part in block.cross.look_at(context))

    def _embed(self, x: Tensor, t: Tensor | float, added: Added | None) -> Tensor:
        """Times, and what XL is told besides -> (B, T)."""
        times = torch.as_tensor(t, device=x.device).expand(x.shape[0])
        embedded = self.time(sinusoids(times, self.config.widths[0]))
        if (added is None) != (self.added is None):
            what = "nothing but a text's tokens" if self.added is None else "a text's vector and numbers, too: `added`"
            raise ValueError(f"this UNet is told {what}")
        if added is None or self.added is None:
            return embedded
        vector, numbers = added
        waves = sinusoids(numbers, self.config.number_width).flatten(1).to(x.dtype)
        told = torch.cat([vector, waves], dim=1)
        if told.shape[1] != self.config.added_width:
            raise ValueError(
                f"a vector of {vector.shape[1]} and {numbers.shape[1]} numbers of {self.config.number_width} waves are "
                f"{told.shape[1]}, where this UNet is told {self.config.added_width}"
            )
        return embedded + self.added(told)


def _check(config: UNetConfig) -> None:
    """Whether the numbers make a network, or a ValueError."""
    for name in ("depths", "transformer_depths", "heads"):
        if len(getattr(config, name)) != len(config.widths):
            raise ValueError(f"{name} {getattr(config, name)} are not one for each of the widths {config.widths}")
    if not config.widths or not all(config.depths):
        raise ValueError(f"a UNet has levels, and each has a residual block: not {config.widths}, {config.depths}")
    for width, heads in zip(config.widths, config.heads, strict=True):
        if width % config.groups or heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be shared by {config.groups} groups and {heads} heads")
