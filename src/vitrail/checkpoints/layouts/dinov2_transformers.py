"""DINOv2 as the transformers library publishes it."""

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.layouts.vit_transformers import embedding_rows, encoder_rows
from vitrail.checkpoints.transformers import TransformersLayout, labels_config, read_size, write_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vitrail.models.dinov2 import DINOv2, DINOv2Config, rearranged
from vitrail.models.model import Model

SMALL = DINOv2Config()  # 2304.07193, Table 17
BASE = replace(SMALL, width=768, heads=12, mlp_width=3072)
LARGE = replace(SMALL, width=1024, depth=24, heads=16, mlp_width=4096)
GIANT = replace(SMALL, width=1536, depth=40, heads=24, mlp="swiglu", mlp_width=4096)
SIZES = {"small": SMALL, "base": BASE, "large": LARGE, "giant": GIANT}


def gate_width(width: int, ratio: float) -> int:
    """Hidden width of the gated MLP: two thirds of the plain one's, up to a multiple of eight (appendix B)."""
    return (int(int(width * ratio) * 2 / 3) + 7) // 8 * 8


def plain_rows(block: str) -> list[Row]:
    """The rows of a block's plain MLP."""
    return [
        Row("blocks.{i}.mlp.up.{p}", f"{block}mlp.fc1.{{p}}"),
        Row("blocks.{i}.mlp.down.{p}", f"{block}mlp.fc2.{{p}}"),
    ]


def gated_rows(block: str) -> list[Row]:
    """The rows of a block's gated MLP, as published and as transformers 5 keeps it: gate and value apart."""
    apart = Joined(f"{block}mlp.gate_proj.{{p}}", f"{block}mlp.up_proj.{{p}}")
    return [
        Row("blocks.{i}.mlp.up.{p}", f"{block}mlp.weights_in.{{p}}", apart),
        Row("blocks.{i}.mlp.down.{p}", f"{block}mlp.weights_out.{{p}}", f"{block}mlp.down_proj.{{p}}"),
    ]


class DINOv2Transformers(TransformersLayout):
    """`model_type: dinov2`: Dinov2Model and Dinov2ForImageClassification."""

    family = "dinov2"
    model = DINOv2
    model_type = "dinov2"
    base_prefix = "dinov2."
    processor = "BitImageProcessor"
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    architectures = ("Dinov2Model", "Dinov2ForImageClassification")
    published: ClassVar[Mapping[str, Published]] = {
        **{
            f"facebook/dinov2-{size}": Published(config, f"facebook/dinov2-{size}", "Apache-2.0")
            for size, config in SIZES.items()
        },
        **{
            f"facebook/dinov2-{size}-imagenet1k-1-layer": Published(
                replace(config, classes=1000, pooling="class+mean"),
                f"facebook/dinov2-{size}-imagenet1k-1-layer",
                "Apache-2.0",
            )
            for size, config in SIZES.items()
        },
    }

    def read_config(self, description: Description) -> DINOv2Config:
        """config.json -> DINOv2Config; whether there are a head and a mask token is read from the tensors' names."""
        config, shapes = description.config, description.shapes
        gated = config.get("use_swiglu_ffn", False)
        if not gated and config.get("hidden_act", "gelu") != "gelu":
            raise CheckpointError(
                f"a DINOv2 with the activation '{config['hidden_act']}' is not one that Vitrail knows"
            )
        width, ratio = config.get("hidden_size", 768), config.get("mlp_ratio", 4)
        classes = shapes.get("classifier.weight", (0,))[0]
        return DINOv2Config(  # what is left out is as in transformers' Dinov2Config
            image_size=read_size(config.get("image_size", 224)),
            patch_size=read_size(config.get("patch_size", self.patch_size)),
            channels=config.get("num_channels", 3),
            width=width,
            depth=config.get("num_hidden_layers", 12),
            heads=config.get("num_attention_heads", 12),
            mlp="swiglu" if gated else "gelu",
            mlp_width=gate_width(width, ratio) if gated else int(width * ratio),
            registers=self.read_registers(description),
            classes=classes,
            norm_eps=config.get("layer_norm_eps", 1e-6),
            qkv_bias=config.get("qkv_bias", True),
            layer_scale=config.get("layerscale_value", 1.0),
            pooling="class+mean" if classes else "class",
            mask_token=any(name.endswith("embeddings.mask_token") for name in shapes),
            antialias=self.antialias,
        )

    antialias = False
    patch_size = 14  # where config.json is silent

    def read_registers(self, description: Description) -> int:
        """How many register tokens there are."""
        return 0

    def write_config(self, model: Model) -> dict[str, Any]:
        """DINOv2Config -> config.json."""
        config = model.config
        if config.classes and config.pooling != "class+mean":
            raise CheckpointError(
                "the transformers layout's head reads the class token and the patches' mean, this network's does not"
            )
        hidden = gate_width if config.mlp == "swiglu" else operator.mul
        ratio = next((ratio for ratio in range(1, 17) if hidden(config.width, ratio) == config.mlp_width), None)
        if ratio is None:
            raise CheckpointError(
                f"the transformers layout cannot say an MLP of width {config.mlp_width} on tokens of {config.width}"
            )
        return {
            "architectures": [self.architectures[bool(config.classes)]],
            "model_type": self.model_type,
            "image_size": write_size(config.image_size),
            "patch_size": write_size(config.patch_size),
            "num_channels": config.channels,
            "hidden_size": config.width,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.heads,
            "mlp_ratio": ratio,
            "use_swiglu_ffn": config.mlp == "swiglu",
            "layer_norm_eps": config.norm_eps,
            "qkv_bias": config.qkv_bias,
            "layerscale_value": config.layer_scale,
            "use_mask_token": config.mask_token,
            **({"num_register_tokens": config.registers} if config.registers else {}),
            **(labels_config(model) if config.classes else {}),
        }

    def can_write(self, config: DINOv2Config) -> bool:
        """Networks without registers; those with have a `model_type` of their own."""
        return not config.registers

    def before_writing(self, model: Model) -> Model:
        """Keep the class token's position apart, where timm's form has added it to the token.

        The mask token is kept where there is one; the networks with registers cannot be without, in transformers.
        """
        assert isinstance(model, DINOv2)
        return rearranged(model, class_position=True, mask_token=model.config.mask_token or model.config.registers > 0)

    def rows(self, config: DINOv2Config) -> list[Row]:
        """The table."""
        base = self.base_prefix
        block = f"{base}encoder.layer.{{i}}."
        return [
            *embedding_rows(base),
            *encoder_rows(block, block, "norm1", "norm2"),
            *(gated_rows(block) if config.mlp == "swiglu" else plain_rows(block)),
            Row("blocks.{i}.scale{j}.gain", f"{block}layer_scale{{j}}.lambda1"),
            Row("mask_token", f"{base}embeddings.mask_token"),
            Row("register_tokens", f"{base}embeddings.register_tokens"),
            Row("head.{p}", "classifier.{p}"),
        ]


class DINOv2WithRegistersTransformers(DINOv2Transformers):
    """`model_type: dinov2_with_registers`."""

    model_type = "dinov2_with_registers"
    base_prefix = "dinov2_with_registers."
    architectures = ("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification")
    antialias = True
    patch_size = 16
    published: ClassVar[Mapping[str, Published]] = {
        **{
            f"facebook/dinov2-with-registers-{size}": Published(
                replace(config, registers=4, antialias=True), f"facebook/dinov2-with-registers-{size}", "Apache-2.0"
            )
            for size, config in SIZES.items()
        },
        **{
            f"facebook/dinov2-with-registers-{size}-imagenet1k-1-layer": Published(
                replace(config, registers=4, antialias=True, classes=1000, pooling="class+mean"),
                f"facebook/dinov2-with-registers-{size}-imagenet1k-1-layer",
                "Apache-2.0",
            )
            for size, config in SIZES.items()
        },
    }

    def read_registers(self, description: Description) -> int:
        """From config.json."""
        return description.config.get("num_register_tokens", 4)

    def can_write(self, config: DINOv2Config) -> bool:
        """Networks with registers."""
        return config.registers > 0
