"""What machine this is, and how fast it multiplies and reads: what nothing that runs on it can beat."""

import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from vitrail.engines.machine import processor
from vitrail.engines.packed import pack

ROWS, INNER, COLUMNS = 1576, 768, 3072
"""The matrices whose rate is taken for the machine's: those of ViT-B/16's MLP for eight pictures."""

PRODUCT = 2 * ROWS * INNER * COLUMNS
"""Operations in the product of these, multiplications and additions counted apart."""

READ = 2**29
"""Bytes that are summed to see how fast memory is; no cache holds them."""

LIBRARIES = ("timm", "open_clip_torch", "transformers", "diffusers", "openvino", "onnxruntime")
"""What is compared with or run by, whose versions belong to a result."""


def describe(threads: int | None = None) -> str:
    """One line on the processor, the threads (those that torch computes on, unless said), Python and torch."""
    features = " ".join(_lines("/proc/cpuinfo"))
    wide = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {name} " in f" {features} "]
    count = threads or torch.get_num_threads()
    said = [
        processor() + (f" ({', '.join(wide)})" if wide else ""),
        f"{count} thread{'s' if count != 1 else ''}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
    ]
    return ", ".join(said)


def versions() -> str:
    """The versions of those of `LIBRARIES` that are installed, "timm 1.0.31, diffusers 0.42.1"."""
    said = []
    for library in LIBRARIES:
        try:
            said.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue
    return ", ".join(said)


def product(precision: torch.dtype) -> Callable[[], Tensor]:
    """A call that multiplies two matrices, (ROWS, INNER) and (INNER, COLUMNS), as fast as this machine can: packed."""
    linear = nn.Linear(INNER, COLUMNS, bias=False, dtype=precision)
    pack(linear)
    rows = torch.randn(ROWS, INNER, dtype=precision)
    return torch.inference_mode()(lambda: linear(rows))


def reading() -> Callable[[], Tensor]:
    """A call that reads `READ` bytes of memory once."""
    memory = torch.ones(READ // 8, dtype=torch.int64)
    return memory.sum


def processor_time() -> float:
    """Seconds that processors spent on this process and on those it started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": processor_time}
"""Wall time; or processor time, which with one thread is about what a crowded machine would take were it empty."""


def peak_memory() -> int:
    """Bytes: the most that this process has held, or the largest of those it started and waited for."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    # Where it can be had, for getrusage counts what the process held before it became this program.
    held = (int(line.split()[1]) * 1024 for line in _lines("/proc/self/status") if line.startswith("VmHWM"))
    return max(next(held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit), children)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
