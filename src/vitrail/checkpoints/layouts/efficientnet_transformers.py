"""EfficientNet as the transformers library publishes it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.transformers import (
    TransformersLayout,
    labels_config,
    read_activation,
    read_size,
    write_activation,
    write_size,
)
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vitrail.models.efficientnet import BASELINE, STEM_WIDTH, EfficientNet, EfficientNetConfig, Stage, repadded
from vitrail.models.model import Model

_STAGES = {  # Stage's fields -> the lists that hold them, a number for each stage
    "kernel": "kernel_sizes",
    "stride": "strides",
    "expansion": "expand_ratios",
    "width": "out_channels",
    "layers": "num_block_repeats",
}


def _published(size: str, image: int, width: float, depth: float, dropout: float, *odd: int) -> dict[str, Published]:
    name = f"google/efficientnet-{size}"
    config = EfficientNetConfig(
        image_size=image, width=width, depth=depth, dropout=dropout, padding="fixed", odd_blocks=odd
    )
    return {name: Published(config, name, "Apache-2.0")}


def read_fields(said: Mapping[str, Any], tensors: int) -> dict[str, Any]:
    """The fields of EfficientNetConfig below the head, of a checkpoint with so many tensors."""
    for name, known in (("pooling_type", "mean"), ("depth_divisor", 8)):
        if said.get(name, known) != known:
            raise CheckpointError(f"an EfficientNet with {name} {said[name]!r} is not a network that Vitrail knows")
    columns = [said.get(theirs, [getattr(stage, ours) for stage in BASELINE]) for ours, theirs in _STAGES.items()]
    stages = tuple(Stage(*numbers) for numbers in zip(*columns, strict=True))
    if sum(stage.layers for stage in stages) > tensors:
        raise ValueError("it asks for more blocks than the checkpoint has tensors")
    return {  # what is left out is as in transformers' EfficientNetConfig: B7
        "image_size": read_size(said.get("image_size", 600)),
        "channels": said.get("num_channels", 3),
        "width": said.get("width_coefficient", 2.0),
        "depth": said.get("depth_coefficient", 3.1),
        "stages": stages,
        "squeeze": said.get("squeeze_expansion_ratio", 0.25),
        "activation": read_activation(said.get("hidden_act", "swish")),
        "norm_eps": said.get("batch_norm_eps", 1e-3),
        "padding": "fixed",
        "odd_blocks": tuple(said.get("depthwise_padding", ())),
        "drop_path": said.get("drop_connect_rate", 0.2),
    }


def write_fields(config: EfficientNetConfig) -> dict[str, Any]:
    """What config.json says of a network below its head."""
    if not config.scale_ends or not config.squeeze:
        raise CheckpointError("the transformers layout of this family has no Lite networks")
    if config.padding != "fixed":
        raise CheckpointError(
            f"the transformers layout of this family has no words for padding '{config.padding}' on pictures of "
            f"{config.image_size} pixels"
        )
    return {
        "image_size": write_size(config.image_size),
        "num_channels": config.channels,
        "width_coefficient": config.width,
        "depth_coefficient": config.depth,
        "depth_divisor": 8,
        **{theirs: [getattr(stage, ours) for stage in config.stages] for ours, theirs in _STAGES.items()},
        "in_channels": [STEM_WIDTH, *(before.width for before, _ in pairwise(config.stages))],
        "depthwise_padding": list(config.odd_blocks),
        "squeeze_expansion_ratio": config.squeeze,
        "hidden_act": write_activation(config.activation),
        "pooling_type": "mean",
        "batch_norm_eps": config.norm_eps,
        "drop_connect_rate": config.drop_path,
    }


def block_rows(config: EfficientNetConfig, ours: str, theirs: str) -> list[Row]:
    """The rows of the stem and of the blocks, which are counted through.

    Args:
        config: the network's.
        ours: what stands before our names.
        theirs: what stands before theirs, "efficientnet.".
    """
    rows = [
        Row(f"{ours}stem.convolution.{{p}}", f"{theirs}embeddings.convolution.{{p}}"),
        Row(f"{ours}stem.norm.{{p}}", f"{theirs}embeddings.batchnorm.{{p}}"),
    ]
    blocks = [f"{ours}stages.{i}.{j}." for i, stage in enumerate(config.scaled_stages) for j in range(stage.layers)]
    for number, mine in enumerate(blocks):
        block = f"{theirs}encoder.blocks.{number}."
        rows += [
            Row(f"{mine}expand.convolution.{{p}}", f"{block}expansion.expand_conv.{{p}}"),
            Row(f"{mine}expand.norm.{{p}}", f"{block}expansion.expand_bn.{{p}}"),
            Row(f"{mine}depthwise.convolution.{{p}}", f"{block}depthwise_conv.depthwise_conv.{{p}}"),
            Row(f"{mine}depthwise.norm.{{p}}", f"{block}depthwise_conv.depthwise_norm.{{p}}"),
            Row(f"{mine}excite.{{part}}.{{p}}", f"{block}squeeze_excite.{{part}}.{{p}}"),
            Row(f"{mine}project.convolution.{{p}}", f"{block}projection.project_conv.{{p}}"),
            Row(f"{mine}project.norm.{{p}}", f"{block}projection.project_bn.{{p}}"),
        ]
    return rows


class EfficientNetTransformers(TransformersLayout):
    """`model_type: efficientnet`: EfficientNetForImageClassification and EfficientNetModel."""

    family = "efficientnet"
    model = EfficientNet
    model_type = "efficientnet"
    base_prefix = "efficientnet."
    processor = "EfficientNetImageProcessor"
    # The published files normalise with √σ and divide by √σ again: this is what that comes to.
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    published = {
        **_published("b0", 224, 1.0, 1.0, 0.2),
        **_published("b1", 240, 1.0, 1.1, 0.2, 16),
        **_published("b2", 260, 1.1, 1.2, 0.3, 5, 8, 16),
        **_published("b3", 300, 1.2, 1.4, 0.3, 5, 18),
        **_published("b4", 380, 1.4, 1.8, 0.4, 6),
        **_published("b5", 456, 1.6, 2.2, 0.4, 13, 27),
        **_published("b6", 528, 1.8, 2.6, 0.5, 31),
        **_published("b7", 600, 2.0, 3.1, 0.5, 18),
    }

    def read_config(self, description: Description) -> EfficientNetConfig:
        """config.json -> EfficientNetConfig; whether there is a head is read from the tensors' names."""
        return EfficientNetConfig(
            **read_fields(description.config, len(description.shapes)),
            classes=description.shapes.get("classifier.weight", (0,))[0],
            dropout=description.config.get("dropout_rate", 0.5),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """EfficientNetConfig -> config.json."""
        config = model.config
        return {
            "architectures": ["EfficientNetForImageClassification" if config.classes else "EfficientNetModel"],
            "model_type": self.model_type,
            **write_fields(config),
            "hidden_dim": config.head_width,
            "dropout_rate": config.dropout,
            **(labels_config(model) if config.classes else {}),
        }

    def before_writing(self, model: Model) -> Model:
        """Fix the padding to what "same" is on pictures of the network's size."""
        assert isinstance(model, EfficientNet)
        return repadded(model, "fixed")

    def rows(self, config: EfficientNetConfig) -> list[Row]:
        """The table."""
        base = self.base_prefix
        return [
            *block_rows(config, "", base),
            Row("top.convolution.{p}", f"{base}encoder.top_conv.{{p}}"),
            Row("top.norm.{p}", f"{base}encoder.top_bn.{{p}}"),
            Row("head.{p}", "classifier.{p}"),
        ]
