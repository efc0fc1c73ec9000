"""Where a network runs, where nobody says."""

import os

ON_CUDA = ("auto", "eager", "compile")
"""Engines that run on a GPU, too; "auto" is eager there. The others are the CPU's."""


def asked_for(engine: str) -> str:
    """The engine that is meant: where the user leaves it to us, "auto", it is what VITRAIL_ENGINE names, if it does."""
    return (os.environ.get("VITRAIL_ENGINE") or engine) if engine == "auto" else engine


def place_for(engine: str, *, cuda: bool) -> str:
    """The device that is taken where none is named: "cuda" where there is one and the engine can run there, or "cpu".

    Args:
        engine: as `vitrail.load` takes it, "auto" or "compile:bfloat16"; one that does not exist is the CPU's, too.
        cuda: whether this machine has a usable CUDA device.
    """
    return "cuda" if cuda and asked_for(engine).partition(":")[0] in ON_CUDA else "cpu"


def has_cuda() -> bool:
    """Whether this machine has a CUDA device that takes a tensor; where torch is built without CUDA, at no cost."""
    import torch

    if not torch.cuda.is_available():
        return False
    try:
        torch.empty(0, device="cuda")
    except (RuntimeError, AssertionError):  # it is another process's alone, or this one is a fork of one that uses it
        return False
    return True
