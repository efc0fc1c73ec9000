"""Vitrail's own layout: one safetensors file whose header says everything."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image

from vitrail import registry
from vitrail.checkpoints.layout import Description, Layout, Published, Row
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Crop, Preprocess, Resize
from vitrail.models.model import Model


class NativeLayout(Layout):
    """Our names as they are. The file's metadata holds, under "vitrail", family, config, labels and preprocessing."""

    library = "vitrail"
    published: ClassVar[Mapping[str, Published]] = {}

    def __init__(self, family: str) -> None:
        self.family = family
        self.model = registry.FAMILIES[family].load_model()

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> "NativeLayout":
        """The layout of a file with this header."""
        family = config["vitrail"].get("family")
        if not isinstance(family, str) or family not in registry.FAMILIES:
            raise CheckpointError(f"'{name}' is of a family '{family}' that this version of Vitrail does not know")
        return cls(family)

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Whether the header is ours and of this family."""
        return config.get("vitrail", {}).get("family") == self.family

    def read_config(self, description: Description) -> Any:
        """The config dataclass from its JSON."""
        return registry.FAMILIES[self.family].load_config()(**_tuples(description.config["vitrail"]["config"]))

    def write_config(self, model: Model) -> dict[str, Any]:
        """What goes into the header."""
        return {
            "family": model.family,
            "config": dataclasses.asdict(model.config),
            "labels": model.labels,
            "preprocess": dataclasses.asdict(model.preprocess),
        }

    def rows(self, config: Any) -> list[Row]:
        """Every name is itself."""
        return [Row("{rest}", "{rest}")]

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """The dataclass from its JSON."""
        said = _tuples(description.config["vitrail"]["preprocess"])
        resize, crop = said.pop("resize"), said.pop("crop")
        if resize is not None:
            resize = Resize(**_tuples({**resize, "resample": Image.Resampling(resize["resample"])}))
        return Preprocess(resize, None if crop is None else Crop(**_tuples(crop)), **said)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing beside the header."""
        return {}

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """The names in the header."""
        labels = description.config["vitrail"]["labels"]
        return None if labels is None else tuple(labels)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where frozen dataclasses have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
