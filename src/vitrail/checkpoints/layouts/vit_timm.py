"""ViT and DeiT as the timm library publishes them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row, Shapes
from vitrail.checkpoints.timm import TimmLayout, architecture_of
from vitrail.checkpoints.transformers import read_size, write_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, standard
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.model import Model
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.patches import pair

# Touvron 2020, Table 1; Steiner 2021 (2106.10270), Table 2; Zhai 2021 (2106.04560), Table 2
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3, "mlp_width": 768},
    "small": {"width": 384, "depth": 12, "heads": 6, "mlp_width": 1536},
    "base": {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072},
    "large": {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096},
    "huge": {"width": 1280, "depth": 32, "heads": 16, "mlp_width": 5120},
    "giant": {"width": 1408, "depth": 40, "heads": 16, "mlp_width": 6144},
    "gigantic": {"width": 1664, "depth": 48, "heads": 16, "mlp_width": 8192},
}


def _published(
    name: str, tag: str, size: str, patch: int, image: int, half: bool = True, **more: Any
) -> dict[str, Published]:
    mean, std = (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
    config = ViTConfig(image_size=image, patch_size=patch, antialias=True, **_SIZES[size], **more)
    crop = 1.0 if image == 384 else 0.9
    preprocess = standard(image, mean=mean, std=std, crop_fraction=crop)
    return {name: Published(config, f"timm/{name}.{tag}" if tag else "", "Apache-2.0", preprocess)}


_UNSEEN = ("norm_layer", "block_fn", "mlp_layer", "attn_layer", "embed_layer", "pool_include_prefix")
"""`model_args` that change a network's numbers and not its tensors, by which every other difference is noticed."""


def model_arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`model_args` of config.json: what differs from the named architecture.

    Raises:
        CheckpointError: they ask for a tile that Vitrail does not have.
    """
    arguments = config.get("model_args") or {}
    for name in _UNSEEN:
        if arguments.get(name):
            raise CheckpointError(
                f"{architecture_of(config)} with {name} '{arguments[name]}' is not a network that Vitrail knows"
            )
    return arguments


class ViTTimm(TimmLayout):
    """timm's VisionTransformer with a class token and learned positions."""

    family = "vit"
    model: type[Model] = ViT
    published: ClassVar[Mapping[str, Published]] = {
        **_published("vit_tiny_patch16_224", "augreg_in21k_ft_in1k", "tiny", 16, 224),
        **_published("vit_tiny_patch16_384", "augreg_in21k_ft_in1k", "tiny", 16, 384),
        **_published("vit_small_patch32_224", "augreg_in21k_ft_in1k", "small", 32, 224),
        **_published("vit_small_patch32_384", "augreg_in21k_ft_in1k", "small", 32, 384),
        **_published("vit_small_patch16_224", "augreg_in21k_ft_in1k", "small", 16, 224),
        **_published("vit_small_patch16_384", "augreg_in21k_ft_in1k", "small", 16, 384),
        **_published("vit_small_patch8_224", "dino", "small", 8, 224, half=False, classes=0),
        **_published("vit_base_patch32_224", "augreg_in21k_ft_in1k", "base", 32, 224),
        **_published("vit_base_patch32_384", "augreg_in21k_ft_in1k", "base", 32, 384),
        **_published("vit_base_patch16_224", "augreg2_in21k_ft_in1k", "base", 16, 224),
        **_published("vit_base_patch16_384", "augreg_in21k_ft_in1k", "base", 16, 384),
        **_published("vit_base_patch8_224", "augreg2_in21k_ft_in1k", "base", 8, 224),
        **_published("vit_large_patch32_224", "orig_in21k", "large", 32, 224, classes=0),
        **_published("vit_large_patch32_384", "orig_in21k_ft_in1k", "large", 32, 384),
        **_published("vit_large_patch16_224", "augreg_in21k_ft_in1k", "large", 16, 224),
        **_published("vit_large_patch16_384", "augreg_in21k_ft_in1k", "large", 16, 384),
        **_published("vit_large_patch14_224", "", "large", 14, 224),
        **_published("vit_huge_patch14_224", "orig_in21k", "huge", 14, 224, classes=0),
        **_published("vit_giant_patch14_224", "", "giant", 14, 224),
        **_published("vit_gigantic_patch14_224", "", "gigantic", 14, 224),
        **_published("deit_tiny_patch16_224", "fb_in1k", "tiny", 16, 224, half=False),
        **_published("deit_small_patch16_224", "fb_in1k", "small", 16, 224, half=False),
        **_published("deit_base_patch16_224", "fb_in1k", "base", 16, 224, half=False),
        **_published("deit_base_patch16_384", "fb_in1k", "base", 16, 384, half=False),
    }

    def read_config(self, description: Description) -> ViTConfig:
        """config.json -> ViTConfig."""
        return ViTConfig(**self.read_fields(description))

    def read_fields(self, description: Description) -> dict[str, Any]:
        """The architecture's numbers, overridden by `model_args` and by what the tensors' shapes say."""
        config, shapes = description.config, description.shapes
        base, arguments = self.base_config(description), model_arguments(config)
        width = arguments.get("embed_dim", base.width)
        usual = "avg" if "fc_norm.weight" in shapes else "token"
        pooling = arguments.get("global_pool", config.get("global_pool", usual))
        if pooling not in ("token", "avg"):
            raise CheckpointError(
                f"{architecture_of(config)} with global_pool '{pooling}' is not a network that Vitrail knows"
            )
        return {
            "image_size": read_size(arguments.get("img_size", base.image_size)),
            "patch_size": read_size(arguments.get("patch_size", base.patch_size)),
            "channels": shapes.get("patch_embed.proj.weight", (0, base.channels))[1],
            "width": width,
            "depth": arguments.get("depth", base.depth),
            "heads": arguments.get("num_heads", base.heads),
            "mlp_width": int(width * arguments["mlp_ratio"])
            if "mlp_ratio" in arguments
            else _mlp_width(shapes, base, width),
            "classes": shapes.get("head.weight", (0,))[0],
            "activation": arguments.get("act_layer") or "gelu",
            "qkv_bias": arguments.get("qkv_bias", True),
            "pooling": "mean" if pooling == "avg" else "class",
            "antialias": True,
        }

    def write_config(self, model: Model) -> dict[str, Any]:
        """ViTConfig -> the architecture that comes nearest, and what differs as `model_args`."""
        config = model.config
        if config.pooler:
            raise CheckpointError("the timm layout of this family has no pooler")
        architecture = nearest(self.published, config)
        base = self.published[architecture].config
        arguments = overrides(config, base)
        if config.mlp_width != 4 * config.width or base.mlp_width != 4 * base.width:
            arguments["mlp_ratio"] = config.mlp_width / config.width
        if config.pooling == "mean":
            arguments["global_pool"] = "avg"
        if config.activation != "gelu":
            arguments["act_layer"] = config.activation
        described = self.config_json(model, architecture, arguments)
        described["global_pool"] = "avg" if config.pooling == "mean" else "token"
        described["num_features"] = config.width
        described["pretrained_cfg"] |= {"first_conv": "patch_embed.proj", "classifier": self.classifier(config)}
        return described

    def classifier(self, config: Any) -> str | list[str]:
        """What timm calls the head."""
        return "head"

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        return [
            *embedding_rows(),
            *encoder_rows(),
            Row("pooled_norm.{p}", "fc_norm.{p}"),
            Row("head.{p}", "head.{p}"),
        ]


def embedding_rows() -> list[Row]:
    """Patch embedding, class token, positions and final norm."""
    return [
        Row("patchify.projection.{p}", "patch_embed.proj.{p}"),
        Row("class_token", "cls_token"),
        Row("positions", "pos_embed"),
        Row("norm.{p}", "norm.{p}"),
    ]


def encoder_rows() -> list[Row]:
    """The blocks, with or without LayerScale."""
    return [
        Row("blocks.{i}.attention.qkv.{p}", "blocks.{i}.attn.qkv.{p}"),
        Row("blocks.{i}.attention.out.{p}", "blocks.{i}.attn.proj.{p}"),
        Row("blocks.{i}.mlp.up.{p}", "blocks.{i}.mlp.fc1.{p}"),
        Row("blocks.{i}.mlp.down.{p}", "blocks.{i}.mlp.fc2.{p}"),
        Row("blocks.{i}.norm{j}.{p}", "blocks.{i}.norm{j}.{p}"),
        Row("blocks.{i}.scale{j}.gain", "blocks.{i}.ls{j}.gamma"),
    ]


def nearest(published: Mapping[str, Published], config: Any) -> str:
    """The published architecture that shares the most numbers with `config`."""
    fields = ("width", "depth", "heads", "mlp_width", "patch_size", "image_size")

    def shared(name: str) -> int:
        return sum(getattr(published[name].config, field) == getattr(config, field) for field in fields)

    return max(published, key=shared)


def overrides(config: Any, base: Any) -> dict[str, Any]:
    """The `model_args` that make `config` of the architecture `base`, but for the MLP's width."""
    arguments: dict[str, Any] = {}
    for ours, theirs in (("image_size", "img_size"), ("patch_size", "patch_size")):
        if pair(getattr(config, ours)) != pair(getattr(base, ours)):
            arguments[theirs] = write_size(getattr(config, ours))
    for ours, theirs in (("channels", "in_chans"), ("width", "embed_dim"), ("depth", "depth"), ("heads", "num_heads")):
        if getattr(config, ours) != getattr(base, ours):
            arguments[theirs] = getattr(config, ours)
    if not config.qkv_bias:
        arguments["qkv_bias"] = False
    return arguments


def _mlp_width(shapes: Shapes, base: ViTConfig, width: int) -> int:
    """The hidden width where `model_args` do not say: as the tensors are, else the architecture's ratio."""
    return shapes.get("blocks.0.mlp.fc1.weight", (base.mlp_width * width // base.width,))[0]


class DeiTTimm(ViTTimm):
    """timm's VisionTransformerDistilled."""

    family = "deit"
    model = DeiT
    published: ClassVar[Mapping[str, Published]] = {
        name: replace(entry, config=DeiTConfig(**vars(entry.config)))
        for name, entry in {
            **_published("deit_tiny_distilled_patch16_224", "fb_in1k", "tiny", 16, 224, half=False),
            **_published("deit_small_distilled_patch16_224", "fb_in1k", "small", 16, 224, half=False),
            **_published("deit_base_distilled_patch16_224", "fb_in1k", "base", 16, 224, half=False),
            **_published("deit_base_distilled_patch16_384", "fb_in1k", "base", 16, 384, half=False),
        }.items()
    }

    def read_config(self, description: Description) -> DeiTConfig:
        """config.json -> DeiTConfig."""
        return DeiTConfig(**self.read_fields(description))

    def write_config(self, model: Model) -> dict[str, Any]:
        """DeiTConfig -> config.json."""
        if model.config.classes and not model.config.distillation_head:
            raise CheckpointError(
                "the timm layout of a distilled DeiT has a head for the distillation token, and this network none"
            )
        return super().write_config(model)

    def classifier(self, config: DeiTConfig) -> str | list[str]:
        """What timm calls the two heads."""
        return ["head", "head_dist"]

    def rows(self, config: DeiTConfig) -> list[Row]:
        """ViT's table, the distillation token and its head."""
        return [
            Row("distillation_token", "dist_token"),
            Row("distillation_head.{p}", "head_dist.{p}"),
            *super().rows(config),
        ]
