"""Perceiver IO: any array is read into a few latents, they think, and any query reads an answer out of them.

Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021 (2103.03206), and "Perceiver IO: A
General Architecture for Structured Inputs & Outputs", ICLR 2022 (2107.14795). Here are the tiles that every task shares
and the classifier of pictures; optical flow and the autoencoder of video, sound and label are files beside this one.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.models.perceiver_inputs import ConvolvedPixels, FourierPixels, LearnedPixels
from vitrail.nn.mlp import MLP
from vitrail.nn.patches import pair
from vitrail.nn.transformer import Block

QUERIES_AT_ONCE = 2**14
"""How many queries are answered at once where there is one a pixel: it bounds the memory, and changes no answer."""

_NORM_EPS = 1e-5


@dataclass(frozen=True)
class LatentsConfig:
    """The numbers of the latent array and the attention around it; the defaults are the classifiers' on ImageNet.

    Attributes:
        count: N, how many latents there are.
        width: D, the width of a latent.
        depth: layers of self-attention in a block.
        repeats: how often the block is applied, with the same weights each time.
        heads: attention heads in a layer of the block.
        read_heads: attention heads when the latents read the input.
        widening: hidden width of the block's MLPs, in multiples of D.
        read_widening: the same for the MLP after the input is read.
        attend_in: which side's width queries, keys and values have where two arrays meet: that of what is read, or
            that of the queries.
        read_residual: whether the latents are added to what they have read.
        activation: the MLPs' nonlinearity, a name of `vitrail.nn.activation`.
    """

    count: int = 512
    width: int = 1024
    depth: int = 6
    repeats: int = 8
    heads: int = 8
    read_heads: int = 1
    widening: int = 1
    read_widening: int = 1
    attend_in: Literal["read", "queries"] = "read"
    read_residual: bool = True
    activation: str = "gelu"


class CrossAttention(nn.Module):
    """One array asks another: softmax(Q Kᵀ / √d) V, queries of the one, keys and values of the other.

    Perceiver IO, §3.1, eq. 1-3.

    Args:
        width: of the array that asks.
        read_width: of the array that is read.
        inner: width of queries, keys and values.
        heads: how many heads share it; must divide `inner`.
    """

    def __init__(self, width: int, read_width: int, inner: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or inner % heads:
            raise ValueError(f"width {inner} cannot be shared by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, inner)
        self.keys_values = nn.Linear(read_width, 2 * inner)
        self.out = nn.Linear(inner, width)

    def forward(self, asking: Tensor, read: Tensor) -> Tensor:
        """(B, N, width), (B, M, read_width) -> (B, N, width)."""
        mixed = F.scaled_dot_product_attention(*self._split(asking, read))
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, asking: Tensor, read: Tensor) -> Tensor:
        """How much each element that asks attends to each that is read: (B, heads, N, M) float32, rows sum to 1."""
        queries, keys, _ = self._split(asking, read)
        return (queries.float() @ keys.float().mT / queries.shape[-1] ** 0.5).softmax(-1)

    def _split(self, asking: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries = self.query(asking).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.keys_values(read).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return queries, keys, values


class CrossBlock(nn.Module):
    """x + CA(LN(x), LN(y)), then x + MLP(LN(x)). Perceiver IO, §E (appendix), eq. 4-6.

    Args:
        width: of the array x that asks.
        read_width: of the array y that is read.
        config: says in whose width they meet, and the MLP's nonlinearity.
        heads: attention heads.
        widening: hidden width of the MLP, in multiples of `width`.
        residual: whether x is added to what it has read. Where queries are places and answers colours, it is not.
    """

    def __init__(
        self,
        width: int,
        read_width: int,
        config: LatentsConfig,
        *,
        heads: int = 1,
        widening: int = 1,
        residual: bool = True,
    ) -> None:
        super().__init__()
        inner = read_width if config.attend_in == "read" else width
        self.residual = residual
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.read_norm = nn.LayerNorm(read_width, eps=_NORM_EPS)
        self.attention = CrossAttention(width, read_width, inner, heads)
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = MLP(width, widening * width, act=config.activation)

    def forward(self, asking: Tensor, read: Tensor) -> Tensor:
        """(B, N, width), (B, M, read_width) -> (B, N, width)."""
        found = self.attention(self.norm1(asking), self.read_norm(read))
        asking = asking + found if self.residual else found
        return asking + self.mlp(self.norm2(asking))


class Latents(nn.Module):
    """A learned array reads the input once, and then attends to itself. Perceiver IO, Figure 2, "read" and "process".

    The input's length is met once, by N queries; the depth of the network costs nothing in it.

    Args:
        config: its numbers.
        input_width: C, channels of an element of the input.
    """

    def __init__(self, config: LatentsConfig, input_width: int) -> None:
        super().__init__()
        self.repeats = config.repeats
        self.initial = nn.Parameter(torch.zeros(config.count, config.width))
        self.read = CrossBlock(
            config.width,
            input_width,
            config,
            heads=config.read_heads,
            widening=config.read_widening,
            residual=config.read_residual,
        )
        self.blocks = nn.Sequential(
            *(
                Block(
                    config.width,
                    config.heads,
                    MLP(config.width, config.widening * config.width, act=config.activation),
                    norm_eps=_NORM_EPS,
                )
                for _ in range(config.depth)
            )
        )
        nn.init.trunc_normal_(self.initial, std=0.02)  # §3.2 of Perceiver

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, M, C) of any length M -> (B, N, D)."""
        latents = self.read(self.initial.expand(inputs.shape[0], -1, -1), inputs)
        for _ in range(self.repeats):
            latents = self.blocks(latents)
        return latents


@dataclass(frozen=True)
class PerceiverConfig:
    """The numbers of a Perceiver IO that classifies pictures; the defaults are deepmind/vision-perceiver-learned.

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels.
        channels: channels of a picture.
        pixels: what the latents read: "learned" is a linear map of each pixel beside a learned vector for its place,
            "fourier" each pixel beside Fourier features of its place, "convolution" the same after a convolution and a
            maximum that leave a sixteenth of the elements.
        pixel_width: channels of an element, without its place, in "learned" and "convolution".
        bands: frequencies of the Fourier features along rows and columns.
        resolution: (height, width) of the grid whose Nyquist frequency is the highest of them.
        latents: the latent array.
        classes: outputs of the head; 0 for a network without one, whose output is the pooled vector.
    """

    image_size: int | tuple[int, int] = 224
    channels: int = 3
    pixels: Literal["learned", "fourier", "convolution"] = "learned"
    pixel_width: int = 256
    bands: int = 64
    resolution: tuple[int, int] = (224, 224)
    latents: LatentsConfig = field(default_factory=LatentsConfig)
    classes: int = 1000


class Perceiver(Model):
    """Pixels are read into latents, and one learned query reads the class out of them. Perceiver IO, Figure 2, §4.5."""

    family: ClassVar[str] = "perceiver"
    entries: ClassVar[tuple[str, ...]] = ("features",)
    config: PerceiverConfig

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.config = config
        self.pixels = _pixels(config)
        self.latents = Latents(config.latents, self.pixels.width)
        width = config.latents.width
        self.query = nn.Parameter(torch.zeros(1, width))
        self.answer = CrossBlock(width, width, config.latents)
        self.head = nn.Linear(width, config.classes) if config.classes else nn.Identity()
        self.apply(initialise)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes), or the pooled vector (B, D) where there is no head."""
        return self.head(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any size -> the final latents (B, N, D). They lie nowhere in the picture.

        Learned places are interpolated for other sizes than the network's, as the reference does when asked to.
        """
        if images.shape[1] != self.config.channels:
            raise ValueError(f"the network takes pictures of {self.config.channels} channels, not {images.shape[1]}")
        return self.latents(self.pixels(images))

    def pool(self, features: Tensor) -> Tensor:
        """Latents (B, N, D) -> what the query for the class reads in them, (B, D)."""
        return self.answer(self.query.expand(features.shape[0], -1, -1), features)[:, 0]


def _pixels(config: PerceiverConfig) -> LearnedPixels | FourierPixels | ConvolvedPixels:
    if config.pixels == "learned":
        return LearnedPixels(config.channels, config.pixel_width, pair(config.image_size))
    if config.pixels == "fourier":
        return FourierPixels(config.channels, config.bands, config.resolution)
    return ConvolvedPixels(config.channels, config.pixel_width, config.bands, config.resolution)


def initialise(module: nn.Module) -> None:
    """Start a linear map from N(0, 1 / its inputs), without bias, as the paper's code does."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
