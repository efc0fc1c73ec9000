"""One of those that are compared: made, timed and measured in a process of its own."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.bench.machine import CLOCKS, peak_memory
from vitrail.engines.timing import seconds_of
from vitrail.errors import VitrailError
from vitrail.evaluation.torchmetrics import declare_missing_operators

PACKAGES = {"open_clip": "open_clip_torch"}
"""What is installed to import a module, where their names differ."""

RESOLUTION = 1e-9
"""Seconds: what is less than none, by the noise of two times that are subtracted, is this."""


@dataclass(frozen=True)
class Ready:
    """A contender that has been made.

    Attributes:
        call: what is timed. What it gives, numbers, is compared with what the others' calls give.
        engine: what it runs on and computes in, "packed bfloat16"; of another library only the last.
        less: a call whose time is taken off that of `call`; None for nothing.
        parts: how many equal pieces of work `call`, less `less`, consists of.
    """

    call: Callable[[], Any]
    engine: str = "float32"
    less: Callable[[], Any] | None = None
    parts: int = 1


@dataclass(frozen=True)
class Contender:
    """Who is compared, and how to make them.

    Attributes:
        name: "timm float32".
        make: makes it; it is called in another process, so it can be pickled.
    """

    name: str
    make: Callable[[], Ready]


class Started:
    """A contender in a process of its own (or in a thread), which does one thing at a time, when it is told to.

    Args:
        contender: who.
        threads: that it may compute on.
        clock: a name of `CLOCKS`.
        start: `multiprocessing.Process` of the "spawn" context, or for tests `threading.Thread`.

    Attributes:
        error: why it cannot go on; None while it can.
        outcome: what its call gave, float32; () before it is made.
        engine: as in `Ready`.
        seconds: what its turns took.
        peak: bytes that its process held at most; None until it has been stopped, and for a thread.
    """

    def __init__(self, contender: Contender, threads: int, clock: str, start: Any) -> None:
        self.contender = contender
        self.connection, theirs = Pipe()
        self.error: str | None = None
        self.outcome = np.zeros(0, dtype=np.float32)
        self.engine = ""
        self.seconds: list[float] = []
        self.peak: int | None = None
        self.waiting = False  # for an answer; still so where that was interrupted
        self.worker = start(target=serve, args=(theirs, contender.make, threads, clock), daemon=True)
        self.worker.start()
        if hasattr(self.worker, "pid"):  # a process has its own end of the pipe now: if it dies, ours must notice
            theirs.close()
        made = self._receive()
        if made is not None:
            self.outcome, self.engine = made

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self.engine.rpartition(" ")[2]

    def turn(self) -> float | None:
        """Let it do its work, again and again where it is short; the seconds it took once, or None where it failed."""
        if self.error is None:
            self.connection.send("turn")
            seconds = self._receive()
            if seconds is not None:
                self.seconds.append(seconds)
                return seconds
        return None

    def stop(self) -> None:
        """End it, and learn how much memory it took, unless it was interrupted in the middle of a turn."""
        if self.error is None and not self.waiting:
            self.connection.send("stop")
            self.peak = self._receive()
        self.connection.close()
        self.worker.join(0 if self.waiting else 10)
        if self.worker.is_alive() and hasattr(self.worker, "kill"):
            self.worker.kill()

    def _receive(self) -> Any:
        """What it says; None, with `error` set, where it says that it failed or says nothing any more."""
        self.waiting = True
        try:
            kind, said = self.connection.recv()
            self.waiting = False
        except (EOFError, ConnectionError):
            self.waiting = False
            self.worker.join(10)
            self.error = f"its process ended ({_exit(getattr(self.worker, 'exitcode', None))})"
            return None
        if kind == "failed":
            self.error = said
            return None
        return said


def serve(connection: Connection, make: Callable[[], Ready], threads: int, clock: str) -> None:
    """What runs in a contender's process: make it, and then do as told, until there is nobody to tell.

    A sentence goes back instead of an error.
    """
    alone = threading.current_thread() is threading.main_thread()
    if alone:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who waits for us is interrupted, and will stop us
    torch.set_num_threads(threads)

    def timed(call: Callable[[], Any] | None) -> float:
        return 0.0 if call is None else seconds_of(call, CLOCKS[clock])

    try:
        ready = make()
        outcome = _numbers(ready.call())
        if ready.less is not None:
            ready.less()
        connection.send(("done", (outcome, ready.engine)))
        while connection.recv() == "turn":
            seconds = (timed(ready.call) - timed(ready.less)) / ready.parts
            connection.send(("done", max(seconds, RESOLUTION)))
        connection.send(("done", peak_memory() if alone else None))
    except (EOFError, ConnectionError):
        return
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        connection.send(("failed", f"{module} is not installed: pip install {PACKAGES.get(module, module)}"))
    except VitrailError as error:
        connection.send(("failed", str(error)))
    except Exception as error:  # other libraries may raise anything, and the others' numbers are still wanted
        reason = (str(error).strip() or "no reason given").splitlines()[0][:200]
        connection.send(("failed", f"{type(error).__name__}: {reason}"))
    finally:
        connection.close()


def in_both_precisions(library: str, make: Callable[..., Ready], *arguments: Any) -> tuple[Contender, ...]:
    """Another library in float32 and in bfloat16; `make(*arguments, precision)` makes it."""
    return tuple(
        Contender(f"{library} {precision}", partial(make, *arguments, precision))
        for precision in ("float32", "bfloat16")
    )


def import_library(name: str) -> Any:
    """Another library to compare with, even where the torchvision that it imports is broken."""
    declare_missing_operators()
    return import_module(name)


def _numbers(outcome: Any) -> np.ndarray:
    if isinstance(outcome, Tensor):
        outcome = outcome.detach().float().cpu().numpy()
    return np.asarray(outcome, dtype=np.float32)


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, as when memory is full" if name == "SIGKILL" else name
    return f"exit code {code}"
