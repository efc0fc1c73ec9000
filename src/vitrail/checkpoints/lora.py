"""`vitrail.apply_lora`: what a LoRA file adds to a network's weights, put in and taken out again.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022 (2106.09685), eq. 3: a weight W becomes
W + α/r B A, with A of r rows and B of r columns. Where W is the kernel of a convolution, A is one to r channels and B
one of 1×1 pixels from them.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from vitrail import registry
from vitrail.checkpoints.layout import Joined, find_rows
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers
from vitrail.checkpoints.original import UNET, unet_rows
from vitrail.checkpoints.reading import SafeTensors, open_tensors, parse_json
from vitrail.errors import CheckpointError, UsageError
from vitrail.models.model import Model
from vitrail.models.unet import UNet

_PARTS = {  # what names begin with, in LoRA files of every form and in whole networks -> part
    "lora_unet_": "unet",
    "unet.": "unet",
    "base_model.model.": "unet",
    "diffusion_model.": "unet",
    UNET: "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "text_encoder.": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
}
_PAIRS = {  # how the names of A end -> how those of B do
    ".lora_down.weight": ".lora_up.weight",  # kohya
    ".lora_A.weight": ".lora_B.weight",  # peft, and diffusers that stands on it
    ".lora_A.default.weight": ".lora_B.default.weight",
    ".lora.down.weight": ".lora.up.weight",  # diffusers before that
    "_lora.down.weight": "_lora.up.weight",
    ".lora_linear_layer.down.weight": ".lora_linear_layer.up.weight",
}
_FILE = "pytorch_lora_weights.safetensors"  # what diffusers calls it in a folder
_METADATA = "lora_adapter_metadata"  # where it keeps what peft was told


@dataclass(frozen=True)
class _Place:
    """Where something may be added: one of the publisher's tensors that our weight is made of."""

    ours: str
    spelling: Joined
    number: int


class LoRA:
    """What a file has added to a network's weights.

    Attributes:
        changed: the names of the weights that it changed.
    """

    def __init__(self, model: Model, weights: Mapping[str, Tensor]) -> None:
        self._parameters = {name: model.get_parameter(name) for name in weights}
        self._before = {name: parameter.data for name, parameter in self._parameters.items()}
        self._with = {name: weight.data for name, weight in weights.items()}
        self._put(self._with)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the weights that it changed."""
        return tuple(self._parameters)

    def remove(self) -> None:
        """Put the weights back, number for number.

        Raises:
            UsageError: they have been changed since, by another LoRA that is to be taken out first, say; or they are
                back already.
        """
        for name, parameter in self._parameters.items():
            if parameter.data_ptr() != self._with[name].data_ptr():
                raise UsageError(
                    f"the weight '{name}' is not as this LoRA left it: take out first what was put in after it"
                )
        self._put(self._before)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.data = weights[name]
            increment_version(parameter)  # or what was packed of others at the same address would stand for them


@torch.inference_mode(False)
@torch.no_grad()
def apply_lora(model: Model, path: str | Path, scale: float = 1.0) -> LoRA:
    """Add what a LoRA file holds to a network's weights: W + scale α/r B A.

    Read are kohya's form (`lora_unet_….lora_down.weight`, of networks by diffusers' names and by the original ones),
    diffusers' and peft's (`unet.….lora_A.weight`) and diffusers' older ones; of the UNet and of the text encoders. The
    weights from before are kept, mapped from their file where they were: `remove` of what is returned puts them back.

    Args:
        model: a loaded Stable Diffusion, or its UNet alone.
        path: the file, or a folder with `pytorch_lora_weights.safetensors` in it.
        scale: how much of it, 1 being all; it may be below 0.

    Raises:
        CheckpointError: the file cannot be found or read, holds no LoRA or another kind of it (LoHa, LoKr, DoRA), or
            one for another network; the sentence names the tensor.
        UsageError: the scale is no number, or LoRAs for networks of this family are not known.
    """
    if not math.isfinite(scale):
        raise UsageError(f"a LoRA is applied by a finite scale, not {scale}")
    places = _places(model)
    file = Path(path)
    file = file / _FILE if file.is_dir() else file
    if not file.is_file():
        raise CheckpointError(f"there is no LoRA file {file}")
    tensors = open_tensors(file)
    weights: dict[str, Tensor] = {}
    for name, down, up, alpha in _pairs(tensors, str(file)):
        place = places.get(_normalised(name))
        if place is None:
            raise CheckpointError(f"{file} has a LoRA of '{name}', which this {model.family} network does not have")
        if place.ours not in weights:
            weights[place.ours] = model.get_parameter(place.ours).detach().clone()
        part = place.spelling.split(weights[place.ours])[place.number]
        _add(part, down, up, scale * alpha / len(down), f"{file} has a LoRA of '{name}'")
    return LoRA(model, weights)


def _add(weight: Tensor, down: Tensor, up: Tensor, scale: float, what: str) -> None:
    """W + scale B A, into W, which has the publisher's shape. In float32, whatever it is kept in."""
    if (
        up.shape[1:2] != down.shape[:1]
        or (len(up), *down.shape[1:]) != tuple(weight.shape)
        or up[0].numel() != len(down)
    ):
        raise CheckpointError(
            f"{what} of shapes {tuple(up.shape)} and {tuple(down.shape)}, for a weight of shape {tuple(weight.shape)}"
        )
    product = up.flatten(1).float() @ down.flatten(1).float()
    added = (scale * product).view_as(weight).to(weight.device)
    weight.copy_(weight.float() + added)


def _pairs(tensors: Mapping[str, Tensor], where: str) -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Every LoRA in a file: the name of what it is of, A, B and α."""
    usual = _alphas(tensors, where)
    left = set(tensors)
    found = 0
    for name in sorted(tensors):
        ending = next((ending for ending in _PAIRS if name.endswith(ending)), None)
        if ending is None:
            continue
        of = name.removesuffix(ending)
        other, alpha = of + _PAIRS[ending], f"{of}.alpha"
        if other not in tensors:
            raise CheckpointError(f"{where} has '{name}' without '{other}'")
        down, up = tensors[name], tensors[other]
        if down.ndim < 2 or up.ndim < 2 or not len(down):
            raise CheckpointError(f"{where} has '{name}' of shape {tuple(down.shape)}, which is no matrix")
        left -= {name, other, alpha}
        found += 1
        factor = tensors[alpha].item() if alpha in tensors else usual.get(of.split(".")[0], 1.0) * len(down)
        yield of, down, up, factor
    if left and found:
        raise CheckpointError(
            f"{where} has '{min(left)}', which is no part of a plain LoRA (LoHa, LoKr, DoRA and biases are not read)"
        )
    if not found:
        raise CheckpointError(
            f"{where} holds no LoRA that Vitrail reads: none of its names ends in {', '.join(_PAIRS)}"
        )


def _alphas(tensors: Mapping[str, Tensor], where: str) -> dict[str, float]:
    """α/r of each part, where what peft was told is in the file's header."""
    if not isinstance(tensors, SafeTensors) or _METADATA not in tensors.metadata:
        return {}
    said = parse_json(tensors.metadata[_METADATA], f"the header of {where}")
    if any(value for name, value in said.items() if name.endswith((".alpha_pattern", ".use_dora"))):
        raise CheckpointError(f"{where} has an α for each layer, or is a DoRA: such LoRAs are not read")
    parts = {name.rpartition(".")[0] for name in said if name.endswith(".lora_alpha")}
    ranks: dict[str, Any] = {part: said.get(f"{part}.r") for part in parts}
    try:
        return {
            part: said[f"{part}.lora_alpha"] / (rank**0.5 if said.get(f"{part}.use_rslora") else rank)
            for part, rank in ranks.items()
        }
    except (TypeError, ZeroDivisionError):
        raise CheckpointError(f"the header of {where} makes no sense: ranks {ranks}") from None


def _places(model: Model) -> dict[tuple[str, str], _Place]:
    """Everything in a network that has a publisher's name, by its part and that name, normalised."""
    names = model.weights()
    if isinstance(model, UNet):
        tables = [UNetDiffusers().rows(model.config), unet_rows(model.config)]
        tables = [[row.within("", "unet.") for row in rows] for rows in tables]
    elif isinstance(getattr(model, "unet", None), UNet):
        tables = [layout.rows(model.config) for layout in registry.FAMILIES[model.family].load_layouts()]
    else:
        raise UsageError(
            f"LoRAs are applied to Stable Diffusion and its UNet, not to networks of the family {model.family}"
        )
    return {
        _normalised(theirs.removesuffix(".weight")): _Place(ours, spelling, number)
        for rows in tables
        for ours, spellings in find_rows(names, rows).items()
        for spelling in spellings
        for number, theirs in enumerate(spelling)
        if theirs.endswith(".weight")
    }


def _normalised(name: str) -> tuple[str, str]:
    """A name in whatever form -> its part, and the rest as kohya writes it, where every dot is an underscore."""
    prefix = next((prefix for prefix in _PARTS if name.startswith(prefix)), "")
    rest = name.removeprefix(prefix).replace(".processor", "").replace(".", "_")
    return _PARTS.get(prefix, ""), re.sub(r"_to_out$", "_to_out_0", rest)
