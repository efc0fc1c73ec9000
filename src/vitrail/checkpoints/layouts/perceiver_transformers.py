"""Perceiver IO as the transformers library publishes it: one `model_type` for three families, told apart by task."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL.Image import Resampling
from torch import Tensor

from vitrail.checkpoints.layout import Description, Joined, Published, Row, Shapes
from vitrail.checkpoints.transformers import TransformersLayout, labels_config, read_activation, write_activation
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess, Resize
from vitrail.models.model import Model
from vitrail.models.perceiver import LatentsConfig, Perceiver, PerceiverConfig
from vitrail.models.perceiver_flow import PerceiverFlow, PerceiverFlowConfig
from vitrail.models.perceiver_multimodal import PerceiverMultimodal, PerceiverMultimodalConfig

_INPUT = "perceiver.input_preprocessor."
_DECODER = "perceiver.decoder.decoder."
_OUTPUT = "perceiver.output_postprocessor.modalities."
_SENSES = {"audio": "audio", "video": "image", "label": "label"}  # ours -> theirs


def _middle_square(size: tuple[int, int]) -> Preprocess:
    return Preprocess(Resize(size, resample=Resampling.BILINEAR), middle=(1.0, 1.0), mean=None, std=None)


class Neighbourhood(Joined):
    """The publisher keeps as a matrix over (frame, row, column, channel) what is a convolution of both frames here."""

    def part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(D, 2 C, 3, 3) -> (D, 54)."""
        return shape[0], math.prod(shape[1:])

    def join(self, parts: list[Tensor]) -> Tensor:
        """The publisher's matrix -> our kernel."""
        return parts[0].unflatten(1, (2, 3, 3, -1)).permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous()

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Our kernel -> the publisher's matrix."""
        return [tensor.unflatten(1, (2, -1)).permute(0, 1, 3, 4, 2).flatten(1)]


class _PerceiverTransformers(TransformersLayout):
    """What the three have in common."""

    model_type = "perceiver"
    processor = "PerceiverImageProcessor"
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    architectures: ClassVar[tuple[str, ...]]  # the classes of transformers that are this task
    told_by: ClassVar[str]  # the name of a tensor that no other task has, for a config that names no class

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `model_type`, and by the class where one is named."""
        named = config.get("architectures")
        return super().recognises(config) and (not named or named[0] in self.architectures)

    def fits(self, shapes: Shapes) -> bool:
        """By a tensor that only this task has."""
        return self.told_by in shapes

    def rows(self, config: Any) -> list[Row]:
        """The latents, what reads them, and what the task adds to both."""
        layers = "perceiver.encoder.self_attends.{i}."
        blocks = "latents.blocks.{i}."
        return [
            Row("latents.initial", "perceiver.embeddings.latents"),
            *_cross_rows("latents.read.", "perceiver.encoder.cross_attention."),
            Row(f"{blocks}norm1.{{p}}", f"{layers}attention.self.layernorm1.{{p}}"),
            Row(
                f"{blocks}attention.qkv.{{p}}",
                Joined(*(f"{layers}attention.self.{part}.{{p}}" for part in ("query", "key", "value"))),
            ),
            Row(f"{blocks}attention.out.{{p}}", f"{layers}attention.output.dense.{{p}}"),
            Row(f"{blocks}norm2.{{p}}", f"{layers}layernorm.{{p}}"),
            *_mlp_rows(blocks, layers),
            *_cross_rows("answer.", f"{_DECODER}decoding_cross_attention."),
            *self.task_rows(),
        ]

    def task_rows(self) -> list[Row]:
        """The rows of what only this task has."""
        raise NotImplementedError


class PerceiverTransformers(_PerceiverTransformers):
    """PerceiverForImageClassification…, by what the latents read: Learned, Fourier or ConvProcessing."""

    family = "perceiver"
    model: type[Model] = Perceiver
    told_by = f"{_DECODER}output_position_encodings.position_embeddings"
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "Apache-2.0")
        for name, config in {
            "deepmind/vision-perceiver-learned": PerceiverConfig(),
            "deepmind/vision-perceiver-fourier": PerceiverConfig(pixels="fourier"),
            "deepmind/vision-perceiver-conv": PerceiverConfig(
                pixels="convolution", pixel_width=64, resolution=(56, 56)
            ),
        }.items()
    }
    _classes: ClassVar[dict[Literal["learned", "fourier", "convolution"], str]] = {
        "learned": "PerceiverForImageClassificationLearned",
        "fourier": "PerceiverForImageClassificationFourier",
        "convolution": "PerceiverForImageClassificationConvProcessing",
    }
    architectures = tuple(_classes.values())

    def read_config(self, description: Description) -> PerceiverConfig:
        """config.json -> PerceiverConfig; what the latents read is told by the tensors' names."""
        said, shapes = description.config, description.shapes
        latents, classes = _read_latents(said), shapes[f"{_DECODER}final_layer.weight"][0]
        if f"{_INPUT}convnet_1x1.weight" in shapes:  # the other numbers are constants of the reference's classes
            return PerceiverConfig(said.get("image_size", 56), latents=latents, classes=classes)
        if f"{_INPUT}convnet.conv.weight" in shapes:
            return PerceiverConfig(
                pixels="convolution", pixel_width=64, resolution=(56, 56), latents=latents, classes=classes
            )
        return PerceiverConfig(pixels="fourier", latents=latents, classes=classes)

    def write_config(self, model: Model) -> dict[str, Any]:
        """PerceiverConfig -> config.json."""
        config = model.config
        if not config.classes:
            raise CheckpointError("the transformers layout of this family has networks with a head only")
        size = config.image_size if config.pixels == "learned" else 224
        if not isinstance(size, int):
            raise CheckpointError("the transformers layout of this family learns places of square pictures only")
        width, resolution = {"learned": (256, (224, 224)), "fourier": (256, (224, 224)), "convolution": (64, (56, 56))}[
            config.pixels
        ]
        _only_as_published(
            config,
            channels=3,
            pixel_width=width,
            **({} if config.pixels == "learned" else {"bands": 64, "resolution": resolution}),
        )
        elements = {"learned": 512, "fourier": 261, "convolution": 322}[config.pixels]
        return {
            "architectures": [self._classes[config.pixels]],
            **_write_latents(config.latents, elements),
            "image_size": size,
            **labels_config(model),
        }

    def task_rows(self) -> list[Row]:
        """What makes elements of pixels, and the query for the class."""
        return [
            Row("pixels.pixels.{p}", f"{_INPUT}convnet_1x1.{{p}}"),
            Row("pixels.positions", f"{_INPUT}position_embeddings.position_embeddings"),
            Row("pixels.places.{p}", f"{_INPUT}positions_projection.{{p}}"),
            Row("pixels.convolution.convolution.{p}", f"{_INPUT}convnet.conv.{{p}}"),
            Row("pixels.convolution.norm.{p}", f"{_INPUT}convnet.batchnorm.{{p}}"),
            Row("query", f"{_DECODER}output_position_encodings.position_embeddings"),
            Row("head.{p}", f"{_DECODER}final_layer.{{p}}"),
        ]

    def usual_preprocess(self, config: PerceiverConfig) -> Preprocess:
        """⅞ of the middle at the network's size, as the processor does."""
        size = config.image_size if isinstance(config.image_size, tuple) else (config.image_size,) * 2
        return Preprocess(Resize(size), middle=(7 / 8, 7 / 8), mean=self.mean, std=self.std)


class PerceiverFlowTransformers(_PerceiverTransformers):
    """PerceiverForOpticalFlow."""

    family = "perceiver-flow"
    model: type[Model] = PerceiverFlow
    architectures = ("PerceiverForOpticalFlow",)
    told_by = f"{_INPUT}conv_after_patches.weight"
    published: ClassVar[Mapping[str, Published]] = {
        "deepmind/optical-flow-perceiver": Published(
            PerceiverFlowConfig(),
            "deepmind/optical-flow-perceiver",
            "Apache-2.0",
            Preprocess(None, mean=HALF, std=HALF),
        )
    }

    def read_config(self, description: Description) -> PerceiverFlowConfig:
        """config.json -> PerceiverFlowConfig."""
        said = description.config
        height, width = said.get("train_size", (368, 496))
        return PerceiverFlowConfig((height, width), latents=_read_latents(said))

    def write_config(self, model: Model) -> dict[str, Any]:
        """PerceiverFlowConfig -> config.json."""
        config = model.config
        _only_as_published(config, channels=3, pixel_width=64, bands=64, scale=PerceiverFlowConfig.scale)
        return {
            "architectures": list(self.architectures),
            **_write_latents(config.latents, 322),
            "train_size": list(config.image_size),
        }

    def task_rows(self) -> list[Row]:
        """What makes elements of pixels, and flow of answers."""
        return [
            Row("pixels.weight", Neighbourhood(f"{_INPUT}conv_after_patches.weight")),
            Row("pixels.bias", f"{_INPUT}conv_after_patches.bias"),
            Row("displacement.{p}", f"{_DECODER}final_layer.{{p}}"),
        ]

    def usual_preprocess(self, config: PerceiverFlowConfig) -> Preprocess:
        """As it is published, pixels to [-1, 1] in the picture's size."""
        return Preprocess(None, mean=HALF, std=HALF)


class PerceiverMultimodalTransformers(_PerceiverTransformers):
    """PerceiverForMultimodalAutoencoding."""

    family = "perceiver-multimodal"
    model: type[Model] = PerceiverMultimodal
    architectures = ("PerceiverForMultimodalAutoencoding",)
    told_by = f"{_INPUT}mask.image"
    published: ClassVar[Mapping[str, Published]] = {
        "deepmind/multimodal-perceiver": Published(
            PerceiverMultimodalConfig(),
            "deepmind/multimodal-perceiver",
            "Apache-2.0",
            _middle_square((224, 224)),
        )
    }

    def read_config(self, description: Description) -> PerceiverMultimodalConfig:
        """config.json -> PerceiverMultimodalConfig; the labels are counted in the tensors' shapes."""
        said, shapes = description.config, description.shapes
        frames, side = said.get("num_frames", 16), said.get("image_size", 56)
        _, *shape = said.get("output_shape", (1, 16, 224, 224))
        if tuple(shape) != (frames, 4 * side, 4 * side):
            raise CheckpointError(
                f"a video of {' × '.join(map(str, shape))} pixels from {frames} frames of {side}×{side} patches is not "
                "one that Vitrail knows"
            )
        return PerceiverMultimodalConfig(
            frames=frames,
            image_size=(4 * side, 4 * side),
            samples=frames * said.get("audio_samples_per_frame", 1920),
            samples_per_patch=said.get("samples_per_patch", 16),
            classes=shapes[f"{_OUTPUT}label.classifier.weight"][0],
            label_width=said.get("_label_trainable_num_channels", 1024),
            answer_width=said.get("output_num_channels", 512),
            latents=_read_latents(said),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """PerceiverMultimodalConfig -> config.json."""
        config = model.config
        _only_as_published(
            config, channels=3, patch_size=4, video_bands=32, audio_bands=192, padding=4, query_padding=2
        )
        height, width = config.image_size
        if height != width or config.samples % config.frames:
            raise CheckpointError("the transformers layout of this family has square videos, with equal sound a frame")
        return {
            "architectures": list(self.architectures),
            **_write_latents(config.latents, max(config.classes, 401) + config.padding),
            "num_frames": config.frames,
            "image_size": height // 4,
            "output_shape": [1, *config.video_shape],
            "audio_samples_per_frame": config.samples // config.frames,
            "samples_per_patch": config.samples_per_patch,
            "output_num_channels": config.answer_width,
            "_label_trainable_num_channels": config.label_width,
            **labels_config(model),
        }

    def task_rows(self) -> list[Row]:
        """The senses' learned vectors, the queries, and what makes signals of answers."""
        queries = "perceiver.decoder."
        return [
            *(Row(f"padding.{ours}", f"{_INPUT}padding.{theirs}") for ours, theirs in _SENSES.items()),
            *(Row(f"absent.{ours}", f"{_INPUT}mask.{theirs}") for ours, theirs in _SENSES.items()),
            Row("video_queries.padding", f"{queries}padding.image"),
            Row("audio_queries.padding", f"{queries}padding.audio"),
            Row("query_padding", f"{queries}padding.label"),
            Row("query", f"{queries}modalities.label.decoder.output_position_encodings.position_embeddings"),
            Row("project.{p}", f"{_DECODER}final_layer.{{p}}"),
            Row("to_audio.{p}", f"{_OUTPUT}audio.classifier.{{p}}"),
            Row("to_video.{p}", f"{_OUTPUT}image.classifier.{{p}}"),
            Row("head.{p}", f"{_OUTPUT}label.classifier.{{p}}"),
        ]

    def usual_preprocess(self, config: PerceiverMultimodalConfig) -> Preprocess:
        """As it is published, the middle square, pixels to [0, 1]."""
        return _middle_square(config.image_size)


def _cross_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a CrossBlock."""
    attention = f"{theirs}attention.self."
    return [
        Row(f"{ours}norm1.{{p}}", f"{attention}layernorm1.{{p}}"),
        Row(f"{ours}read_norm.{{p}}", f"{attention}layernorm2.{{p}}"),
        Row(f"{ours}attention.query.{{p}}", f"{attention}query.{{p}}"),
        Row(f"{ours}attention.keys_values.{{p}}", Joined(f"{attention}key.{{p}}", f"{attention}value.{{p}}")),
        Row(f"{ours}attention.out.{{p}}", f"{theirs}attention.output.dense.{{p}}"),
        Row(f"{ours}norm2.{{p}}", f"{theirs}layernorm.{{p}}"),
        *_mlp_rows(ours, theirs),
    ]


def _mlp_rows(ours: str, theirs: str) -> list[Row]:
    return [
        Row(f"{ours}mlp.up.{{p}}", f"{theirs}mlp.dense1.{{p}}"),
        Row(f"{ours}mlp.down.{{p}}", f"{theirs}mlp.dense2.{{p}}"),
    ]


def _read_latents(said: Mapping[str, Any]) -> LatentsConfig:
    """The fields all tasks share; what is left out is as in transformers' PerceiverConfig."""
    for name in ("qk_channels", "v_channels"):
        if said.get(name) is not None:
            raise CheckpointError(f"a Perceiver with {name} of its own ({said[name]}) is not one that Vitrail knows")
    side = said.get("cross_attention_shape_for_attention", "kv")
    if side not in ("kv", "q"):
        raise ValueError(f"cross_attention_shape_for_attention is {side!r}")
    return LatentsConfig(
        count=said.get("num_latents", 256),
        width=said.get("d_latents", 1280),
        depth=said.get("num_self_attends_per_block", 26),
        repeats=said.get("num_blocks", 1),
        heads=said.get("num_self_attention_heads", 8),
        read_heads=said.get("num_cross_attention_heads", 8),
        widening=said.get("self_attention_widening_factor", 1),
        read_widening=said.get("cross_attention_widening_factor", 1),
        attend_in="read" if side == "kv" else "queries",
        read_residual=said.get("use_query_residual", True),
        activation=read_activation(said.get("hidden_act", "gelu")),
    )


def _write_latents(latents: LatentsConfig, element_width: int) -> dict[str, Any]:
    """These fields as transformers names them."""
    return {
        "model_type": "perceiver",
        "num_latents": latents.count,
        "d_latents": latents.width,
        "d_model": element_width,
        "num_blocks": latents.repeats,
        "num_self_attends_per_block": latents.depth,
        "num_self_attention_heads": latents.heads,
        "num_cross_attention_heads": latents.read_heads,
        "qk_channels": None,
        "v_channels": None,
        "cross_attention_shape_for_attention": "kv" if latents.attend_in == "read" else "q",
        "self_attention_widening_factor": latents.widening,
        "cross_attention_widening_factor": latents.read_widening,
        "hidden_act": write_activation(latents.activation),
        "use_query_residual": latents.read_residual,
    }


def _only_as_published(config: Any, **constants: Any) -> None:
    """What transformers keeps as constants in its code must be those."""
    for name, value in constants.items():
        if getattr(config, name) != value:
            raise CheckpointError(
                f"the transformers layout of this family has {name} {value} only, not {getattr(config, name)}"
            )
