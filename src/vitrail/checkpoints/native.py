"""Vitrail's own layout: one safetensors file whose header says everything."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, get_args, get_type_hints

from vitrail import registry
from vitrail.checkpoints.integers import scaled
from vitrail.checkpoints.layout import Description, Layout, Published, Row
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.imaging.tiles import TiledPreprocess
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer


class NativeLayout(Layout):
    """Our names as they are.

    The file's metadata holds, under "vitrail", family, config, labels and preprocessing; under "tokenizer", that of a
    network that reads texts; and what else `save` was told to note, "licence" and "card" mostly.
    """

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
        return _made(registry.FAMILIES[self.family].load_config(), description.config["vitrail"]["config"])

    def write_config(self, model: Model) -> dict[str, Any]:
        """What goes into the header."""
        return {
            "family": model.family,
            "config": dataclasses.asdict(model.config),
            "labels": model.labels,
            "preprocess": dataclasses.asdict(model.preprocess),
        }

    def rows(self, config: Any) -> list[Row]:
        """Every name is itself, or that of integers with scales."""
        return [Row("{rest}", "{rest}", scaled("{rest}"))]

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """The dataclass from its JSON."""
        return _made(Preprocess | TiledPreprocess, description.config["vitrail"]["preprocess"])

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing beside the header."""
        return {}

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """The names in the header."""
        labels = description.config["vitrail"]["labels"]
        return None if labels is None else tuple(labels)

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """The "tokenizer" in the header."""
        said = description.tokenizer_files.get("tokenizer")
        return None if said is None else Tokenizer.from_json(str(said))

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """What goes into the header."""
        return {} if model.tokenizer is None else {"tokenizer": model.tokenizer.to_json()}


def _made(kind: Any, said: Any) -> Any:
    """What a field of this type holds, from its JSON, which has lists for tuples and objects for dataclasses.

    Of several dataclasses it is the one with just the object's names among its fields, or with the fewest besides.
    """
    kinds = [one for one in (get_args(kind) or (kind,)) if dataclasses.is_dataclass(one)]
    if said is None or not (kinds or isinstance(said, Mapping)):
        return _plain(kind, said)
    if not isinstance(said, Mapping):
        raise TypeError(f"{said!r} stands where there should be named fields")
    names = [{field.name for field in dataclasses.fields(one)} for one in kinds]
    fitting = [(len(known - said.keys()), one) for known, one in zip(names, kinds, strict=True) if said.keys() <= known]
    if not fitting:
        raise TypeError(f"there is no place for the fields {', '.join(map(str, said))}")
    chosen: Any = min(fitting, key=lambda found: found[0])[1]
    hints = get_type_hints(chosen)
    return chosen(**{name: _made(hints[name], value) for name, value in said.items()})


def _plain(kind: Any, said: Any) -> Any:
    if isinstance(said, list):
        return tuple(_plain(Any, one) for one in said)
    return kind(said) if isinstance(kind, type) and issubclass(kind, Enum) else said
