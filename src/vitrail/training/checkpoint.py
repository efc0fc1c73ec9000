"""The state of a run on disk: weights, their average, the optimiser's moments, and the step. One safetensors file each.

Nothing else is needed (see `vitrail.training.randomness`). A file has its name only once it is whole and on the disk,
so a run killed while writing finds the one before. Tensors are written whole, however they were spread over
processes, and read back for any number of them.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitrail.errors import VitrailError
from vitrail.files import appearing
from vitrail.training.average import Average
from vitrail.training.optimiser import blank_state
from vitrail.training.sharding import copy_into, forget_gathered, spread_like, state_of, whole

_NAME = re.compile(r"step-(\d+)\.safetensors")


def write_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    average: Average,
    optimiser: torch.optim.Optimizer,
    *,
    keep: int,
    main: bool,
) -> None:
    """Write the state after `step` updates. Every process calls it, and the main one writes.

    Args:
        folder: where checkpoints lie.
        step: updates so far.
        model: the network.
        average: of its weights.
        optimiser: which has made an update at least.
        keep: how many checkpoints stay: this one and the newest others.
        main: whether this is the process that writes.

    Raises:
        VitrailError: the disk is full, or the folder cannot be written.
    """
    tensors = {name: whole(tensor).contiguous() for name, tensor in _state(model, average, optimiser)}
    if not main:
        return
    path = folder / f"step-{step:08d}.safetensors"
    try:
        with appearing(path) as scratch:
            save_file(tensors, scratch, metadata={"step": str(step)})
            _flush(scratch)
        _flush(folder)
    except SafetensorError as error:  # what it makes of a full disk
        raise VitrailError(f"{path} cannot be written ({error})") from None
    for old in (*checkpoints(folder)[:-keep], *folder.glob(".step-*")):  # the latter of a process killed while writing
        old.unlink(missing_ok=True)


def read_checkpoint(path: Path, model: nn.Module, average: Average, optimiser: torch.optim.Optimizer) -> int:
    """Put back the state that a checkpoint holds, and return how many updates it has seen. Every process calls it.

    Raises:
        VitrailError: the file is damaged or is of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for weight in model.parameters():  # the optimiser makes its moments at its first update: make room
                if weight.requires_grad:
                    blank_state(optimiser, weight)
            for name, tensor in _state(model, average, optimiser):
                if name not in names or tuple(file.get_slice(name).get_shape()) != tuple(tensor.shape):
                    raise VitrailError(f"the checkpoint {path} is of another network: its '{name}' differs")
                with torch.no_grad():
                    copy_into(tensor, spread_like(file.get_tensor(name), tensor))
            step = int(file.metadata()["step"])
    except (SafetensorError, OSError, KeyError) as error:
        raise VitrailError(
            f"the checkpoint {path} is damaged ({error}): delete it, and the run goes on from the one before"
        ) from None
    forget_gathered(model)
    return step


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first."""
    return (
        sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))
        if folder.is_dir()
        else []
    )


def _state(model: nn.Module, average: Average, optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Everything that a run's next update depends on, by name, in an order that all processes share."""
    for name, tensor in state_of(model).items():
        yield f"model/{name}", tensor
    for name, tensor in average.state.items():
        yield f"average/{name}", tensor
    for name, weight in model.named_parameters():
        for key, moment in optimiser.state[weight].items() if weight in optimiser.state else ():
            yield f"optimiser/{name}/{key}", moment


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
