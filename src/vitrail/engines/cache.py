"""Where engines keep what took long to make, and how they know it again."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vitrail.models.model import Model

SAMPLE = 64
"""So many numbers of each weight tell a network from another of the same shape."""


def cache_folder() -> Path:
    """What the environment's VITRAIL_CACHE says, else ~/.cache/vitrail."""
    said = os.environ.get("VITRAIL_CACHE")
    return Path(said).expanduser() if said else Path.home() / ".cache" / "vitrail"


def looks(model: Model) -> str:
    """A digest of a network that costs no reading of its weights: family, config, names and shapes, and a few numbers.

    It tells a network from one that was fine-tuned from it, and is the same in bfloat16; it is no proof that two are
    the same.
    """
    return _digest(model, lambda tensor: tensor.reshape(-1)[:SAMPLE].bfloat16())


def fingerprint(model: Model) -> str:
    """A digest of a network with all of its weights: what is kept for one may be used for another of the same."""
    return _digest(model, lambda tensor: tensor)


def _digest(model: Model, part: Callable[[Tensor], Tensor]) -> str:
    digest = hashlib.sha256(f"{model.family} {model.config!r}".encode())
    with torch.no_grad():
        for name, tensor in model.weights().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            values = part(tensor.detach().cpu()).contiguous()
            if values.numel():
                digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
