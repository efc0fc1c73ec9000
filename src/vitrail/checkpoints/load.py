"""`vitrail.load`: from a name to a network that runs."""

import dataclasses
import math
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from vitrail import registry
from vitrail.checkpoints.blank import blank
from vitrail.checkpoints.files import Checkpoint, open_checkpoint
from vitrail.checkpoints.layout import Layout, to_ours
from vitrail.checkpoints.native import NativeLayout
from vitrail.checkpoints.reading import reason_of
from vitrail.engines import prepare
from vitrail.engines.places import has_cuda, place_for
from vitrail.engines.threads import limit_threads
from vitrail.errors import CheckpointError, UsageError, VitrailError
from vitrail.models.model import Model, Origin
from vitrail.text.tokenizer import Tokenizer


@torch.inference_mode(False)  # or the weights loaded inside a caller's inference mode could never be differentiated
def load(
    name_or_path: str,
    *,
    architecture: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    engine: str = "auto",
) -> Model:
    """Load a published checkpoint, whoever published it, as a network in eval mode.

    The family and the layout are read from the checkpoint's own config. The network is built without memory and its
    weights are mapped from the file, so that they are held once; safetensors and plain state dicts only, code in a
    checkpoint is never run.

    Args:
        name_or_path: a name in the box ("efficientnet-lite0"), a folder, a `.safetensors` or `.pth` file, a published
            name ("vit_base_patch16_224") or a hub id ("google/vit-base-patch16-224", with "@revision" behind it if
            wanted).
        architecture: timm's name of the network, for a bare state dict that does not say what it is.
        device: where it runs: "cpu", "cuda", "cuda:1", …. Unless said, on a CUDA device where there is one and the
            engine is "auto", "eager" or "compile"; elsewhere on the CPU. Verbs take pictures there; those that you
            prepare yourself are on the CPU, and go there by `.to(model.device)`.
        dtype: what it computes in; float32 unless said.
        engine: how it runs: "eager", "packed", "compile", "openvino" or "onnx", with a precision behind a colon if
            wanted ("openvino:int8"); "auto" takes the fastest for this machine, as far as it was measured
            (`vitrail.tune`).

    Returns:
        The family's module, with `.family`, `.config`, `.preprocess(images)`, `.labels` and `.origin`; one that reads
        texts has a `.tokenizer`, where the checkpoint has.

    Raises:
        CheckpointError: the checkpoint cannot be found, fetched or understood, or a tensor is missing, left over or
            misshapen; the sentence names it.
        UsageError: there is no such engine or device, the engine cannot run this network, or `dtype` is not a float
            type.
        VitrailError: what the engine needs is not installed, or the network does not fit in the device's memory.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UsageError(f"a network computes in a float type, torch.float32 or torch.bfloat16, not in {dtype}")
    where = _device(device, engine)
    limit_threads()
    checkpoint = open_checkpoint(str(name_or_path), architecture, half=dtype in (torch.float16, torch.bfloat16))
    layout = layout_of(checkpoint)
    model = build(layout, checkpoint)
    weights = to_ours(layout, model, checkpoint.tensors, checkpoint.description.shapes, f"'{checkpoint.name}'")
    try:
        _assign(model, weights, where, dtype or torch.float32)
    except torch.OutOfMemoryError:
        raise VitrailError(
            f"'{checkpoint.name}' does not fit in the memory of {where}: run it on the CPU, by device='cpu' "
            "(--device cpu)"
        ) from None
    model.eval()
    model.preprocess = read_preprocess(layout, checkpoint, model.config)
    if model.reads:
        model.tokenizer = read_tokenizer(layout, checkpoint, model.config)
    model.origin = Origin(checkpoint.name, layout.library, checkpoint.licence, prepare(model, engine, dtype=dtype))
    return model


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Which publisher's form of which family a checkpoint has."""
    config = checkpoint.description.config
    if "vitrail" in config:
        return NativeLayout.of(config, checkpoint.name)
    for layout in registry.layouts():
        if layout.recognises(config) and layout.fits(checkpoint.description.shapes):
            return layout
    said = ", ".join(
        f"{key} '{config[key]}'"
        for key in ("model_type", "architecture", "architectures", "_class_name")
        if config.get(key)
    )
    raise CheckpointError(f"'{checkpoint.name}' is of no family that Vitrail knows ({said or 'its config names none'})")


def build(layout: Layout, checkpoint: Checkpoint) -> Model:
    """The checkpoint's network on the meta device: its shapes and labels without its numbers."""
    description = checkpoint.description
    try:
        config = layout.read_config(description)
        _check(config)
        blocks, tensors = _blocks(config), len(description.shapes)
        if blocks > tensors:  # a billion blocks take long to build even without memory
            raise ValueError(f"it asks for {blocks} blocks of a checkpoint with {tensors} tensors")
        with blank():
            model = layout.model(config)
        model.labels = layout.read_labels(description, config)
        return model
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"the config of '{checkpoint.name}' lacks {error}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"the config of '{checkpoint.name}' makes no sense: {reason_of(error)}") from None


def read_preprocess(layout: Layout, checkpoint: Checkpoint, config: Any) -> Any:
    """How the checkpoint wants its pictures; its own mistakes in saying so are CheckpointErrors."""
    try:
        return layout.read_preprocess(checkpoint.description, config)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the preprocessing of '{checkpoint.name}' makes no sense: {reason_of(error)}") from None


def read_tokenizer(layout: Layout, checkpoint: Checkpoint, config: Any) -> Tokenizer | None:
    """How the checkpoint turns texts into ids; its own mistakes in saying so are CheckpointErrors."""
    try:
        return layout.read_tokenizer(checkpoint.description, config)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"the tokenizer of '{checkpoint.name}' lacks {error}") from None
    except Exception as error:  # `tokenizers` raises nothing narrower for broken files
        raise CheckpointError(f"the tokenizer of '{checkpoint.name}' makes no sense: {reason_of(error)}") from None


def config_fields(config: Any, within: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, value, type) of every field of a config dataclass; "text.width" of one in a dataclass inside it."""
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from config_fields(value, f"{within}{field.name}.")
        else:
            yield f"{within}{field.name}", value, kinds[field.name]


def _check(config: Any) -> None:
    """Every field of a config dataclass must be what its type says, and no count below zero, or it is a TypeError."""
    for name, value, kind in config_fields(config):
        if not _is_a(value, kind):
            raise TypeError(f"{name} is {value!r}")


def _blocks(config: Any) -> int:
    """How many blocks a config asks for, in all its towers."""
    depths = [value for name, value, _ in config_fields(config) if name.endswith(("depth", "depths"))]
    return sum(sum(depth) if isinstance(depth, tuple) else depth for depth in depths)


def _is_a(value: object, kind: Any) -> bool:
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(_is_a(value, one) for one in inner)
    if get_origin(kind) is Literal:
        return value in inner
    if get_origin(kind) is tuple and isinstance(value, tuple):
        inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(inner) and all(map(_is_a, value, inner))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, get_origin(kind) or kind)


def _assign(model: Model, weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Put the weights in the place of the meta tensors, without a second copy where device and dtype are theirs."""
    model.to(dtype)  # here nothing is cast yet; but for what a network keeps as it is, this is what it asks for
    for name, tensor in model.weights().items():
        if name not in weights:  # a counter the checkpoint lacks
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        wanted = tensor.dtype if weights[name].is_floating_point() else weights[name].dtype
        weights[name] = weights[name].to(device, wanted)
    model.assign(weights)


def _device(device: str | torch.device | None, engine: str) -> torch.device:
    """Where to run: what is said, or else what suits the engine and the machine."""
    device = device or place_for(engine, cuda=has_cuda())
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ImportError):
        raise UsageError(f"this machine has no device '{device}'") from None
    return chosen
