"""A network, or one of its methods, as a graph that other programs can read."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.errors import VitrailError, first_line
from vitrail.models.model import Model


@dataclass(frozen=True)
class Graph:
    """A function of a network, as another program is to know it.

    Attributes:
        call: (network, a tensor for each of `inputs`) -> a tensor, or a tuple of them.
        inputs: what it is given, by name: an example of each, with at least two along every axis of any length.
        outputs: the names of what it gives.
        axes: those of the inputs that may have any length, and what that counts: axes that count the same are equally
            long in every call. Of an input that is not named here the first is, and counts "batch".
        most: how long such an axis may be, by what it counts; one that is not named here has no limit.
    """

    call: Callable[..., Any]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)

    @property
    def any_length(self) -> dict[str, Mapping[int, str]]:
        """`axes` of every input."""
        return {name: self.axes.get(name, {0: "batch"}) for name in self.inputs}


class Method(nn.Module):
    """A function of a network as a module, which is what exporters take.

    Args:
        model: the network.
        call: (network, tensors) -> a tensor, or a tuple of them.
    """

    def __init__(self, model: Model, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, *given: Tensor) -> Any:
        """What the function gives."""
        return self.call(self.model, *given)


def twin(model: Model) -> Model:
    """A copy that shares its weights' memory; what is done to its modules and dtype leaves the model as it is."""
    shared: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad and not tensor.is_inference())
        if isinstance(tensor, nn.Parameter)
        else tensor.detach()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return copy.deepcopy(model, shared)


def unprepared(model: Model) -> Model:
    """A twin that runs as PyTorch runs the family's own code, whatever engine the model runs on."""
    plain = twin(model)
    for module in plain.modules():
        vars(module).pop("forward", None)
    for name in ("pool", *plain.entries):
        vars(plain).pop(name, None)
    return plain


def exported(model: Model, graph: Graph) -> torch.export.ExportedProgram:
    """A function of a network in float32, traced.

    Args:
        model: the network, in eval mode; it stays as it is.
        graph: the function.

    Raises:
        VitrailError: the function does not do the same for every input of these shapes.
    """
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        model = twin(model).float()
    counted = {
        what: torch.export.Dim(what, max=graph.most.get(what))
        for axes in graph.any_length.values()
        for what in axes.values()
    }
    shapes = tuple({axis: counted[what] for axis, what in axes.items()} for axes in graph.any_length.values())
    try:
        with torch.inference_mode(False), torch.no_grad(), quiet():
            return torch.export.export(
                Method(model, graph.call).eval(), tuple(graph.inputs.values()), dynamic_shapes=(shapes,)
            )
    except Exception as error:  # of many kinds, with pages of advice to whoever wrote the network
        raise VitrailError(
            f"this {model.family} is no graph that another program could run ({first_line(error)})"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters and quantisers talk to their developers, on standard output, too: nothing of it is for users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "nncf")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def one_or_several(said: Sequence[np.ndarray]) -> Tensor | tuple[Tensor, ...]:
    """What a graph gave as tensors: the one, or a tuple."""
    tensors = tuple(map(torch.from_numpy, said))
    return tensors[0] if len(tensors) == 1 else tensors
