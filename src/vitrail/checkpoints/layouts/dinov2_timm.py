"""DINOv2 as the timm library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.dinov2_transformers import SIZES
from vitrail.checkpoints.layouts.vit_timm import embedding_rows, encoder_rows, model_arguments, nearest, overrides
from vitrail.checkpoints.timm import TimmLayout, architecture_of
from vitrail.checkpoints.transformers import read_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import IMAGENET_MEAN, IMAGENET_STD, standard
from vitrail.models.dinov2 import DINOv2, DINOv2Config, rearranged
from vitrail.models.model import Model

_PREPROCESS = standard(518, crop_fraction=1.0, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _published(registers: int) -> dict[str, Published]:
    entries = {}
    for size, config in SIZES.items():
        name = f"vit_{size}_patch14{'_reg4' if registers else ''}_dinov2"
        # timm adds the class token's position to the token where there are registers, and never keeps the mask token
        config = replace(config, registers=registers, class_position=not registers, mask_token=False, antialias=True)
        entries[name] = Published(config, f"timm/{name}.lvd142m", "Apache-2.0", _PREPROCESS)
    return entries


class DINOv2Timm(TimmLayout):
    """timm's VisionTransformer with LayerScale, at patch 14, with or without registers."""

    family = "dinov2"
    model = DINOv2
    published: ClassVar[Mapping[str, Published]] = {**_published(0), **_published(4)}

    def read_config(self, description: Description) -> DINOv2Config:
        """config.json -> DINOv2Config."""
        base, shapes = self.base_config(description), description.shapes
        arguments = model_arguments(description.config)
        if arguments.get("act_layer"):
            raise CheckpointError(
                f"a DINOv2 with the activation '{arguments['act_layer']}' is not one that Vitrail knows"
            )
        pooling = arguments.get("global_pool", description.config.get("global_pool", "token"))
        if pooling != "token":
            name = architecture_of(description.config)
            raise CheckpointError(f"{name} with global_pool '{pooling}' is not a network that Vitrail knows")
        width = arguments.get("embed_dim", base.width)
        return replace(
            base,
            image_size=read_size(arguments.get("img_size", base.image_size)),
            patch_size=read_size(arguments.get("patch_size", base.patch_size)),
            channels=shapes.get("patch_embed.proj.weight", (0, base.channels))[1],
            width=width,
            depth=arguments.get("depth", base.depth),
            heads=arguments.get("num_heads", base.heads),
            mlp_width=shapes.get("blocks.0.mlp.fc2.weight", (width, base.mlp_width))[1],
            registers=arguments.get("reg_tokens", base.registers),
            classes=shapes.get("head.weight", (0,))[0],
            qkv_bias=arguments.get("qkv_bias", True),
            layer_scale=arguments.get("init_values", 1e-5),
            class_position=not arguments.get("no_embed_class", not base.class_position),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """DINOv2Config -> the architecture that comes nearest, and what differs as `model_args`."""
        config = model.config
        if config.pooling != "class":
            raise CheckpointError(
                "the timm layout's head reads the class token only, and this network's also the patches' mean"
            )
        alike = {
            name: entry
            for name, entry in self.published.items()
            if (entry.config.mlp, entry.config.registers > 0) == (config.mlp, config.registers > 0)
        }
        architecture = nearest(alike, config)
        base = alike[architecture].config
        arguments = overrides(config, base)
        if config.mlp_width * base.width != base.mlp_width * config.width:
            # timm counts the gate and the value of a gated MLP together
            arguments["mlp_ratio"] = config.mlp_width * (2 if config.mlp == "swiglu" else 1) / config.width
        if config.registers != base.registers:
            arguments["reg_tokens"] = config.registers
        described = self.config_json(model, architecture, arguments)
        described |= {"global_pool": "token", "num_features": config.width}
        described["pretrained_cfg"] |= {"first_conv": "patch_embed.proj", "classifier": "head"}
        return described

    def before_writing(self, model: Model) -> Model:
        """Fold the class token's position into the token where there are registers; drop the mask token."""
        assert isinstance(model, DINOv2)
        return rearranged(model, class_position=not model.config.registers, mask_token=False)

    def rows(self, config: DINOv2Config) -> list[Row]:
        """The table."""
        return [*embedding_rows(), *encoder_rows(), Row("register_tokens", "reg_token"), Row("head.{p}", "head.{p}")]
