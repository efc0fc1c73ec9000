"""What was measured, remembered: which engine is fastest for a network on this machine."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from vitrail.engines.cache import cache_folder, looks
from vitrail.engines.machine import machine, versions
from vitrail.engines.spec import Spec
from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.models.model import Model


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


def recall(model: Model, precision: str | None) -> Spec | None:
    """The engine that was fastest over all batches that were measured, and can run here still; None for none.

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
        return next((spec for spec in ranked(rows, precision) if can_run(model, spec)), None)
    except (OSError, ValueError, KeyError, TypeError, UsageError):  # there is none, or it is none of ours
        return None


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


def _path(model: Model) -> Path:
    key = json.dumps([looks(model), machine(), versions()])
    return cache_folder() / "tuned" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
