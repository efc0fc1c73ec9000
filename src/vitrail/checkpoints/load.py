"""`vitrail.load`: from a name to a network that runs."""

from typing import Any

import torch
from torch import Tensor

from vitrail import registry
from vitrail.checkpoints.files import Checkpoint, open_checkpoint
from vitrail.checkpoints.layout import Layout, to_ours
from vitrail.checkpoints.native import NativeLayout
from vitrail.engines import prepare
from vitrail.errors import CheckpointError, UsageError
from vitrail.models.model import Model, Origin


def load(
    name_or_path: str,
    *,
    architecture: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    engine: str = "auto",
) -> Model:
    """Load a published checkpoint, whoever published it, as a network in eval mode.

    The family and the layout are read from the checkpoint's own config. The network is built without memory and its weights
    are mapped from the file, so that they are held once; safetensors and plain state dicts only, code in a checkpoint is
    never run.

    Args:
        name_or_path: a name in the box ("efficientnet-lite0"), a folder, a `.safetensors` or `.pth` file, a published name
            ("vit_base_patch16_224") or a hub id ("google/vit-base-patch16-224", with "@revision" behind it if wanted).
        architecture: timm's name of the network, for a bare state dict that does not say what it is.
        device: where it runs; the CPU unless said.
        dtype: what it computes in; float32 unless said.
        engine: how it runs; "auto" takes the fastest for this machine.

    Returns:
        The family's module, with `.family`, `.config`, `.preprocess(images)`, `.labels` and `.origin`.

    Raises:
        CheckpointError: the checkpoint cannot be found, fetched or understood, or a tensor is missing, left over or
            misshapen; the sentence names it.
        UsageError: there is no such engine or device.
    """
    checkpoint = open_checkpoint(str(name_or_path), architecture)
    layout = layout_of(checkpoint)
    model = build(layout, checkpoint)
    weights = to_ours(layout, model, checkpoint.tensors, checkpoint.description.shapes, f"'{checkpoint.name}'")
    _assign(model, weights, _device(device), dtype or torch.float32)
    model.eval()
    model.preprocess = read_preprocess(layout, checkpoint, model.config)
    model.labels = layout.read_labels(checkpoint.description, model.config)
    model.origin = Origin(checkpoint.name, layout.library, checkpoint.licence, prepare(model, engine))
    return model


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Which publisher's form of which family a checkpoint has."""
    config = checkpoint.description.config
    if "vitrail" in config:
        return NativeLayout.of(config, checkpoint.name)
    for layout in registry.layouts():
        if layout.recognises(config):
            return layout
    said = ", ".join(f"{key} '{config[key]}'" for key in ("model_type", "architecture", "architectures") if config.get(key))
    raise CheckpointError(f"'{checkpoint.name}' is of no family that Vitrail knows ({said or 'its config names none'})")


def build(layout: Layout, checkpoint: Checkpoint) -> Model:
    """The checkpoint's network on the meta device: its shapes without its numbers."""
    try:
        config = layout.read_config(checkpoint.description)
        with torch.device("meta"):
            return layout.model(config)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"the config of '{checkpoint.name}' lacks {error}") from None
    except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise CheckpointError(f"the config of '{checkpoint.name}' makes no sense: {error}") from None


def read_preprocess(layout: Layout, checkpoint: Checkpoint, config: Any) -> Any:
    """How the checkpoint wants its pictures; its own mistakes in saying so are CheckpointErrors."""
    try:
        return layout.read_preprocess(checkpoint.description, config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the preprocessing of '{checkpoint.name}' makes no sense: {error}") from None


def _assign(model: Model, weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
    """Put the weights in the place of the meta tensors, without a second copy where device and dtype are theirs."""
    for name, tensor in model.state_dict().items():
        if name not in weights:  # a counter the checkpoint lacks
            weights[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        wanted = dtype if weights[name].is_floating_point() else weights[name].dtype
        weights[name] = weights[name].to(device, wanted)
    model.load_state_dict(weights, assign=True)


def _device(device: str | torch.device | None) -> torch.device:
    try:
        chosen = torch.device(device or "cpu")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"this machine has no device '{device}'") from None
    return chosen
