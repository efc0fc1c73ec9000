"""The one place that imports torchmetrics, which needs help where torchvision is broken."""

import importlib
import importlib.util
from functools import cache
from typing import Any

from vitrail.errors import VitrailError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_classification() -> Any:
    """`torchmetrics.classification`, as `import_part` gives it."""
    return import_part("classification")


def import_part(name: str) -> Any:
    """A module of torchmetrics, such as "classification", or a sentence that says how to get it.

    torchmetrics imports torchvision wherever that is installed, although no score of ours uses it. Beside a CPU build
    of torch, torchvision's wheel, built for CUDA, fails to import because its operators are absent; declared without
    code behind them they do no harm, and it imports.

    Raises:
        VitrailError: torchmetrics is not installed.
    """
    if importlib.util.find_spec("torchmetrics") is None:
        raise VitrailError("scores are computed with torchmetrics: pip install 'vitrail[train]'")
    declare_missing_operators()
    return importlib.import_module(f"torchmetrics.{name}")


@cache  # keeps the declarations, which go when the library object does
def declare_missing_operators() -> Any:
    """Let torchvision import beside a build of torch that its wheel was not made for: declare the operators it misses.

    Returns what holds the declarations; None where there is nothing to declare. Call it before importing a library that
    imports torchvision wherever that is installed: torchmetrics, transformers, and peft through it.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # type: ignore[import-untyped, unused-ignore]  # noqa: F401
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            library.define(schema)
        return library
    return None
