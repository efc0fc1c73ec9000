"""From the `model` keys of a recipe to a family's own config dataclass, checked field by field."""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vitrail import registry
from vitrail.errors import UsageError, first_line
from vitrail.models.autoencoder import Autoencoder
from vitrail.models.ddpm import DDPM
from vitrail.models.dit import DiT
from vitrail.models.image_text import ImageText
from vitrail.models.language_model import LanguageModel
from vitrail.models.latent_diffusion import LatentDiffusion
from vitrail.models.lsgm import LSGM
from vitrail.models.model import Model
from vitrail.models.ncsnpp import NCSNpp
from vitrail.models.vqa import VQA
from vitrail.nn.patches import pair
from vitrail.text.tokenizer import Tokenizer

FamilyConfig: TypeAlias = Any
"""One of the frozen config dataclasses of the registry."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def build_config(
    family: str, fields: Mapping[str, Any], classes: int | None = None, tokenizer: Tokenizer | None = None
) -> FamilyConfig:
    """The config dataclass of a family, from fields as YAML gives them, after a rehearsal without memory.

    Args:
        family: a name of the registry.
        fields: some of the config's fields; those of a config within it are a mapping again.
        classes: how many the data has; None where it is not known yet, or has texts instead.
        tokenizer: the texts'; None where it is not known yet, or the data has classes instead.

    Raises:
        UsageError: there is no such family or field, a value has the wrong type, or the network cannot be built or
            cannot look at pictures of its own size. The sentence names the key, "model.depth".
    """
    if family not in registry.FAMILIES:
        raise UsageError(f"model.family is '{family}', and can be {', '.join(registry.FAMILIES)}")
    config_class = registry.FAMILIES[family].load_config()
    if classes is not None and "classes" in {field.name for field in dataclasses.fields(config_class)}:
        fields = _decided(fields, "model", "classes", classes)
    if tokenizer is not None:
        size = tokenizer.backend.get_vocab_size()
        if "text" in {field.name for field in dataclasses.fields(config_class)}:
            fields = {**fields, "text": _decided(fields.get("text", {}), "model.text", "vocabulary", size)}
        else:  # a network that reads and does not see
            fields = _decided(fields, "model", "vocabulary", size)
    config = _built(config_class, fields, family, "model")
    if tokenizer is not None and "end" in {field.name for field in dataclasses.fields(text_of(config))}:
        text = dataclasses.replace(text_of(config), end=last_token(tokenizer))
        config = dataclasses.replace(config, text=text) if hasattr(config, "text") else text
    _rehearse(family, config)
    return config


def reads_texts(family: str) -> bool:
    """Whether networks of this family compare pictures with texts, and name no classes."""
    return issubclass(registry.FAMILIES[family].load_model(), ImageText)


def makes_pictures(family: str) -> bool:
    """Whether networks of this family make pictures, or what pictures are made from, and say nothing of any."""
    return issubclass(
        registry.FAMILIES[family].load_model(), DDPM | NCSNpp | DiT | LSGM | Autoencoder | LatentDiffusion
    )


def last_token(tokenizer: Tokenizer) -> int:
    """The token that a tokenizer ends every text with."""
    ids = tokenizer("a")[0]
    return int(ids[ids != tokenizer.pad][-1])


def build_model(family: str, config: FamilyConfig) -> Model:
    """The network with its first weights, drawn from torch's random state."""
    return registry.FAMILIES[family].load_model()(config)


def text_of(config: FamilyConfig) -> FamilyConfig:
    """The part of a config that is about texts; all of it where the network does nothing but read."""
    return getattr(config, "text", config)


def picture_size(config: FamilyConfig) -> tuple[int, int]:
    """(height, width) in pixels of the pictures that a network of this config is trained on.

    One that does not see is told what is said of pictures of 64 pixels.
    """
    return pair(getattr(config, "image_size", 64))


def _decided(fields: Mapping[str, Any], place: str, key: str, value: int) -> dict[str, Any]:
    """The fields with one that the data decides."""
    if fields.get(key, value) != value:
        raise UsageError(
            f"{place}.{key} is {fields[key]}, but the data has {value}: leave the key out, and the data decides"
        )
    return {**fields, key: value}


def _built(config_class: type, fields: Mapping[str, Any], name: str, place: str) -> FamilyConfig:
    """A config dataclass from its fields.

    Args:
        config_class: the dataclass.
        fields: by name.
        name: what has these fields, in a sentence.
        place: the dotted key that the fields are under.
    """
    hints = get_type_hints(config_class)
    known = [field.name for field in dataclasses.fields(config_class)]
    values = {}
    for key, value in fields.items():
        where = f"{place}.{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f" (is '{near[0]}' meant?)" if near else f": {name} has {', '.join(known)}"
            raise UsageError(f"there is no key '{where}'{meant}")
        configs = [kind for kind in (get_args(hints[key]) or (hints[key],)) if dataclasses.is_dataclass(kind)]
        if configs and not (value is None and type(None) in get_args(hints[key])):
            if not isinstance(value, Mapping):
                raise UsageError(f"{where} is {value!r}, where there should be keys with values")
            values[key] = _built(_fitting(configs, value), value, where, where)
            continue
        try:
            values[key] = TypeAdapter(hints[key], config=_STRICT).validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"]
            raise UsageError(f"{where} is {value!r}, where it says: {said[0].lower()}{said[1:]}") from None
        if _below_zero(values[key]):
            raise UsageError(f"{where} is {value!r}, and a network has no negative sizes")
    return _made(config_class, values)


def _fitting(configs: Sequence[Any], fields: Mapping[str, Any]) -> type:
    """The one of several config dataclasses that knows most of the fields; the first where several do."""
    known = [{field.name for field in dataclasses.fields(config)} for config in configs]
    counts = [len(names & fields.keys()) for names in known]
    chosen: type = configs[counts.index(max(counts))]
    return chosen


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
            images = torch.empty(2, 3, *picture_size(config))
            if isinstance(model, LanguageModel) and model.most_pictures == 0:
                model(None, torch.zeros(2, config.context, dtype=torch.long))
            elif isinstance(model, DDPM | NCSNpp):
                model(images, torch.ones(2))
            elif isinstance(model, LatentDiffusion):
                latents = torch.empty(2, *model.latent_shape(model.usual.size))
                model(latents, torch.ones(2), torch.zeros(2, config.text.context, dtype=torch.long))
            elif isinstance(model, DiT):
                model(images, torch.ones(2), torch.zeros(2, dtype=torch.long))
            elif isinstance(model, ImageText | LanguageModel | VQA):
                model(images, torch.zeros(2, config.text.context, dtype=torch.long))
            else:
                model(images)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise UsageError(f"the keys of 'model' make no sense together: {first_line(error)}") from None


def _below_zero(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_below_zero, value))
    return isinstance(value, int | float) and value < 0
