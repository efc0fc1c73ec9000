"""From the `model` keys of a recipe to a family's own config dataclass, checked field by field."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeAlias, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vitrail import registry
from vitrail.errors import UsageError
from vitrail.models.model import Model
from vitrail.nn.patches import pair

FamilyConfig: TypeAlias = Any
"""One of the frozen config dataclasses of the registry."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def build_config(family: str, fields: Mapping[str, Any], classes: int | None = None) -> FamilyConfig:
    """The config dataclass of a family, from fields as YAML gives them, after a rehearsal without memory.

    Args:
        family: a name of the registry.
        fields: some of the config's fields.
        classes: how many the data has; None where it is not known yet.

    Raises:
        UsageError: there is no such family or field, a value has the wrong type, or the network cannot be built or
            cannot look at pictures of its own size. The sentence names the key, "model.depth".
    """
    if family not in registry.FAMILIES:
        raise UsageError(f"model.family is '{family}', and can be {', '.join(registry.FAMILIES)}")
    config_class = registry.FAMILIES[family].load_config()
    hints = get_type_hints(config_class)
    known = [field.name for field in dataclasses.fields(config_class)]
    values = {}
    for key, value in fields.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f" (is '{near[0]}' meant?)" if near else f": {family} has {', '.join(known)}"
            raise UsageError(f"there is no key 'model.{key}'{meant}")
        try:
            values[key] = TypeAdapter(hints[key], config=_STRICT).validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise UsageError(f"model.{key} is {value!r}, where it says: {said[0].lower()}{said[1:]}") from None
        if _below_zero(values[key]):
            raise UsageError(f"model.{key} is {value!r}, and a network has no negative sizes")
    if classes is not None and values.setdefault("classes", classes) != classes:
        raise UsageError(
            f"model.classes is {values['classes']}, but the data has {classes}: leave the key out, and the data decides"
        )
    config = _made(config_class, values)
    _rehearse(family, config)
    return config


def build_model(family: str, config: FamilyConfig) -> Model:
    """The network with its first weights, drawn from torch's random state."""
    return registry.FAMILIES[family].load_model()(config)


def picture_size(config: FamilyConfig) -> tuple[int, int]:
    """(height, width) in pixels of the pictures that a network of this config is trained on."""
    return pair(config.image_size)


def _made(config_class: type, values: dict[str, Any]) -> FamilyConfig:
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the keys of 'model' make no sense together: {error}") from None


def _rehearse(family: str, config: FamilyConfig) -> None:
    """Build the network on the meta device and show it two pictures: all the shapes, and none of the work."""
    if getattr(config, "channels", 3) != 3:
        raise UsageError(f"model.channels is {config.channels}, and pictures have 3")
    try:
        with torch.device("meta"):
            model = build_model(family, config)
            model(torch.empty(2, 3, *picture_size(config)))
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"the keys of 'model' make no sense together: {said}") from None


def _below_zero(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_below_zero, value))
    return isinstance(value, int | float) and value < 0
