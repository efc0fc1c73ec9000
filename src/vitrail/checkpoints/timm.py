"""What all layouts of the timm library have in common."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import mean
from typing import Any

from vitrail.checkpoints.layout import Description, Layout
from vitrail.checkpoints.preprocessors import from_timm, to_timm
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.labels import imagenet_labels
from vitrail.models.model import Model


class TimmLayout(Layout):
    """A hub folder whose config.json names an `architecture`, or a bare state dict for which the user names it.

    timm builds a network from the name and `model_args` that override its numbers, so a network of any size can be
    written: as the architecture that comes nearest, with what differs in `model_args`.
    """

    library = "timm"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `architecture`."""
        return architecture_of(config) in self.published

    def base_config(self, description: Description) -> Any:
        """Our config for the architecture as its name says it, before `model_args`."""
        return self.published[architecture_of(description.config)].config

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """From pretrained_cfg; what it leaves out is as the architecture's."""
        said = pretrained_config(description.config)
        published = self.published[architecture_of(description.config)]
        known = to_timm(published.preprocess, exact=False) if published.preprocess else {}
        preprocess = from_timm({**known, **said})
        if config.channels == 1 and preprocess.mode == "RGB" and preprocess.mean and preprocess.std:
            # built with in_chans=1: timm takes the mean of the colours' statistics, as it does of the first weights
            grey_mean, grey_std = mean(preprocess.mean), mean(preprocess.std)
            return replace(preprocess, mode="L", mean=(grey_mean,), std=(grey_std,))
        return preprocess

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing beside config.json."""
        return {}

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """From label_names, each by its description where there is one; a thousand unnamed classes are ImageNet's."""
        said = {**pretrained_config(description.config), **description.config}
        names, described = said.get("label_names") or (), said.get("label_descriptions") or {}
        if isinstance(names, Mapping):  # index -> name
            names = [names.get(str(index)) for index in range(config.classes)]
        if names and len(names) == config.classes and all(names):
            return tuple(str(described.get(name, name)) for name in names)
        return imagenet_labels() if config.classes == 1000 else None

    def config_json(self, model: Model, architecture: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """config.json for an architecture with these `model_args`."""
        described = {
            "architecture": architecture,
            "num_classes": model.config.classes,
            "model_args": dict(arguments),
            "pretrained_cfg": {**to_timm(model.preprocess, exact=False), "num_classes": model.config.classes},
        }
        if model.labels:
            described["label_names"] = list(model.labels)
        return described


def architecture_of(config: Mapping[str, Any]) -> str:
    """The architecture's name without the tag of its weights: "vit_base_patch16_224"."""
    return str(config.get("architecture", "")).split(".")[0]


def pretrained_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`pretrained_cfg`; in the oldest hub files its keys stand in config.json itself."""
    inner = config.get("pretrained_cfg")
    if inner is None:
        return config if "input_size" in config else {}
    if not isinstance(inner, Mapping):
        raise CheckpointError("pretrained_cfg in config.json is no object")
    return inner
