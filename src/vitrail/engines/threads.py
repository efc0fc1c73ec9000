"""How many threads this process may compute on: no more than its share of the machine's cores.

In a container the operating system still counts all the machine's cores, and so does PyTorch. A process that computes
on more threads than it has cores is stopped in the middle of a product, with its other threads waiting for that one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


def cores(root: Path = Path("/")) -> int:
    """How many cores this process has to itself: those it may run on, or fewer if its cgroups (v1 or v2) say so.

    A share of a core and a half counts as one.

    Args:
        root: what stands above `proc` and `sys`.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([usable, *map(int, _quotas(root))]))


@cache
def limit_threads() -> None:
    """Let PyTorch compute on no more threads than this process has cores; called once, where computing begins.

    What the user asks for in OMP_NUM_THREADS or MKL_NUM_THREADS stays, and a number that is lower already.
    """
    if "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return
    import torch

    if torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes on one thread inside, as far as this thread of Python asks it to."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class OnOneThread:
    """Stands in for the `forward` of a small module beside another engine.

    PyTorch's other threads, once they have computed, go round in a loop for some milliseconds and wait for more: on the
    cores that the other engine's threads want for the next picture, which took twice as long for it.

    Args:
        forward: the module's own, or what stands in for it already.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any) -> Any:
        """As `forward`."""
        with one_thread():
            return self.forward(*args)


def _quotas(root: Path) -> Iterator[float]:
    """In cores, what each cgroup that this process is in may use.

    In a container the path in /proc may be the host's, of which only the last folder is mounted, as the uppermost.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"), _quota_v1
        else:
            continue
        below = Path(path.lstrip("/"))
        for mount in mounts:
            for folder in (below, *below.parents):
                quota = read(root / mount / folder)
                if quota is not None:
                    yield quota


def _quota_v2(folder: Path) -> float | None:
    """Of "150000 100000", 1.5 cores; "max 100000" is no limit."""
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdecimal() else None


def _quota_v1(folder: Path) -> float | None:
    """The same from two files; -1 is no limit."""
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
