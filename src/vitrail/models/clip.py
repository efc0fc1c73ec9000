"""CLIP: pictures and their captions meet in one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (2103.00020); what
the paper leaves open as in the authors' code.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.models.bert import BERT, BERTConfig
from vitrail.models.clip_resnet import CLIPResNet, CLIPResNetConfig
from vitrail.models.image_text import ImageText
from vitrail.nn.mlp import MLP
from vitrail.nn.patches import PatchEmbedding, pair, patch_grid, prepend, resize_positions
from vitrail.nn.transformer import Block


@dataclass(frozen=True)
class CLIPImageConfig:
    """The numbers of CLIP's Vision Transformer; the defaults are ViT-B/32 (Table 19).

    Attributes:
        image_size: side, or (height, width), of the pictures the positions were learned for, in pixels.
        patch_size: side, or (height, width), of a patch, in pixels.
        channels: channels of a picture.
        width: D, the width of a token.
        depth: the number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`; OpenAI's networks have quick_gelu.
        norm_eps: ε of the layer norms.
        antialias: how positions are interpolated to a smaller grid: open_clip widens the kernel, transformers does not.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 32
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    antialias: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a picture of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)


@dataclass(frozen=True)
class CLIPTextConfig:
    """The numbers of CLIP's text transformer; the defaults are those beside ViT-B/32 (Table 19).

    Attributes:
        vocabulary: how many tokens there are.
        context: the most tokens of a text.
        width: D, the width of a token.
        depth: the number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`; OpenAI's networks have quick_gelu.
        norm_eps: ε of the layer norms.
        end: the id of the end-of-text token; None where it is the highest id in every text, as in OpenAI's vocabulary.
    """

    vocabulary: int = 49408
    context: int = 77
    width: int = 512
    depth: int = 12
    heads: int = 8
    mlp_width: int = 2048
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    end: int | None = None


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers and the space they share; the defaults are ViT-B/32.

    Attributes:
        image: the picture tower's numbers.
        text: the text tower's; a BERT's in Chinese CLIP (Yang et al. 2022, 2211.01335).
        width: E, the width of the common space.
    """

    image: CLIPImageConfig | CLIPResNetConfig = field(default_factory=CLIPImageConfig)
    text: CLIPTextConfig | BERTConfig = field(default_factory=CLIPTextConfig)
    width: int = 512

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels


class CLIPImage(nn.Module):
    """The picture tower: a Vision Transformer with one more norm, between positions and blocks (§2.4).

    Args:
        config: its numbers.
        out: E, the width of the space it shares with the texts; None where there is none, and its tokens are read.
    """

    def __init__(self, config: CLIPImageConfig, out: int | None) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        scale = config.width**-0.5
        self.patchify = PatchEmbedding(pair(config.patch_size), config.channels, config.width, bias=False)
        self.class_token = nn.Parameter(torch.empty(config.width).normal_(std=scale))
        self.positions = nn.Parameter(torch.empty(1 + rows * columns, config.width).normal_(std=scale))
        self.norm_before = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = _blocks(config)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection: nn.Module = nn.Identity()
        if out is not None:
            self.projection = nn.Linear(config.width, out, bias=False)
            nn.init.normal_(self.projection.weight, std=scale)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> final tokens (B, 1 + N, D), the class token first.

        H and W may be any multiple of the patch: positions are interpolated.
        """
        return self.norm(self.tokens(images))

    def tokens(self, images: Tensor) -> Tensor:
        """The same before the last norm, as IDEFICS reads them (models/flamingo.py)."""
        grid = self.patchify.grid(images)
        tokens = prepend(self.patchify(images), self.class_token[None, None]) + self.positions_for(grid)
        return self.blocks(self.norm_before(tokens))

    def pool(self, features: Tensor) -> Tensor:
        """Final tokens (B, 1 + N, D) -> (B, E): the class token, projected."""
        return self.projection(features[:, 0])

    def patch_vectors(self, features: Tensor) -> Tensor:
        """Final tokens (B, 1 + N, D) -> (B, N, E): the patches, projected as if each were the class token."""
        return self.projection(features[:, 1:])

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """Positions (1 + rows × columns, D) for a grid of patches."""
        if grid == self.config.grid:
            return self.positions
        patches = resize_positions(self.positions[None, 1:], self.config.grid, grid, antialias=self.config.antialias)
        return torch.cat([self.positions[:1], patches[0]])


class CLIPText(nn.Module):
    """The text tower: a transformer whose tokens see only what came before them (§2.4)."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.empty(config.context, config.width).normal_(std=0.01))
        self.blocks = _blocks(config)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) int64 -> final tokens (B, N, D).

        Raises:
            ValueError: there are more tokens than positions.
        """
        return self.norm(self.hidden(ids))

    def hidden(self, ids: Tensor, skip: int = 0) -> Tensor:
        """The same before the last norm, and without the last `skip` blocks, as Stable Diffusion reads them.

        Raises:
            ValueError: there are more tokens than positions.
        """
        length = ids.shape[1]
        if length > self.config.context:
            raise ValueError(f"a text of {length} tokens is longer than the {self.config.context} the network reads")
        tokens = self.tokens(ids) + self.positions[:length]
        for number in range(len(self.blocks) - skip):
            tokens = self.blocks[number](tokens, causal=True)
        return tokens

    def ends(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) -> where each text ends, (B,): the first end-of-text token, others being filling."""
        end = self.config.end
        return ids.argmax(1) if end is None else (ids == end).int().argmax(1)

    def vector(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) -> (B, D), the final token at the end of each text, which alone has seen all of it."""
        ends = self.ends(ids)
        if not (ids.is_meta or torch.compiler.is_compiling()):
            ids = ids[:, : int(ends.max()) + 1]  # nothing behind the last end is ever seen
        return self(ids)[torch.arange(ids.shape[0], device=ids.device), ends]


class CLIP(ImageText):
    """A picture and its caption are near each other, and far from all others (figure 3)."""

    family: ClassVar[str] = "clip"
    config: CLIPConfig
    prefix_tokens: ClassVar[int] = 1  # the class token, where features are tokens

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        image = config.image
        self.image: CLIPImage | CLIPResNet = (
            CLIPResNet(image, config.width) if isinstance(image, CLIPResNetConfig) else CLIPImage(image, config.width)
        )
        text = config.text
        self.text: CLIPText | BERT = BERT(text) if isinstance(text, BERTConfig) else CLIPText(text)
        self.text_projection = nn.Linear(text.width, config.width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # §2.5
        self.head = nn.Identity()
        nn.init.normal_(self.text_projection.weight, std=text.width**-0.5)

    @property
    def patchify(self) -> PatchEmbedding:
        """What cuts pictures into patches, where the picture tower is a transformer."""
        if isinstance(self.image, CLIPResNet):
            raise AttributeError("a ResNet has no patches")
        return self.image.patchify

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> final tokens (B, 1 + N, D), the class token first; or the ResNet's map (B, D, h, w)."""
        return self.image(images)

    def pool(self, features: Tensor) -> Tensor:
        """What `features` gives -> the picture's vector in the common space (B, E), not scaled to length 1."""
        return self.image.pool(features)

    def patch_vectors(self, features: Tensor) -> Tensor:
        """What `features` gives -> a vector for every patch in the common space (B, N, E), row by row.

        Tokens are normed and projected as the class token is. The ResNet's places go through the values and the output
        of the pooling's attention, as in MaskCLIP: Zhou et al. 2022 (2112.01071), §3.2. (In a transformer that paper
        replaces the last block's attention in the same way, which final tokens are past.)
        """
        return self.image.patch_vectors(features)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) int64 -> one vector a text in the common space (B, E), not scaled to length 1."""
        text = self.text
        return self.text_projection(text.pool(text(ids)) if isinstance(text, BERT) else text.vector(ids))


def _blocks(config: CLIPImageConfig | CLIPTextConfig) -> nn.Sequential:
    """A tower's blocks, started as the authors' code starts them: what each adds shrinks with their number."""
    width, depth = config.width, config.depth
    blocks = nn.Sequential()
    for _ in range(depth):
        mlp = MLP(width, config.mlp_width, act=config.activation)
        block = Block(width, config.heads, mlp, norm_eps=config.norm_eps)
        nn.init.zeros_(block.attention.qkv.bias)
        nn.init.zeros_(block.attention.out.bias)
        nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
        nn.init.normal_(block.attention.out.weight, std=width**-0.5 * (2 * depth) ** -0.5)
        nn.init.normal_(mlp.up.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(mlp.down.weight, std=width**-0.5 * (2 * depth) ** -0.5)
        blocks.append(block)
    return blocks
