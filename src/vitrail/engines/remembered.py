"""What was measured, remembered: which engine is fastest for a network on this machine."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrail.engines.cache import cache_folder, looks
from vitrail.engines.machine import machine, versions
from vitrail.engines.spec import Spec
from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.models.model import Model

WORTH = 1.05
"""So many times as fast must an engine be at one size to run it beside another: it has weights of its own."""


@dataclass(frozen=True)
class Measured:
    """How fast an engine was.

    Attributes:
        engine: with its precision, "packed:bfloat16".
        batch: pictures at once.
        seconds: for all of them.
        sound: whether it said what eager float32 says, as far as it must.
    """

    engine: str
    batch: int
    seconds: float
    sound: bool


def remember(model: Model, measured: Iterable[Measured]) -> Path:
    """Write down what was measured, in the place of what was measured for this network before, here and so installed.

    Raises:
        VitrailError: the cache cannot be written.
    """
    path = _path(model)
    known = {
        "family": model.family,
        "name": model.origin.name if model.origin else None,
        "machine": machine(),
        "versions": versions(),
        "measured": [asdict(row) for row in measured],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VitrailError(f"{path.parent} cannot be made ({error.strerror or error})") from None
    with appearing(path) as scratch:
        scratch.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Choice:
    """Which engine runs how many pictures at once.

    Attributes:
        by_batch: an engine for each size that was measured; one where it is the same for all.
    """

    by_batch: Mapping[int, Spec]

    def __str__(self) -> str:
        return told({batch: str(spec) for batch, spec in self.by_batch.items()})


def recall(model: Model, precision: str | None) -> Choice | None:
    """What was measured to be fastest, of what can run here still; None where nothing was.

    Args:
        model: the network.
        precision: what it must compute in; None for anything.
    """
    from vitrail.engines import can_run

    folder = cache_folder() / "tuned"
    if not folder.is_dir() or any(weight.device.type != "cpu" for weight in model.parameters()):
        return None
    try:
        rows = [Measured(**row) for row in json.loads(_path(model).read_text(encoding="utf-8"))["measured"]]
        able = {engine for engine in {row.engine for row in rows} if can_run(model, Spec.of(engine))}
        return fastest([row for row in rows if row.engine in able], precision, each=bool(model.entries))
    except (OSError, ValueError, KeyError, TypeError, UsageError):  # there is none, or it is none of ours
        return None


def fastest(rows: Sequence[Measured], precision: str | None = None, *, each: bool = True) -> Choice | None:
    """The fastest engines of those that are sound; None where there are none.

    The one that is fastest over all sizes runs all of them, unless another is faster at one of them by `WORTH`.

    Args:
        rows: what was measured.
        precision: what it must compute in; None for anything.
        each: whether one engine may run some sizes and another others.
    """
    able = ranked(rows, precision)
    if not able:
        return None
    taken = {(row.engine, row.batch): row.seconds for row in rows}
    batches = sorted({row.batch for row in rows})
    quickest = {batch: min(able, key=lambda spec, batch=batch: taken[str(spec), batch]) for batch in batches}  # type: ignore[misc]
    gained = max(taken[str(able[0]), batch] / taken[str(spec), batch] for batch, spec in quickest.items())
    return Choice(quickest if each and gained > WORTH else dict.fromkeys(batches, able[0]))


def ranked(rows: Iterable[Measured], precision: str | None = None) -> list[Spec]:
    """The engines that are sound at every batch that was measured, fastest first: by the mean of log seconds."""
    rows = list(rows)
    batches = {row.batch for row in rows}
    total: dict[str, float] = {}
    for engine in dict.fromkeys(row.engine for row in rows):
        of_it = [row for row in rows if row.engine == engine]
        if {row.batch for row in of_it} == batches and all(row.sound for row in of_it):
            total[engine] = sum(math.log(row.seconds) for row in of_it)
    specs = [Spec.of(engine) for engine in sorted(total, key=lambda engine: total[engine])]
    return [spec for spec in specs if precision in (None, spec.precision)]


def nearest(sizes: Iterable[int], batch: int) -> int:
    """Of the sizes that were measured the one most like a batch, by the ratio; the smaller of two."""
    return min(sorted(sizes), key=lambda size: max(size, batch) / min(size, batch))


def told(by_batch: Mapping[int, str]) -> str:
    """{1: "a", 8: "b"} as "a for 1, b for 8" pictures at once; where it is the same for all, once."""
    if len(set(by_batch.values())) == 1:
        return next(iter(by_batch.values()))
    return ", ".join(f"{what} for {batch}" for batch, what in sorted(by_batch.items()))


def _path(model: Model) -> Path:
    key = json.dumps([looks(model), machine(), versions()])
    return cache_folder() / "tuned" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
