"""What a measured time depends on: the machine, the share of it that a process may use, and versions."""

import os
import platform
from functools import cache
from importlib import metadata

import torch

import vitrail
from vitrail.engines.threads import cores

BUSY = 0.75
"""Threads that were running in the last minute, to each core of the machine."""

PACKAGES = ("torch", "openvino", "onnxruntime")
"""Whose versions decide what is fast."""


@cache
def processor() -> str:
    """The processor's name, as the system calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = (line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
            return next(named, "") or platform.processor() or platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def machine() -> dict[str, str | int]:
    """{"processor": …, "instructions": …, "cores": …, "threads": …}, threads being those that torch computes with."""
    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
    }


def busy() -> str | None:
    """A sentence where other programs take most of the machine, so that times say little; None where they do not."""
    if not hasattr(os, "getloadavg"):
        return None
    load, count = os.getloadavg()[0], os.cpu_count() or 1
    if load < BUSY * count:
        return None
    return f"other programs were running (load {load:.1f} on {count} cores): measure again when they are done"


@cache
def versions() -> dict[str, str | None]:
    """Vitrail's version and that of each of `PACKAGES`; None for one that is not installed."""
    return {"vitrail": vitrail.__version__, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
