"""ViT, the Vision Transformer: an image is a sequence of patches.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021
(2010.11929).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.nn.mlp import MLP
from vitrail.nn.patches import PatchEmbedding, pair, patch_grid, prepend, resize_positions
from vitrail.nn.transformer import Block


@dataclass(frozen=True)
class ViTConfig:
    """The numbers of a Vision Transformer; the defaults are ViT-B/16 (Table 1).

    Attributes:
        image_size: side, or (height, width), of the pictures the positions were learned for, in pixels.
        patch_size: side, or (height, width), of a patch, in pixels.
        channels: channels of a picture.
        width: D, the width of a token.
        depth: L, the number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        classes: outputs of the head; 0 for a network without one, whose output is the pooled vector.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the layer norms (10⁻⁶ in the paper's code, 10⁻¹² in transformers' conversions).
        qkv_bias: whether queries, keys and values have a bias.
        pooling: "class" takes the class token (eq. 4), "mean" the mean of the patches, normed after it (§D.3; timm's
            fine-tuned masked autoencoders).
        pooler: a tanh layer between pooling and head, §3.1's "MLP with one hidden layer at pre-training time"
            (google/vit-base-patch16-224-in21k).
        antialias: how positions are interpolated to a smaller grid: timm widens the kernel, transformers does not.
    """

    image_size: int | tuple[int, int] = 224
    patch_size: int | tuple[int, int] = 16
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    classes: int = 1000
    activation: str = "gelu"
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    pooling: Literal["class", "mean"] = "class"
    pooler: bool = False
    antialias: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a picture of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)


class ViT(Model):
    """An image is a sequence of patches. Dosovitskiy et al., ICLR 2021, eq. 1-4."""

    family: ClassVar[str] = "vit"
    entries: ClassVar[tuple[str, ...]] = ("features",)
    config: ViTConfig
    prefix_tokens: ClassVar[int] = 1  # the class token

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid
        self.patchify = PatchEmbedding(pair(config.patch_size), config.channels, config.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, self.prefix_tokens + rows * columns, config.width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    config.width,
                    config.heads,
                    MLP(config.width, config.mlp_width, act=config.activation),
                    norm_eps=config.norm_eps,
                    qkv_bias=config.qkv_bias,
                )
                for _ in range(config.depth)
            )
        )
        norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.norm = norm if config.pooling == "class" else nn.Identity()
        self.pooled_norm = norm if config.pooling == "mean" else nn.Identity()
        self.pooler = (
            nn.Sequential(nn.Linear(config.width, config.width), nn.Tanh()) if config.pooler else nn.Identity()
        )
        self.head = nn.Linear(config.width, config.classes) if config.classes else nn.Identity()
        self.apply(initialise)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes), or the pooled vector (B, D) where there is no head."""
        return self.head(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> final tokens (B, 1 + N, D), the class token first.

        H and W may be any multiple of the patch: positions are interpolated (§3.2).
        """
        grid = self.patchify.grid(images)
        tokens = prepend(self.patchify(images), *self.first_tokens())  # eq. 1: [x_class; x_p E]
        tokens = tokens + self.positions_for(grid)  # eq. 1: + E_pos
        return self.norm(self.blocks(tokens))  # eq. 2-4

    def pool(self, features: Tensor) -> Tensor:
        """Final tokens (B, 1 + N, D) -> one vector a picture (B, D): y = z_L⁰ of eq. 4, or the patches' mean."""
        pooled = features[:, 0] if self.config.pooling == "class" else features[:, self.prefix_tokens :].mean(1)
        return self.pooler(self.pooled_norm(pooled))

    def first_tokens(self) -> tuple[Tensor, ...]:
        """The learned tokens (1, 1, D) that go in front of the patches."""
        return (self.class_token,)

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """Positions (1, prefix + rows × columns, D) for a grid of patches."""
        first, patches = self.positions[:, : self.prefix_tokens], self.positions[:, self.prefix_tokens :]
        if grid == self.config.grid:
            return self.positions
        return torch.cat([first, resize_positions(patches, self.config.grid, grid, antialias=self.config.antialias)], 1)


def initialise(module: nn.Module) -> None:
    """Start a linear map from N(0, 0.02²) cut at two σ, without bias, as the paper's code and DeiT's do."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
