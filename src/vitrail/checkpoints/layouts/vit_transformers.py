"""ViT and DeiT as the transformers library publishes them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.transformers import (
    TransformersLayout,
    labels_config,
    read_encoder,
    read_size,
    write_encoder,
    write_size,
)
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.model import Model
from vitrail.models.vit import ViT, ViTConfig


def encoder_rows(old: str, new: str, before: str = "layernorm_before", after: str = "layernorm_after") -> list[Row]:
    """The rows of a block's attention and norms, in the published spelling and in that of transformers 5.

    Args:
        old: what stands before the published names, "vit.encoder.layer.{i}.".
        new: what stands before transformers 5's, "vit.layers.{i}.".
        before: what the first layer norm of a block is called.
        after: what the second is called.
    """
    return [
        Row(
            "blocks.{i}.attention.qkv.{p}",
            Joined(*(f"{old}attention.attention.{part}.{{p}}" for part in ("query", "key", "value"))),
            Joined(*(f"{new}attention.{part}_proj.{{p}}" for part in "qkv")),
        ),
        Row("blocks.{i}.attention.out.{p}", f"{old}attention.output.dense.{{p}}", f"{new}attention.o_proj.{{p}}"),
        Row("blocks.{i}.norm1.{p}", f"{old}{before}.{{p}}", f"{new}{before}.{{p}}"),
        Row("blocks.{i}.norm2.{p}", f"{old}{after}.{{p}}", f"{new}{after}.{{p}}"),
    ]


def mlp_rows(old: str, new: str) -> list[Row]:
    """The rows of ViT's MLP, in both spellings."""
    return [
        Row("blocks.{i}.mlp.up.{p}", f"{old}intermediate.dense.{{p}}", f"{new}mlp.fc1.{{p}}"),
        Row("blocks.{i}.mlp.down.{p}", f"{old}output.dense.{{p}}", f"{new}mlp.fc2.{{p}}"),
    ]


def embedding_rows(base: str) -> list[Row]:
    """The rows of patch embedding, class token, positions and final norm below `base`."""
    return [
        Row("patchify.projection.{p}", f"{base}embeddings.patch_embeddings.projection.{{p}}"),
        Row("class_token", f"{base}embeddings.cls_token"),
        Row("positions", f"{base}embeddings.position_embeddings"),
        Row("norm.{p}", f"{base}layernorm.{{p}}"),
    ]


class ViTTransformers(TransformersLayout):
    """`model_type: vit`: ViTForImageClassification, and ViTModel with or without its pooler."""

    family = "vit"
    model: type[Model] = ViT
    model_type = "vit"
    base_prefix = "vit."
    processor = "ViTImageProcessor"
    mean, std = HALF, HALF
    resample = Image.Resampling.BILINEAR
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "Apache-2.0")
        for name, config in {
            "google/vit-base-patch16-224": ViTConfig(norm_eps=1e-12),
            "google/vit-base-patch16-384": ViTConfig(image_size=384, norm_eps=1e-12),
            "google/vit-base-patch32-384": ViTConfig(image_size=384, patch_size=32, norm_eps=1e-12),
            "google/vit-large-patch16-224": ViTConfig(width=1024, depth=24, heads=16, mlp_width=4096, norm_eps=1e-12),
            "google/vit-large-patch16-384": ViTConfig(
                image_size=384, width=1024, depth=24, heads=16, mlp_width=4096, norm_eps=1e-12
            ),
            "google/vit-large-patch32-384": ViTConfig(
                image_size=384, patch_size=32, width=1024, depth=24, heads=16, mlp_width=4096, norm_eps=1e-12
            ),
            "google/vit-base-patch16-224-in21k": ViTConfig(classes=0, pooler=True, norm_eps=1e-12),
            "google/vit-base-patch32-224-in21k": ViTConfig(patch_size=32, classes=0, pooler=True, norm_eps=1e-12),
            "google/vit-large-patch16-224-in21k": ViTConfig(
                width=1024, depth=24, heads=16, mlp_width=4096, classes=0, pooler=True, norm_eps=1e-12
            ),
            "google/vit-large-patch32-224-in21k": ViTConfig(
                patch_size=32, width=1024, depth=24, heads=16, mlp_width=4096, classes=0, pooler=True, norm_eps=1e-12
            ),
            "google/vit-huge-patch14-224-in21k": ViTConfig(
                patch_size=14, width=1280, depth=32, heads=16, mlp_width=5120, classes=0, pooler=True, norm_eps=1e-12
            ),
            "facebook/deit-tiny-patch16-224": ViTConfig(width=192, heads=3, mlp_width=768, norm_eps=1e-12),
            "facebook/deit-small-patch16-224": ViTConfig(width=384, heads=6, mlp_width=1536, norm_eps=1e-12),
            "facebook/deit-base-patch16-224": ViTConfig(norm_eps=1e-12),
            "facebook/deit-base-patch16-384": ViTConfig(image_size=384, norm_eps=1e-12),
        }.items()
    }

    def read_config(self, description: Description) -> ViTConfig:
        """config.json -> ViTConfig; whether there is a head or a pooler is read from the tensors' names."""
        return ViTConfig(**self.read_fields(description))

    def read_fields(self, description: Description) -> dict[str, Any]:
        """The fields ViT and DeiT share."""
        config, shapes = description.config, description.shapes
        head = shapes.get("classifier.weight", shapes.get("cls_classifier.weight", (0,)))
        pooler = any(name.removeprefix(self.base_prefix) == "pooler.dense.weight" for name in shapes)
        if pooler and config.get("pooler_act", "tanh") != "tanh":
            raise CheckpointError(
                f"a pooler with the activation '{config['pooler_act']}' is not one that Vitrail knows"
            )
        return {  # what is left out is as in transformers' ViTConfig and DeiTConfig: ViT-B/16
            "image_size": read_size(config.get("image_size", 224)),
            "patch_size": read_size(config.get("patch_size", 16)),
            "channels": config.get("num_channels", 3),
            **read_encoder(config),
            "classes": head[0],
            "qkv_bias": config.get("qkv_bias", True),
            "pooler": pooler,
        }

    def write_config(self, model: Model) -> dict[str, Any]:
        """ViTConfig -> config.json."""
        config = model.config
        if config.pooling != "class":
            raise CheckpointError("the transformers layout of this family pools by the class token only")
        if config.pooler and config.classes:
            raise CheckpointError("the transformers layout of this family has a pooler or a head, not both")
        return {
            "architectures": [self.architecture(config)],
            "model_type": self.model_type,
            "image_size": write_size(config.image_size),
            "patch_size": write_size(config.patch_size),
            "num_channels": config.channels,
            **write_encoder(config),
            "qkv_bias": config.qkv_bias,
            **(labels_config(model) if config.classes else {}),
        }

    def architecture(self, config: Any) -> str:
        """The transformers class that loads it."""
        return "ViTForImageClassification" if config.classes else "ViTModel"

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        base = self.base_prefix
        blocks = f"{base}encoder.layer.{{i}}.", f"{base}layers.{{i}}."
        return [
            *embedding_rows(base),
            *encoder_rows(*blocks),
            *mlp_rows(*blocks),
            Row("pooler.0.{p}", f"{base}pooler.dense.{{p}}"),
            Row("head.{p}", "classifier.{p}"),
        ]


class DeiTTransformers(ViTTransformers):
    """`model_type: deit`: a ViT with a distillation token, with two heads (…WithTeacher), one, or none."""

    family = "deit"
    model = DeiT
    model_type = "deit"
    base_prefix = "deit."
    processor = "DeiTImageProcessor"
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    resample = Image.Resampling.BICUBIC
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "Apache-2.0")
        for name, config in {
            "facebook/deit-tiny-distilled-patch16-224": DeiTConfig(width=192, heads=3, mlp_width=768, norm_eps=1e-12),
            "facebook/deit-small-distilled-patch16-224": DeiTConfig(width=384, heads=6, mlp_width=1536, norm_eps=1e-12),
            "facebook/deit-base-distilled-patch16-224": DeiTConfig(norm_eps=1e-12),
            "facebook/deit-base-distilled-patch16-384": DeiTConfig(image_size=384, norm_eps=1e-12),
        }.items()
    }

    def read_config(self, description: Description) -> DeiTConfig:
        """config.json -> DeiTConfig; the heads are read from the tensors' names."""
        teacher = "distillation_classifier.weight" in description.shapes
        return DeiTConfig(**self.read_fields(description), distillation_head=teacher)

    def architecture(self, config: DeiTConfig) -> str:
        """The transformers class that loads it."""
        if not config.classes:
            return "DeiTModel"
        return "DeiTForImageClassificationWithTeacher" if config.distillation_head else "DeiTForImageClassification"

    def rows(self, config: DeiTConfig) -> list[Row]:
        """ViT's table, the distillation token, and the heads under the names they have when there are two."""
        base = self.base_prefix
        return [
            Row("distillation_token", f"{base}embeddings.distillation_token"),
            Row("distillation_head.{p}", "distillation_classifier.{p}"),
            *([Row("head.{p}", "cls_classifier.{p}")] if config.distillation_head else []),
            *super().rows(config),
        ]
