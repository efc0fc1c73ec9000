"""A network, or one of its methods, as a graph that other programs can read."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.errors import VitrailError, first_line
from vitrail.models.model import Model


class Method(nn.Module):
    """A function of a network as a module, which is what exporters take.

    Args:
        model: the network.
        call: (network, tensor) -> tensor.
    """

    def __init__(self, model: Model, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, values: Tensor) -> Tensor:
        """What the function gives."""
        return self.call(self.model, values)


def twin(model: Model) -> Model:
    """A copy that shares its weights' memory; what is done to its modules and dtype leaves the model as it is."""
    shared: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad and not tensor.is_inference())
        if isinstance(tensor, nn.Parameter)
        else tensor.detach()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return copy.deepcopy(model, shared)


def exported(model: Model, call: Callable[[Any, Tensor], Tensor], example: Tensor) -> torch.export.ExportedProgram:
    """The graph of a function of a network in float32, for batches of any length.

    Args:
        model: the network, in eval mode; it stays as it is.
        call: (network, tensor) -> tensor.
        example: what the function takes, for two; all but the first dimension is the graph's own.

    Raises:
        VitrailError: the function does not do the same for every input of this shape.
    """
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        model = twin(model).float()
    try:
        with torch.inference_mode(False), torch.no_grad(), quiet():
            return torch.export.export(
                Method(model, call).eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
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
