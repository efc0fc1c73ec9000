"""What can be loaded, and what a network is: its numbers, its size, what it costs, without reading its weights."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitrail import registry
from vitrail.checkpoints.box import box_names
from vitrail.checkpoints.files import open_checkpoint
from vitrail.checkpoints.load import build, config_fields, layout_of, read_preprocess
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.clip_text import CLIPTextEncoder
from vitrail.models.generator import Generator
from vitrail.models.image_text import ImageText
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model
from vitrail.models.perceiver_flow import PerceiverFlow
from vitrail.nn.patches import pair


@dataclass(frozen=True)
class Listed:
    """A network that can be loaded by name.

    Attributes:
        name: what `vitrail.load` and `--model` take.
        family: the registry's name of its family.
        layout: whose form its checkpoint has.
        licence: of the weights, an SPDX identifier; None where nobody says.
        hub: its hub id; None for what is in the box, "" for an architecture without published weights.
    """

    name: str
    family: str
    layout: str
    licence: str | None
    hub: str | None

    @property
    def in_the_box(self) -> bool:
        """Whether its weights came with the installation."""
        return self.hub is None

    @property
    def where(self) -> str:
        """Where its weights are."""
        return "in the box" if self.hub is None else self.hub or "none published"

    def to_dict(self) -> dict[str, Any]:
        """{"name": …, "family": …, "layout": …, "licence": …, "hub": …, "in_the_box": …}."""
        return {**dataclasses.asdict(self), "in_the_box": self.in_the_box}

    def __str__(self) -> str:
        return f"{self.name}: {self.family}, {self.layout} layout, licence {self.licence or 'unknown'}, {self.where}"


@dataclass(frozen=True)
class Info:
    """What a network is.

    Attributes:
        name: what it was asked for by.
        family: the registry's name of its family.
        title: the name people know the family by.
        paper: where it is described.
        layout: whose form the checkpoint has.
        licence: of the weights, an SPDX identifier; None where nobody says.
        hub: its hub id; None for a checkpoint in the box or on disk, "" for an architecture without published weights.
        config: the family's frozen config.
        parameters: how many numbers were learned.
        flops: floating-point operations of one forward pass on one picture, a multiplication and an addition being two;
            of a network that sees no pictures, on the first token of a text; of one that makes them, of one step.
            Counted are matrix products and convolutions, as `torch.utils.flop_counter` does.
        picture_size: (height, width) in pixels of that picture; None where there are no pictures.
        preprocess: how it wants its pictures; None where only a file on the hub says so.
    """

    name: str
    family: str
    title: str
    paper: str
    layout: str
    licence: str | None
    hub: str | None
    config: Any
    parameters: int
    flops: int
    picture_size: tuple[int, int] | None
    preprocess: Preprocess | None

    def to_dict(self) -> dict[str, Any]:
        """Its fields; the config and the preprocessing as dictionaries, None for a preprocessing that is not known."""
        fields = dataclasses.asdict(self)
        if self.preprocess and self.preprocess.resize:
            fields["preprocess"]["resize"]["resample"] = self.preprocess.resize.resample.name.lower()
        return fields

    def __str__(self) -> str:
        size = self.picture_size
        counted = "the first token" if size is None else f"one picture of {size[0]}×{size[1]} pixels"
        if issubclass(registry.FAMILIES[self.family].load_model(), Generator):
            counted = f"one step of {counted}"
        rows = {
            "family": f"{self.title} ({self.family})",
            "paper": self.paper,
            "layout": self.layout,
            "weights": "on this machine" if self.hub is None else self.hub or "none published",
            "licence": self.licence or "unknown",
            "parameters": f"{_short(self.parameters)} ({self.parameters:,})",
            "FLOPs": f"{_short(self.flops)} for {counted} (2 for each multiply-add)",
            "pictures": "none" if size is None else _preprocess_text(self.preprocess),
            **{field: _value_text(value) for field, value, _ in config_fields(self.config)},
        }
        indent = 2 + max(map(len, rows)) + 2
        lines = (f"  {name}".ljust(indent) + value.replace("\n", "\n" + " " * indent) for name, value in rows.items())
        return "\n".join([self.name, *lines])


def models() -> list[Listed]:
    """What is in the box, then every published network of every family."""
    return [*_in_the_box(), *_published()]


def info(name: str, *, architecture: str | None = None) -> Info:
    """What a network is: a name in the box, a local checkpoint, or a published name, for which nothing is fetched.

    A hub id that the registry does not know is fetched first, as `vitrail.load` would.

    Args:
        name: what `vitrail.load` takes.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.

    Raises:
        CheckpointError: it cannot be found, read or understood.
    """
    known = registry.published(name)
    if known is None or name in box_names() or Path(name).expanduser().exists():
        checkpoint = open_checkpoint(name, architecture)
        layout = layout_of(checkpoint)
        model = build(layout, checkpoint)
        preprocess, licence, hub = read_preprocess(layout, checkpoint, model.config), checkpoint.licence, None
    else:
        layout, entry = known
        with torch.device("meta"):
            model = layout.model(entry.config)
        preprocess, licence, hub = entry.preprocess, entry.licence, entry.hub
    family = registry.FAMILIES[model.family]
    size = _picture_size(model, preprocess)
    return Info(
        name=name,
        family=family.name,
        title=family.title,
        paper=family.paper,
        layout=layout.library,
        licence=licence,
        hub=hub,
        config=model.config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=count_flops(model, size),
        picture_size=size,
        preprocess=preprocess,
    )


def count_flops(model: Model, size: tuple[int, int] | None) -> int:
    """Floating-point operations of one forward pass of a network on the meta device.

    Of a network that reads texts, too, only the picture's way is counted: a text's depends on its length.

    Args:
        model: the network.
        size: (height, width) of the picture, in pixels; None to read the first token of a text instead.
    """
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.eval().requires_grad_(False)  # the counter stumbles over parameters that are given to a module
        if size is None:
            ids = torch.zeros(1, 1, dtype=torch.int64)
            model(ids) if isinstance(model, CLIPTextEncoder) else model(None, ids)
            return counter.get_total_flops()
        picture = torch.empty(1, getattr(model.config, "channels", 3), *size)
        if isinstance(model, ImageText):
            model.encode_image(picture)
        elif isinstance(model, LanguageModel):
            model.features(picture)
        elif isinstance(model, PerceiverFlow):
            model(torch.stack([picture, picture], 1))
        else:
            model(*model.example(size))
    return counter.get_total_flops()


def _picture_size(model: Model, preprocess: Preprocess | None) -> tuple[int, int] | None:
    """(height, width) of the pictures a network is given, in pixels; None where it sees none."""
    if isinstance(model, CLIPTextEncoder) or (isinstance(model, LanguageModel) and model.most_pictures == 0):
        return None
    if isinstance(model, Generator):
        return model.usual.size
    return (preprocess.output_size if preprocess else None) or pair(model.config.image_size)


def _in_the_box() -> Iterator[Listed]:
    for name in box_names():
        try:
            checkpoint = open_checkpoint(name)
        except CheckpointError:  # the package that carries it is not installed: it cannot be loaded
            continue
        layout = layout_of(checkpoint)
        yield Listed(name, layout.family, layout.library, checkpoint.licence, None)


def _published() -> Iterator[Listed]:
    for layout in registry.layouts():
        for name, entry in layout.published.items():
            yield Listed(name, layout.family, layout.library, entry.licence, entry.hub)


def _short(count: int) -> str:
    """85.8 million as "85.8M"."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _value_text(value: Any) -> str:
    """A config's value; a row of rows, as EfficientNet's stages are, has a line for each."""
    rows = isinstance(value, tuple) and any(isinstance(item, tuple) for item in value)
    return "\n".join(map(str, value)) if rows else str(value)


def _preprocess_text(preprocess: Preprocess | None) -> str:
    if preprocess is None:
        return "as the checkpoint's preprocessor_config.json says"
    steps = []
    if preprocess.middle is not None:
        steps.append(f"the middle {'×'.join(f'{part:.3g}' for part in preprocess.middle)} of the shortest edge")
    if preprocess.resize is not None:
        size, resample = preprocess.resize.size, preprocess.resize.resample.name.lower()
        edges = str(size) if isinstance(size, int) else "×".join(map(str, size))
        steps.append(f"resize {preprocess.resize.rule} {edges} {resample}")
    if preprocess.crop is not None:
        steps.append(f"crop {'×'.join(map(str, preprocess.crop.size))}")
    if preprocess.mean is not None and preprocess.std is not None:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocess.mean, preprocess.std))
        steps.append(f"mean ({mean}), std ({std})")
    return "; ".join([preprocess.mode, *steps])
