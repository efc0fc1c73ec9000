"""EfficientNet and EfficientNet-Lite as the timm library publishes them."""

from typing import Any

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.preprocessors import from_timm
from vitrail.checkpoints.timm import TimmLayout, architecture_of, pretrained_config
from vitrail.checkpoints.transformers import read_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig, repadded
from vitrail.models.model import Model

_SCALES = {  # width, depth; Tan 2019, eq. 3, as the paper's code and its Lite variant round it
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
_ARGUMENTS = {"drop_rate": "dropout", "drop_path_rate": "drop_path", "bn_eps": "norm_eps"}  # of `model_args` -> ours
_READ = {*_ARGUMENTS, "in_chans", "num_classes", "act_layer", "pad_type", "global_pool"}


def _published(
    size: str, tag: str, image: int, crop: float, *, tensorflow: bool = False, half: bool = False, **more: Any
) -> dict[str, Published]:
    """One of timm's own trainings, or (`tensorflow`) a conversion of the authors' weights."""
    name = f"{'tf_' if tensorflow else ''}efficientnet_{size}"
    width, depth = _SCALES[size]
    lite = size.startswith("lite")
    config = EfficientNetConfig(
        image_size=image,
        width=width,
        depth=depth,
        scale_ends=not lite,
        squeeze=0.0 if lite else 0.25,
        activation="relu6" if lite else "silu",
        norm_eps=1e-3 if tensorflow else 1e-5,
        padding="same" if tensorflow else "symmetric",
        dropout=0.0,  # timm drops nothing unless it is told to
        drop_path=0.0,
    )
    mean, std = (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
    described = {"input_size": (3, image, image), "crop_pct": crop, "mean": mean, "std": std, **more}
    return {name: Published(config, f"timm/{name}.{tag}" if tag else "", "Apache-2.0", from_timm(described))}


class EfficientNetTimm(TimmLayout):
    """timm's EfficientNet: `efficientnet_…` trained by timm, `tf_efficientnet_…` converted from TensorFlow."""

    family = "efficientnet"
    model = EfficientNet
    published = {
        **_published("b0", "ra_in1k", 224, 0.875),
        **_published("b1", "ra4_e3600_r240_in1k", 240, 0.9, half=True),
        **_published("b2", "ra_in1k", 256, 0.875),
        **_published("b3", "ra2_in1k", 288, 0.875),
        **_published("b4", "ra2_in1k", 320, 0.875),
        **_published("b5", "sw_in12k_ft_in1k", 448, 1.0, crop_mode="squash"),
        **_published("b6", "", 528, 0.942),
        **_published("b7", "", 600, 0.949),
        **_published("lite0", "ra_in1k", 224, 0.875),
        **_published("lite1", "", 240, 0.882),
        **_published("lite2", "", 260, 0.89),
        **_published("lite3", "", 300, 0.904),
        **_published("lite4", "", 380, 0.922),
        **_published("b0", "ns_jft_in1k", 224, 0.875, tensorflow=True),
        **_published("b1", "ns_jft_in1k", 240, 0.882, tensorflow=True),
        **_published("b2", "ns_jft_in1k", 260, 0.89, tensorflow=True),
        **_published("b3", "ns_jft_in1k", 300, 0.904, tensorflow=True),
        **_published("b4", "ns_jft_in1k", 380, 0.922, tensorflow=True),
        **_published("b5", "ns_jft_in1k", 456, 0.934, tensorflow=True),
        **_published("b6", "ns_jft_in1k", 528, 0.942, tensorflow=True),
        **_published("b7", "ns_jft_in1k", 600, 0.949, tensorflow=True),
        **_published("lite0", "in1k", 224, 0.875, tensorflow=True, half=True),
        **_published("lite1", "in1k", 240, 0.882, tensorflow=True, half=True),
        **_published("lite2", "in1k", 260, 0.89, tensorflow=True, half=True),
        **_published("lite3", "in1k", 300, 0.904, tensorflow=True, half=True, interpolation="bilinear"),
        **_published("lite4", "in1k", 380, 0.92, tensorflow=True, half=True, interpolation="bilinear"),
    }

    def read_config(self, description: Description) -> EfficientNetConfig:
        """config.json -> EfficientNetConfig."""
        base, shapes = self.base_config(description), description.shapes
        name, model_args = architecture_of(description.config), description.config.get("model_args") or {}
        arguments = {key: value for key, value in model_args.items() if value is not None}
        unknown = sorted(set(arguments) - _READ)
        if unknown:
            raise CheckpointError(
                f"{name} with {unknown[0]} {arguments[unknown[0]]!r} is not a network that Vitrail knows"
            )
        pooling = arguments.get("global_pool", description.config.get("global_pool", "avg"))
        if pooling != "avg":
            raise CheckpointError(f"{name} with global_pool '{pooling}' is not a network that Vitrail knows")
        padding = arguments.get("pad_type", "same" if base.padding == "same" else "")
        if padding not in ("same", ""):
            raise CheckpointError(f"{name} with pad_type '{padding}' is not a network that Vitrail knows")
        activation = arguments.get("act_layer", base.activation)
        size = pretrained_config(description.config).get("input_size")
        return EfficientNetConfig(
            image_size=read_size(size[1:]) if size else base.image_size,
            channels=shapes.get("conv_stem.weight", (0, base.channels))[1],
            width=base.width,
            depth=base.depth,
            scale_ends=base.scale_ends,
            squeeze=base.squeeze,
            classes=shapes.get("classifier.weight", (0,))[0],
            activation="silu" if activation == "swish" else activation,
            padding="same" if padding == "same" else "symmetric",
            **{ours: arguments.get(theirs, getattr(base, ours)) for theirs, ours in _ARGUMENTS.items()},
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """EfficientNetConfig -> the architecture of its scale, and what differs as `model_args`."""
        config = model.config
        if config.padding == "fixed":
            raise CheckpointError(
                "the timm layout pads by the picture's size, and this network's padding is not what that comes to on "
                f"pictures of {config.image_size} pixels"
            )
        architecture = self._architecture(config)
        base = self.published[architecture].config
        arguments: dict[str, Any] = {"in_chans": config.channels} if config.channels != base.channels else {}
        for theirs, ours in {**_ARGUMENTS, "act_layer": "activation"}.items():
            if getattr(config, ours) != getattr(base, ours):
                arguments[theirs] = getattr(config, ours)
        described = self.config_json(model, architecture, arguments)
        described |= {"global_pool": "avg", "num_features": config.head_width}
        described["pretrained_cfg"] |= {"first_conv": "conv_stem", "classifier": "classifier"}
        return described

    def before_writing(self, model: Model) -> Model:
        """Pad by the size of the picture where padding was fixed to what that is at the network's own size."""
        assert isinstance(model, EfficientNet)
        return repadded(model, "same")

    def rows(self, config: EfficientNetConfig) -> list[Row]:
        """The table. A projection is `conv_pwl` behind an expansion, `conv_pw`, and `conv_pw` where there is none."""
        rows = [
            Row("stem.convolution.{p}", "conv_stem.{p}"),
            Row("stem.norm.{p}", "bn1.{p}"),
            Row("top.convolution.{p}", "conv_head.{p}"),
            Row("top.norm.{p}", "bn2.{p}"),
            Row("head.{p}", "classifier.{p}"),
            Row("stages.{i}.{j}.excite.{part}.{p}", "blocks.{i}.{j}.se.conv_{part}.{p}"),
        ]
        for number, stage in enumerate(config.stages):
            convolutions = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
            if stage.expansion == 1:
                convolutions = {"depthwise": "conv_dw", "project": "conv_pw"}
            for norm, (ours, theirs) in enumerate(convolutions.items(), start=1):
                rows.append(
                    Row(f"stages.{number}.{{j}}.{ours}.convolution.{{p}}", f"blocks.{number}.{{j}}.{theirs}.{{p}}")
                )
                rows.append(Row(f"stages.{number}.{{j}}.{ours}.norm.{{p}}", f"blocks.{number}.{{j}}.bn{norm}.{{p}}"))
        return rows

    def _architecture(self, config: EfficientNetConfig) -> str:
        """The published architecture of this scale and padding: timm can override neither width nor depth."""
        fields = ("width", "depth", "stages", "scale_ends", "squeeze", "padding")
        for name, entry in self.published.items():
            if all(getattr(entry.config, field) == getattr(config, field) for field in fields):
                return name
        raise CheckpointError(
            "the timm layout has only B0 to B7 and Lite0 to Lite4, and no other EfficientNet of width "
            f"{config.width:g} and depth {config.depth:g}"
        )
