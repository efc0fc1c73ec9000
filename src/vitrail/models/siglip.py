"""SigLIP: pictures and texts in one space, learned by asking of every pair alone whether it belongs together.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (2303.15343). SigLIP 2 (Tschannen et al. 2025,
2502.14786) at fixed resolution is the same network with a larger vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.image_text import ImageText
from vitrail.nn.attention import Attention
from vitrail.nn.mlp import MLP
from vitrail.nn.patches import PatchEmbedding, pair, patch_grid, resize_positions
from vitrail.nn.transformer import Block


@dataclass(frozen=True)
class SigLIPImageConfig:
    """The numbers of the picture tower; the defaults are B/16's.

    Attributes:
        image_size: side, or (height, width), of the pictures the positions were learned for, in pixels. Pixels at the
            bottom and right that fill no patch are not seen.
        patch_size: side, or (height, width), of a patch, in pixels.
        channels: channels of a picture.
        width: D, the width of a token, and of the vectors that pictures and texts become.
        depth: number of blocks.
        heads: attention heads in a block and in the pooling.
        mlp_width: hidden width of a block's and the pooling's MLP.
        activation: the MLPs' nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the layer norms.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-6

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of whole patches in a picture of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)


@dataclass(frozen=True)
class SigLIPTextConfig:
    """The numbers of the text tower; the defaults are B's.

    Attributes:
        vocabulary: how many different tokens there are.
        context: tokens of a text; shorter ones were filled up to it in training.
        width: D, the width of a token.
        depth: number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLPs' nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the layer norms.
    """

    vocabulary: int = 32000
    context: int = 64
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-6


@dataclass(frozen=True)
class SigLIPConfig:
    """Two towers; the defaults are B/16 at 224 pixels.

    Attributes:
        image: the picture tower's numbers.
        text: the text tower's.
    """

    image: SigLIPImageConfig = field(default_factory=SigLIPImageConfig)
    text: SigLIPTextConfig = field(default_factory=SigLIPTextConfig)

    @property
    def width(self) -> int:
        """E, the width of the common space: the picture tower's, whose pooling projects to no other."""
        return self.image.width

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels

    @property
    def depth(self) -> int:
        """The number of blocks in both towers."""
        return self.image.depth + self.text.depth


class SigLIP(ImageText):
    """A ViT whose tokens are pooled by attention, and a transformer that reads texts to their last token.

    logits = e^t′ x·y + b for every picture x and text y (algorithm 1); a sigmoid of each says whether they go together.
    """

    family: ClassVar[str] = "siglip"
    config: SigLIPConfig
    prefix_tokens: ClassVar[int] = 0  # there is no class token

    def __init__(self, config: SigLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.image = SigLIPImage(config.image)
        self.text = SigLIPText(config.text, config.width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10)))  # t′ and b start where §3.2 has them start:
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))  # few of all pairs belong together
        self.head = nn.Identity()
        self.apply(initialise)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> final tokens (B, N, D), one a patch.

        H and W may be any; positions are interpolated, and pixels that fill no patch are left out.
        """
        return self.image(images)

    def pool(self, features: Tensor) -> Tensor:
        """Final tokens (B, N, D) -> one vector a picture (B, D)."""
        return self.image.pool(features)

    def patch_vectors(self, features: Tensor) -> Tensor:
        """Final tokens (B, N, D) -> (B, N, D): the vector of the picture if the pooling saw that patch alone.

        They lie in the common space and are compared with texts as pictures are.
        """
        return self.image.pool.each(features)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) int64, filled up to the context -> one vector a text (B, D).

        Raises:
            ValueError: the texts are longer than the context.
        """
        return self.text(ids)

    @property
    def patchify(self) -> PatchEmbedding:
        """What cuts a picture into patches."""
        return self.image.patchify


class SigLIPImage(nn.Module):
    """The picture tower: ViT without a class token. Dosovitskiy et al. 2021 (2010.11929), eq. 1-3."""

    def __init__(self, config: SigLIPImageConfig) -> None:
        super().__init__()
        self.grid = config.grid
        rows, columns = config.grid
        self.patchify = WholePatches(pair(config.patch_size), config.channels, config.width)
        self.positions = nn.Parameter(torch.randn(rows * columns, config.width) * config.width**-0.5)
        self.blocks = nn.Sequential(*_blocks(config))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.pool = AttentionPooling(
            config.width,
            config.heads,
            MLP(config.width, config.mlp_width, act=config.activation),
            norm_eps=config.norm_eps,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D)."""
        positions = resize_positions(self.positions[None], self.grid, self.patchify.grid(images), antialias=False)
        return self.norm(self.blocks(self.patchify(images) + positions))


class SigLIPText(nn.Module):
    """The text tower: every token sees all others, the filling too, and the last one is read.

    Args:
        config: its numbers.
        width: E, the width of the common space.
    """

    def __init__(self, config: SigLIPTextConfig, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.randn(config.context, config.width) * config.width**-0.5)
        self.blocks = nn.Sequential(*_blocks(config))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection = nn.Linear(config.width, width)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, N) int64 -> (B, E)."""
        length, context = ids.shape[1], len(self.positions)
        if length > context:
            raise ValueError(f"a text of {length} tokens is too long: this network reads {context}")
        tokens = self.blocks(self.tokens(ids) + self.positions[:length])
        return self.projection(self.norm(tokens[:, -1]))


class WholePatches(PatchEmbedding):
    """Patches of a picture whose sides need not be multiples of theirs: what is left over is not seen.

    google/siglip-so400m-patch14-384 sees 27 × 14 = 378 of its 384 pixels.
    """

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of whole patches in pictures (B, C, H, W).

        Raises:
            ValueError: the channels are not the network's, or a side is shorter than a patch.
        """
        height, width = (
            side // patch * patch for side, patch in zip(images.shape[2:], self.projection.kernel_size, strict=True)
        )
        return super().grid(images[:, :, :height, :width])


class AttentionPooling(nn.Module):
    """One learned query, the probe, attends to all tokens; an MLP follows: the "MAP head".

    Pooling by multi-head attention with one seed: Lee et al. 2019 (1810.00825), §3.2; as the head of a ViT: Zhai et al.
    2022 (2106.04560), §3.

    Args:
        width: D, the width of a token.
        heads: attention heads; must divide `width`.
        mlp: D -> D.
        norm_eps: ε of the norm before the MLP.
    """

    def __init__(self, width: int, heads: int, mlp: nn.Module, *, norm_eps: float = 1e-6) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads")
        self.heads = heads
        self.probe = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, width)))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = mlp

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, D)."""
        queries, keys, values = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, x in zip(self._maps(), (self.probe.expand(tokens.shape[0], -1, -1), tokens, tokens), strict=True)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self._after(mixed.transpose(1, 2).flatten(1))

    def each(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D): `forward` of every token alone, when all attention goes to it."""
        _, _, value = self._maps()
        return self._after(value(tokens))

    def _maps(self) -> list[Callable[[Tensor], Tensor]]:
        """From tokens to queries, to keys and to values, which one product would compute where one is wanted."""
        parts = zip(self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
        return [partial(F.linear, weight=weight, bias=bias) for weight, bias in parts]

    def _after(self, attended: Tensor) -> Tensor:
        mixed = self.out(attended)
        return mixed + self.mlp(self.norm(mixed))


def _blocks(config: SigLIPImageConfig | SigLIPTextConfig) -> list[Block]:
    return [
        Block(
            config.width,
            config.heads,
            MLP(config.width, config.mlp_width, act=config.activation),
            norm_eps=config.norm_eps,
        )
        for _ in range(config.depth)
    ]


def initialise(module: nn.Module) -> None:
    """Start linear maps from Glorot's uniform distribution, embeddings from N(0, 1/D), as the paper's code does."""
    if isinstance(module, Attention | AttentionPooling):
        for part in module.qkv.weight.chunk(3):  # queries, keys and values are a map each
            nn.init.xavier_uniform_(part)
    elif isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
