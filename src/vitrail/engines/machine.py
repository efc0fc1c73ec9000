"""What a measured time depends on: the machine, the share of it that a process may use, and versions."""

import platform
import time
from collections.abc import Sequence
from functools import cache
from importlib import metadata

import torch

import vitrail
from vitrail.engines.threads import cores

BUSY = 0.4
"""The share of the machine that others may take while engines are measured."""

WATCHED = 0.3
"""Seconds."""

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
    """A sentence where other programs take much of the machine, so that times say little; None where they do not."""
    before = _jiffies()
    time.sleep(WATCHED)
    share = taken(before, _jiffies())
    return None if share < BUSY else f"other programs took {share:.0%} of the machine: measure again when they are done"


def taken(before: Sequence[int], after: Sequence[int]) -> float:
    """The share of its processors' time that a machine was not idle, between two looks at /proc/stat's first line."""
    passed = [late - early for early, late in zip(before, after, strict=True)]
    idle = sum(passed[3:5])  # waiting for a disk, too
    return 1 - idle / sum(passed) if sum(passed) > 0 else 0.0


def _jiffies() -> list[int]:
    """What the processors' time went into since the system started; [] where it does not say."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            return [int(number) for number in file.readline().split()[1:]]
    except (OSError, ValueError):
        return []


@cache
def versions() -> dict[str, str | None]:
    """Vitrail's version and that of each of `PACKAGES`; None for one that is not installed."""
    return {"vitrail": vitrail.__version__, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
