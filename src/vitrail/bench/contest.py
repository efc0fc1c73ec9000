"""Contenders side by side: who takes how long, in the same minutes on the same machine, and gives the same numbers."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np
import torch

from vitrail.bench.contender import Contender, Ready, Started
from vitrail.bench.machine import PRODUCT, READ, product, reading

Bound = Literal["products", "reading"]

Progress = Callable[[str, int, int], None]
"""Told what is measured, how many rounds of it are done, and how many there are."""


@dataclass(frozen=True)
class Work:
    """Something to do, and who does it.

    Attributes:
        name: "ViT-B/16, 8 pictures".
        ours: Vitrail's, by engine; the first is what ratios are taken to where there is no other library.
        references: those of other libraries, as people would run them; the first is what all are compared with.
        bound: what limits it: the rate of matrix products, or that at which memory is read.
        amount: of it: operations (multiplications and additions), or numbers that are read; None where nobody knows.
        tolerance: how far a contender's numbers in float32 may be from the first's, of the largest of them.
        loose: how far they may be in less than float32's precision, where those of random weights say little.
    """

    name: str
    ours: tuple[Contender, ...]
    references: tuple[Contender, ...] = ()
    bound: Bound = "products"
    amount: float | None = None
    tolerance: float = 1e-3
    loose: float = 0.5


@dataclass(frozen=True)
class Row:
    """What was seen of one contender.

    Attributes:
        contender: its name.
        engine: what it ran on and computed in, "packed bfloat16"; of another library only the last.
        seconds: the median of its turns; None where it failed.
        ratios: by the name of a reference, how many times as fast it was: the median over the rounds.
        difference: how far its numbers were from the first reference's, of the largest of them; None for that itself.
        fraction: of the machine's own rate of products in its precision, or of reading: of `Work.bound`.
        peak: bytes that its process held at most, libraries included.
        error: why there are no numbers, or not all.
    """

    contender: str
    engine: str = ""
    seconds: float | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    difference: float | None = None
    fraction: float | None = None
    peak: int | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its attributes, by name."""
        return {**vars(self), "ratios": dict(self.ratios)}


@dataclass(frozen=True)
class Result:
    """A table.

    Attributes:
        work: its name.
        machine: what it is, and what is installed.
        clock: "wall" or "processor".
        rounds: how many were wanted.
        bound: as in `Work`.
        rows: one for each contender.
    """

    work: str
    machine: str
    clock: str
    rounds: int
    bound: Bound
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Its attributes, by name; "rows" are dictionaries."""
        return {**vars(self), "rows": [row.to_dict() for row in self.rows]}

    def __str__(self) -> str:
        references = list(dict.fromkeys(name for row in self.rows for name in row.ratios))
        bound = "of the products" if self.bound == "products" else "of reading"
        header = ["", "time", *(f"× {name}" for name in references), bound, "difference", "memory", ""]
        cells = [header, *(_cells(row, references) for row in self.rows)]
        used = [number for number in range(len(header)) if number == 0 or any(row[number] for row in cells[1:])]
        widths = [max(len(row[number]) for row in cells) for number in used]
        lines = [
            "  ".join(
                row[number].rjust(width) if 0 < number < len(header) - 1 else row[number].ljust(width)
                for number, width in zip(used, widths, strict=True)
            ).rstrip()
            for row in cells
        ]
        said = [f"  {row.contender}: {row.error}" for row in self.rows if row.error]
        return "\n".join([f"{self.work}, {self.clock} time", *lines, *said])


class Contest:
    """A piece of work, done by all contenders in turns.

    References stay while ours come one after the other, so that memory holds them and one of ours. In every round each
    has a turn: what a neighbour on the machine does to one it does to all, and the median of the rounds' ratios hardly
    notices it.

    Args:
        work: what, and who.
        machine: what it is, and what is installed.
        rounds: turns of each.
        threads: that each may compute on.
        clock: "wall" or "processor".
        progress: told how far it is.
        start: what a contender is started in; a fresh process, unless a test says `threading.Thread`.
    """

    def __init__(
        self,
        work: Work,
        machine: str,
        *,
        rounds: int = 5,
        threads: int = 1,
        clock: str = "wall",
        progress: Progress = lambda what, done, total: None,
        start: Any = None,
    ) -> None:
        self.work, self.machine, self.rounds, self.clock = work, machine, rounds, clock
        self.progress = progress
        self.begin = partial(Started, threads=threads, clock=clock, start=start or get_context("spawn").Process)
        self.rates: dict[str, Started] = {}
        self.standing: list[Started] = []  # references that can run
        self.gone: list[Row] = []  # those that cannot
        self.done: list[Row] = []
        self.running: tuple[Started, dict[str, list[float]]] | None = None
        self.rows: tuple[Row, ...] = ()

    def run(self) -> None:
        """Do it all. What was done until an interruption is in `result`."""
        self.progress(self.work.name, 0, self.rounds * len(self.work.ours))
        try:
            ours = self._references()
            for number, contender in enumerate(ours):
                self._beside_the_references(contender, number)
            if not any(reference.seconds for reference in self.standing):  # nobody could be measured beside them
                for done in range(self.rounds):
                    self._turns()
                    self.progress(self.work.name, done + 1, self.rounds)
        finally:
            for started in (*self.standing, *self.rates.values(), *([self.running[0]] if self.running else [])):
                started.stop()
            self.rows = self._rows()

    def result(self) -> Result:
        """What is known when `run` has ended, in whichever way."""
        return Result(self.work.name, self.machine, self.clock, self.rounds, self.work.bound, self.rows)

    def _references(self) -> list[Contender]:
        """Start all that stay; gives those of ours that do not."""
        for contender in self.work.references:
            started = self.begin(contender)
            if self.standing and started.error is None:
                started.error = self._wrong(started)
            if started.error is None:
                self.standing.append(started)
                self._start_rate(started)
            else:
                started.stop()
                self.gone.append(Row(contender.name, error=started.error))
        ours = list(self.work.ours)
        while ours and not self.standing:
            first = self.begin(ours.pop(0))
            if first.error is None:
                self.standing.append(first)
                self._start_rate(first)
            else:
                first.stop()
                self.gone.append(Row(first.contender.name, error=first.error))
        return ours

    def _beside_the_references(self, contender: Contender, number: int) -> None:
        """Measure one of ours."""
        started = self.begin(contender)
        if started.error is None:
            started.error = self._wrong(started)
        ratios: dict[str, list[float]] = {reference.contender.name: [] for reference in self.standing}
        self.running = started, ratios
        self._start_rate(started)
        for done in range(self.rounds if started.error is None else 0):
            theirs = self._turns()
            seconds = started.turn()
            for reference, taken in zip(self.standing, theirs, strict=True):
                if seconds and taken:
                    ratios[reference.contender.name].append(taken / seconds)
            self.progress(self.work.name, number * self.rounds + done + 1, self.rounds * len(self.work.ours))
        self.running = None
        started.stop()
        self.done.append(self._row(started, ratios))

    def _turns(self) -> list[float | None]:
        """Let the references, and what measures the machine, have their turns; the references' seconds."""
        for rate in self.rates.values():
            rate.turn()
        return [reference.turn() for reference in self.standing]

    def _start_rate(self, started: Started) -> None:
        """Have the machine's own rate in a contender's precision measured beside it, where it is wanted and can be."""
        key = started.precision if self.work.bound == "products" else "reading"
        if started.error is None and self.work.amount is not None and key in RATES and key not in self.rates:
            self.rates[key] = self.begin(Contender(key, RATES[key]))

    def _wrong(self, started: Started) -> str | None:
        """Why a contender's numbers are not those of the first, in a sentence; None where they are."""
        first, here = self.standing[0].outcome, started.outcome
        if first.shape != here.shape:
            return (
                f"it gives numbers of shape {here.shape}, where {self.standing[0].contender.name} gives {first.shape}"
            )
        difference = distance(here, first)
        allowed = self.work.tolerance if started.precision == "float32" else self.work.loose
        if not difference <= allowed:
            return (
                f"its numbers differ from those of {self.standing[0].contender.name} by {difference:.2g} of the "
                f"largest, more than {allowed:g}"
            )
        return None

    def _rows(self) -> tuple[Row, ...]:
        """The references', those of ours that are done, and that which was running when it was interrupted."""
        if self.running is not None:
            self.done.append(self._row(*self.running))
        return *(self._row(one, {}) for one in self.standing), *self.gone, *self.done

    def _row(self, started: Started, ratios: Mapping[str, Sequence[float]]) -> Row:
        seconds = statistics.median(started.seconds) if started.seconds else None
        first = self.standing[0] if self.standing else started
        alike = started is not first and started.outcome.shape == first.outcome.shape and started.outcome.size > 0
        return Row(
            started.contender.name,
            started.engine,
            seconds,
            {name: statistics.median(values) for name, values in ratios.items() if values},
            distance(started.outcome, first.outcome) if alike else None,
            self._fraction(started.precision, seconds),
            started.peak,
            started.error,
        )

    def _fraction(self, precision: str, seconds: float | None) -> float | None:
        rate = self.rates.get(precision if self.work.bound == "products" else "reading")
        if rate is None or not rate.seconds or not seconds or self.work.amount is None:
            return None
        at_least = self.work.amount / PRODUCT
        if self.work.bound == "reading":
            at_least = self.work.amount * SIZES.get(precision, 4) / READ
        return at_least * statistics.median(rate.seconds) / seconds


def distance(numbers: np.ndarray, others: np.ndarray) -> float:
    """The largest difference, of the largest of the others."""
    return float(np.abs(numbers - others).max(initial=0) / max(np.abs(others).max(initial=0), 1e-30))


def _product(precision: str) -> Ready:
    return Ready(product(getattr(torch, precision)))


def _reading() -> Ready:
    return Ready(reading())


RATES: dict[str, Callable[[], Ready]] = {
    "float32": partial(_product, "float32"),
    "bfloat16": partial(_product, "bfloat16"),
    "reading": _reading,
}
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
"""Bytes of a number."""


def _cells(row: Row, references: list[str]) -> list[str]:
    return [
        row.contender + (f" ({row.engine})" if row.engine and row.contender.endswith("auto") else ""),
        _time(row.seconds),
        *(f"{row.ratios[name]:.2f}" if name in row.ratios else "" for name in references),
        "" if row.fraction is None else f"{row.fraction:.0%}",
        "" if row.difference is None else f"{row.difference:.1e}",
        "" if row.peak is None else f"{row.peak / 2**20:,.0f} MiB",
        "failed" if row.error else "",
    ]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
