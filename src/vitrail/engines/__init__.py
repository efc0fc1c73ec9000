"""How a model runs, never what it says."""

from typing import TYPE_CHECKING

from vitrail.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.models.model import Model

ENGINES = ("eager", "packed")


def prepare(model: "Model", engine: str) -> str:
    """Make `model` run on `engine` and say what was picked, "packed float32".

    Args:
        model: a loaded network, where it is to run.
        engine: "eager" is PyTorch as it is; "packed" lays linear weights out once for the processor; "auto" takes the
            faster that this machine can run.

    Raises:
        UsageError: there is no such engine, or it cannot run here.
    """
    from vitrail.engines.packed import can_pack, pack

    if engine not in ("auto", *ENGINES):
        raise UsageError(f"there is no engine '{engine}'; there are auto, {', '.join(ENGINES)}")
    parameter = next(model.parameters())
    packable = can_pack(parameter)
    if engine == "packed" and not packable:
        raise UsageError(f"the engine 'packed' needs oneDNN on a CPU, in float32 or bfloat16, not {_where(parameter)}")
    chosen = "packed" if packable and engine != "eager" else "eager"
    if chosen == "packed":
        pack(model)
    return f"{chosen} {_name(parameter)}"


def _name(parameter: "Tensor") -> str:
    return str(parameter.dtype).removeprefix("torch.")


def _where(parameter: "Tensor") -> str:
    return f"{_name(parameter)} on {parameter.device}"
