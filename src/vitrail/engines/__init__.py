"""How a model runs, never what it says."""

from typing import TYPE_CHECKING

from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.models.model import Model

ENGINES = ("eager",)


def prepare(model: "Model", engine: str) -> str:
    """Make `model` run on `engine` and say what was picked, "eager float32".

    Raises:
        UsageError: there is no such engine.
    """
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"there is no engine '{engine}'; there are auto, {', '.join(ENGINES)}")
    dtype = next(model.parameters()).dtype
    return f"eager {str(dtype).removeprefix('torch.')}"
