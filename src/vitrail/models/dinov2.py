"""DINOv2: a Vision Transformer trained without labels, whose patch tokens know what they show.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024 (2304.07193).
Darcet et al., "Vision Transformers Need Registers", ICLR 2024 (2309.16588), for the register tokens.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.models.vit import initialise
from vitrail.nn.mlp import MLP, SwiGLU
from vitrail.nn.patches import PatchEmbedding, pair, patch_grid, prepend, resize_positions
from vitrail.nn.transformer import Block


@dataclass(frozen=True)
class DINOv2Config:
    """The numbers of a DINOv2 network; the defaults are ViT-S/14 (Table 17).

    Attributes:
        image_size: side, or (height, width), of the pictures the positions were learned for, in pixels.
        patch_size: side, or (height, width), of a patch, in pixels.
        channels: channels of a picture.
        width: D, the width of a token.
        depth: L, the number of blocks.
        heads: attention heads in a block.
        mlp: "gelu" for two linear maps with a GELU, "swiglu" for the gated form of the giant size.
        mlp_width: hidden width of a block's MLP (of the gated form: width of the gate).
        registers: extra learned tokens that only take part in attention (2309.16588, §2.2).
        classes: outputs of the head; 0 for none, as the networks are published.
        norm_eps: ε of the layer norms.
        qkv_bias: whether queries, keys and values have a bias.
        layer_scale: initial gain of the LayerScales.
        pooling: "class" takes the class token; "class+mean" puts the patches' mean behind it, the input of the linear
            classifiers of §7.1 and of transformers' Dinov2ForImageClassification.
        class_position: whether the class token has a position (timm adds it to the token where there are registers).
        mask_token: whether the token that stands for a masked patch in training is kept (timm drops it).
        antialias: widen the kernel when positions are interpolated to a smaller grid (the networks with registers do).
    """

    image_size: int | tuple[int, int] = 518
    patch_size: int | tuple[int, int] = 14
    channels: int = 3
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp: Literal["gelu", "swiglu"] = "gelu"
    mlp_width: int = 1536
    registers: int = 0
    classes: int = 0
    norm_eps: float = 1e-6
    qkv_bias: bool = True
    layer_scale: float = 1.0
    pooling: Literal["class", "class+mean"] = "class"
    class_position: bool = True
    mask_token: bool = True
    antialias: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a picture of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)


class DINOv2(Model):
    """A ViT with LayerScale, registers and, in the giant size, gated MLPs (2304.07193, appendix B)."""

    family: ClassVar[str] = "dinov2"
    entries: ClassVar[tuple[str, ...]] = ("features",)
    config: DINOv2Config

    def __init__(self, config: DINOv2Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        rows, columns = config.grid
        self.patchify = PatchEmbedding(pair(config.patch_size), config.channels, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, config.class_position + rows * columns, width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        if config.mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    width,
                    config.heads,
                    SwiGLU(width, config.mlp_width) if config.mlp == "swiglu" else MLP(width, config.mlp_width),
                    norm_eps=config.norm_eps,
                    qkv_bias=config.qkv_bias,
                    layer_scale=config.layer_scale,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        pooled_width = 2 * width if config.pooling == "class+mean" else width
        self.head = nn.Linear(pooled_width, config.classes) if config.classes else nn.Identity()
        self.apply(initialise)
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.normal_(self.class_token, std=1e-6)

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand in front of the patches: the class token and the registers."""
        return 1 + self.config.registers

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes), or the pooled vector where there is no head."""
        return self.head(self.pool(self.features(images)))

    def features(self, images: Tensor, masked: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> final tokens (B, 1 + registers + N, D): class token, registers, patches row by row.

        H and W may be any multiple of the patch: positions are interpolated.

        Args:
            images: normalised pictures.
            masked: (B, N) booleans, patches to be replaced by the mask token, as iBOT's objective does (§4).

        Raises:
            ValueError: patches are masked in a network that has no mask token.
        """
        patches = self.patchify(images)
        if masked is not None:
            if not self.config.mask_token:
                raise ValueError("this network has no mask token: its checkpoint's publisher dropped it")
            patches = torch.where(masked[..., None], self.mask_token, patches)
        tokens = self.with_positions(patches, self.patchify.grid(images))
        return self.norm(self.blocks(tokens))

    def pool(self, features: Tensor) -> Tensor:
        """Final tokens -> one vector a picture: the class token (B, D), or with the patches' mean behind (B, 2 D)."""
        class_token = features[:, 0]
        if self.config.pooling == "class":
            return class_token
        return torch.cat([class_token, features[:, self.prefix_tokens :].mean(1)], dim=1)

    def with_positions(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches (B, N, D) -> the sequence (B, 1 + registers + N, D); registers have no position (2309.16588)."""
        config = self.config
        class_token: Tensor = self.class_token
        if config.class_position:
            class_token = class_token + self.positions[:, :1]
        learned = self.positions[:, int(config.class_position) :]
        patches = patches + resize_positions(learned, config.grid, grid, antialias=config.antialias)
        return prepend(patches, class_token, *([self.register_tokens] if config.registers else []))


def rearranged(model: DINOv2, *, class_position: bool, mask_token: bool) -> DINOv2:
    """The same function kept in other tensors, as publishers keep it.

    Args:
        model: the network.
        class_position: keep the class token's position apart (zero, where it had been added to the token), or add it.
        mask_token: keep a mask token (zero, where it had been dropped), or drop it.
    """
    state, config = dict(model.state_dict()), model.config
    positions = state["positions"]
    if class_position and not config.class_position:
        state["positions"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    if config.class_position and not class_position:
        state["class_token"], state["positions"] = state["class_token"] + positions[:, :1], positions[:, 1:]
    if mask_token:
        state.setdefault("mask_token", torch.zeros_like(state["class_token"][0]))
    else:
        state.pop("mask_token", None)
    with torch.device("meta"):
        changed = DINOv2(replace(config, class_position=class_position, mask_token=mask_token))
    changed.load_state_dict(state, assign=True)
    changed.preprocess, changed.labels, changed.origin = model.preprocess, model.labels, model.origin
    return changed.train(model.training)
