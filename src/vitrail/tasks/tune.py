"""`vitrail.tune`: measure how fast each engine runs a network here, and remember the fastest that is right."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from vitrail.checkpoints.load import load
from vitrail.engines import check, prepare
from vitrail.engines.exported import twin
from vitrail.engines.guard import AGREES, Comparison, answer, compare, joined, kind_of, questions
from vitrail.engines.machine import busy, machine, versions
from vitrail.engines.pictures import CALIBRATION, sample
from vitrail.engines.remembered import Measured, fastest, remember
from vitrail.engines.spec import PRECISIONS, Spec
from vitrail.engines.timing import seconds_of
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import Picture, printable
from vitrail.models.model import Model
from vitrail.tasks.models import forget, name_of

PLAIN = Spec("eager", "float32")
"""What all others are compared with."""

COMPARED = 200
"""Pictures that engines are compared on: of fewer, one that differs would be more than half a per cent."""

COMPARED_WRITING = 8
"""The same for networks that write, which take as many passes as there are tokens."""

_DRAWN = "a network changes its mind on pictures unlike those that it learned from: --pictures PATH tries yours"

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Row:
    """An engine at one batch size.

    Attributes:
        engine: with its precision, "packed:bfloat16".
        batch: pictures at once.
        milliseconds: for all of them, the median of several rounds; None where it did not run.
        pictures_per_second: the same by the picture.
        ratio: how many times as fast as eager float32.
        error: how far its answers are from eager float32's, |a - b| / |b|.
        agreement: how many of them are the same; None where there is nothing to count.
        verdict: "fastest", "" or "kept out: …", and why.
    """

    engine: str
    batch: int
    milliseconds: float | None
    pictures_per_second: float | None
    ratio: float | None
    error: float | None
    agreement: float | None
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


@dataclass(frozen=True)
class Tuning:
    """What was measured.

    Attributes:
        model: the network's name.
        family: its family.
        engine: what `engine="auto"` takes from now on, "openvino:bfloat16", or "onnx:float32 for 1, packed:bfloat16 for
            8" pictures at once.
        agrees: what an agreement is one of: "top-1", "cosine", "tokens" or "".
        pictures: how many pictures engines were compared on.
        drawn: whether these were drawn here, and not the user's.
        machine: processor, instructions, cores and threads.
        versions: of what decides how fast it is.
        rows: one an engine and batch size.
        left_out: what was not tried, and why, a sentence each; and one where other programs were running.
        remembered: the file in the cache; None where none could be written.
        unwritten: then why, else None.
    """

    model: str
    family: str
    engine: str
    agrees: str
    pictures: int
    drawn: bool
    machine: dict[str, str | int]
    versions: dict[str, str | None]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    remembered: Path | None
    unwritten: str | None

    def to_dict(self) -> dict[str, Any]:
        """Its fields; rows as dictionaries."""
        return {**asdict(self), "remembered": None if self.remembered is None else str(self.remembered)}

    def __str__(self) -> str:
        where = f"{self.machine['processor']}, {self.machine['instructions']}, {self.machine['threads']} threads"
        header = ("engine", "batch", "ms", "pictures/s", "ratio", "error", self.agrees or "", "")
        cells = [header, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  "
            + "  ".join(
                _aligned(number, cell, width) for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        drawn = f"{self.pictures} drawn scenes" if self.drawn else f"{self.pictures} pictures"
        return "\n".join(
            [
                f"{printable(self.model)} on {where}; compared with eager float32 on {drawn}",
                *(line.rstrip() for line in lines),
                *self.left_out,
                *([_DRAWN] if self.drawn and any("agreement" in row.verdict for row in self.rows) else []),
                *([f"engine auto is now {self.engine} for this network on this machine"] if self.remembered else []),
            ]
        )


def tune(
    model: str | Model,
    *,
    batch: Sequence[int] = (1, 8),
    engines: Sequence[str] | None = None,
    int8: bool = False,
    pictures: str | Sequence[Picture] | None = None,
    rounds: int = 7,
    architecture: str | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Measure every engine that can run a network here, compare each with eager float32, and remember the fastest.

    Engines take turns, round by round, so that a busy neighbour slows all of them alike. One that strays further than
    `vitrail.engines.guard.LIMITS` says is kept out. What was measured earlier is forgotten. From then on
    `engine="auto"` is what was fastest for the size most like that of each batch: for this network, on this machine,
    until torch, Vitrail, OpenVINO or ONNX Runtime change.

    Args:
        model: what `vitrail.load` takes, or a loaded network (eager, float32, on the CPU).
        batch: pictures at once; one or several sizes.
        engines: which to try, "packed" or "packed:bfloat16"; all that can run here unless said, but for compile, which
            takes minutes.
        int8: try 8-bit integers, too, where OpenVINO is installed.
        pictures: a folder, file or pattern to compare and calibrate on, or opened pictures; scenes of generated glyphs
            unless said.
        rounds: how often each is measured.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.
        progress: told how far it is.

    Raises:
        UsageError: a number is below 1, an engine is unknown or cannot run this network, or there are too few pictures.
        CheckpointError: the network cannot be loaded.
        VitrailError: what an engine that was asked for needs is not installed.
    """
    if not batch or min(batch) < 1 or rounds < 1:
        raise UsageError("there must be at least 1 picture in a batch and 1 round")
    others = busy()  # before we are
    plain = _plain(model, architecture)
    kind = kind_of(plain)
    candidates, left_out = _candidates(plain, engines, int8)
    report = progress or (lambda what, done, total: None)
    batches = sorted(set(batch))
    integers = any(spec.precision == "int8" for spec in candidates)
    compared = COMPARED_WRITING if kind == "texts" else COMPARED
    trial = questions(plain, _seen(pictures, max(compared, *batches), compare=True), 1)
    trials = _compared(
        plain, candidates, trial, _seen(pictures, CALIBRATION) if pictures and integers else None, report
    )
    running = {spec: tried.network for spec, tried in trials.items() if tried.network is not None}
    seconds: dict[tuple[Spec, int], float] = {}
    for place, size in enumerate(batches):
        report("measuring", place, len(batches))
        question = questions(plain, (), size)[0] if kind == "noise" else joined(trial, size)
        taken = _in_turns(running, question, rounds)
        seconds |= {(spec, size): median(times) for spec, times in taken.items()}
    report("measuring", len(batches), len(batches))

    measured = [
        Measured(str(spec), size, taken, trials[spec].objection is None) for (spec, size), taken in seconds.items()
    ]
    chosen = fastest(measured, each=bool(plain.entries))
    assert chosen is not None  # eager float32 is sound
    remembered, unwritten = None, None
    try:
        remembered = remember(plain, measured)
        forget()
    except VitrailError as error:
        unwritten = str(error)
    return Tuning(
        model=name_of(plain),
        family=plain.family,
        engine=str(chosen),
        agrees=AGREES[kind],
        pictures=len(trial),
        drawn=pictures is None,
        machine=machine(),
        versions=versions(),
        rows=tuple(
            _row(spec, tried, size, seconds, spec == chosen.by_batch[size])
            for spec, tried in trials.items()
            for size in batches
        ),
        left_out=(*left_out, *([others] if others else [])),
        remembered=remembered,
        unwritten=unwritten,
    )


@dataclass(frozen=True)
class _Trial:
    """A network on an engine, how near it came, and why it is kept out; None for what there is not."""

    network: Model | None
    comparison: Comparison | None
    objection: str | None


def _seen(pictures: str | Sequence[Picture] | None, count: int, *, compare: bool = False) -> Sequence[Picture]:
    """So many of the user's pictures, or drawn ones, as `sample` chooses them."""
    if pictures is None or isinstance(pictures, str):
        return sample(pictures, count, compare=compare)
    return pictures[-count:] if compare else pictures[:count]


def _plain(model: str | Model, architecture: str | None) -> Model:
    """The network on eager float32."""
    if not isinstance(model, Model):
        return load(model, architecture=architecture, device="cpu", engine="eager")
    weight = next(model.parameters())
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise UsageError("engines are measured on a network in float32 on the CPU: load it so")
    if model.origin is not None and not model.origin.engine.startswith("eager"):
        raise UsageError('engines are measured on an eager network: load it with engine="eager"')
    if model.training:
        raise UsageError("the network is in training mode: call its eval() first")
    return model


def _compared(
    plain: Model,
    candidates: Sequence[Spec],
    trial: Sequence[Any],
    calibration: Sequence[Picture] | None,
    report: Progress,
) -> dict[Spec, _Trial]:
    """Every candidate on the same questions as eager float32, which is the first."""
    kind = kind_of(plain)
    said = [answer(plain, question) for question in trial]
    trials = {PLAIN: _Trial(plain, Comparison(kind, 0.0, None if kind == "noise" else 1.0), None)}
    for number, spec in enumerate(candidates):
        report("comparing", number, len(candidates))
        network = twin(plain)
        try:
            prepare(network, str(spec), pictures=calibration)
            comparison = compare(kind, said, [answer(network, question) for question in trial])
        except VitrailError as error:
            trials[spec] = _Trial(None, None, str(error))
            continue
        trials[spec] = _Trial(network, comparison, comparison.objection(spec.precision or "float32"))
    return trials


def _in_turns(running: dict[Spec, Model], question: Any, rounds: int) -> dict[Spec, list[float]]:
    """Seconds of each round of each engine; before them one that counts for nothing: it packs weights, or compiles."""
    turns: dict[Spec, list[float]] = {spec: [] for spec in running}
    for turn in range(rounds + 1):
        for spec, network in running.items():
            if turn:
                turns[spec].append(seconds_of(partial(answer, network, question)))
            else:
                answer(network, question)
    return turns


def _row(spec: Spec, tried: _Trial, size: int, seconds: dict[tuple[Spec, int], float], fastest: bool) -> Row:
    taken = seconds.get((spec, size))
    return Row(
        engine=str(spec),
        batch=size,
        milliseconds=None if taken is None else 1000 * taken,
        pictures_per_second=None if taken is None else size / taken,
        ratio=None if taken is None else seconds[PLAIN, size] / taken,
        error=None if tried.comparison is None else tried.comparison.error,
        agreement=None if tried.comparison is None else tried.comparison.agreement,
        verdict=f"kept out: {tried.objection}" if tried.objection else "fastest" if fastest else "",
    )


def _candidates(model: Model, engines: Sequence[str] | None, int8: bool) -> tuple[list[Spec], list[str]]:
    """What is tried beside eager float32, and sentences on what is not."""
    if engines is not None:
        named = [Spec.of(engine) for engine in engines]
        specs = [
            one
            for spec in named
            for one in ([spec] if spec.precision else [Spec(spec.engine, each) for each in _tried(spec.engine, int8)])
        ]
        for spec in specs:
            check(model, spec)
        return [spec for spec in dict.fromkeys(specs) if spec != PLAIN], []
    left_out = []
    if not model.entries:
        left_out.append(
            f"{model.family} is several networks, or writes word by word: it runs as eager or packed, and was not "
            "tried on compile, openvino and onnx"
        )
    names = ("packed", "openvino", "onnx") if model.entries else ("packed",)
    specs = []
    for name in names:
        for precision in _tried(name, int8):
            spec = Spec(name, precision)
            try:
                check(model, spec)
            except VitrailError as error:
                left_out.append(f"{spec} was not tried: {error}")
                continue
            specs.append(spec)
    if int8 and not model.entries:
        raise UsageError(f"int8 is for networks that see pictures, and {model.family} is none such")
    if model.entries:
        left_out.append("compile was not tried, for it takes minutes: --engine compile does")
    return specs, left_out


def _tried(engine: str, int8: bool) -> list[str]:
    return [precision for precision in PRECISIONS[engine] if precision != "int8" or int8]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.engine,
        str(row.batch),
        "" if row.milliseconds is None else f"{row.milliseconds:.1f}",
        "" if row.pictures_per_second is None else f"{row.pictures_per_second:.1f}",
        "" if row.ratio is None else f"{row.ratio:.2f}×",
        "" if row.error is None else f"{row.error:.1e}",
        "" if row.agreement is None else f"{row.agreement:.2%}",
        row.verdict,
    )


def _aligned(number: int, cell: str, width: int) -> str:
    return cell.ljust(width) if number in (0, 7) else cell.rjust(width)
