"""The network that a verb runs: named, loaded already, or the one that is taken when nothing is said."""

import os
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

from vitrail.checkpoints.load import load
from vitrail.engines import running
from vitrail.errors import UsageError
from vitrail.models.generator import Generator
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model

DEFAULT_MODEL = "efficientnet-lite0"
"""In the box, trained on ImageNet."""

_loading = Lock()


def get_model(
    model: str | os.PathLike | Model | None = None,
    *,
    engine: str = "auto",
    device: str | None = None,
    architecture: str | None = None,
) -> Model:
    """The network to see with; arguments and errors are `get_any_model`'s.

    Raises:
        UsageError: the network writes or makes pictures, and neither names what it sees nor makes vectors of it.
    """
    network = get_any_model(model, engine=engine, device=device, architecture=architecture)
    if isinstance(network, LanguageModel):
        raise UsageError(
            f"'{name_of(network)}' writes texts, and gives no labels or vectors of pictures: use caption, ask or chat"
        )
    if isinstance(network, Generator):
        raise UsageError(
            f"'{name_of(network)}' makes pictures, and gives no labels or vectors of them: use generate or edit"
        )
    return network


def get_any_model(
    model: str | os.PathLike | Model | None = None,
    *,
    engine: str = "auto",
    device: str | None = None,
    architecture: str | None = None,
) -> Model:
    """The network to run. What is named is loaded once a process, and again if its files have changed since.

    Args:
        model: what `vitrail.load` takes, a network that is loaded already, or None for `DEFAULT_MODEL`.
        engine: how it runs, as `vitrail.load` takes it.
        device: where it runs, as `vitrail.load` takes it: unless said, on a CUDA device where there is one.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.

    Raises:
        CheckpointError: as `vitrail.load` raises it.
        UsageError: as `vitrail.load` raises it; or engine, device or architecture are given with a loaded network, or
            that network is in training mode or has no `preprocess` to see pictures with.
    """
    if isinstance(model, Model):
        if engine != "auto" or device is not None or architecture is not None:
            raise UsageError(
                "engine, device and architecture are chosen when a network is loaded, and this one is already"
            )
        if model.training:
            raise UsageError("the network is in training mode: call its eval() first")
        if not (isinstance(model, Generator) or hasattr(model, "preprocess")):
            raise UsageError("the network has no preprocess: set it to a vitrail.imaging.preprocess.Preprocess")
        return model
    name = DEFAULT_MODEL if model is None else os.fspath(model)
    with _loading:
        return _load(name, engine, None if device is None else str(device), architecture, _state_of_files(name))


def name_of(model: Model) -> str:
    """What results call the network: the name it was loaded by, or its family's."""
    return model.origin.name if model.origin else model.family


def engine_of(model: Model, batch: int | None = None, *, place: bool = True) -> str:
    """What results say of how it ran, "packed float32", and where, if not on the CPU: "eager float32 on cuda:0".

    Args:
        model: the network.
        batch: how many pictures it is given at once; None where that differs.
        place: whether to say where.
    """
    if model.origin is None:
        engine = f"eager {str(next(model.parameters()).dtype).removeprefix('torch.')}"
    else:
        engine = (None if batch is None else running(model, batch)) or model.origin.engine
    return f"{engine} on {model.device}" if place and model.device.type != "cpu" else engine


def engine_for(model: Model, inputs: Sequence[object]) -> str:
    """What results say of how these inputs ran: of a single one what runs one picture, of several all that run some."""
    return engine_of(model, 1 if len(inputs) == 1 else None)


def forget() -> None:
    """Load every network anew when it is next named: what "auto" means has changed."""
    _load.cache_clear()


@lru_cache(maxsize=4)
def _load(name: str, engine: str, device: str | None, architecture: str | None, files: object) -> Model:
    return load(name, architecture=architecture, device=device, engine=engine)


def _state_of_files(name: str) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """Where a local checkpoint is and when its files changed last; None for what is no path."""
    path = os.path.abspath(os.path.expanduser(name))
    try:
        files = [path, *(entry.path for entry in os.scandir(path))] if os.path.isdir(path) else [path]
        return path, tuple(sorted((file, os.stat(file).st_mtime_ns) for file in files))
    except (OSError, ValueError):
        return None
