"""What the benchmarks here share, besides what `vitrail bench` is made of: contenders in one process, and tables."""

import time
from collections.abc import Callable, Mapping

from vitrail.bench.machine import describe

__all__ = ["describe", "side_by_side", "table"]


def side_by_side(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds a call of each contender: the best of `rounds` turns taken one after the other, after a warm-up.

    Taking turns lets a noisy neighbour slow all of them alike; the best turn is the one it left alone. Where there
    is none such, `time.process_time` is the clock for contenders on one thread.
    """
    for call in contenders.values():
        call()
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, call in contenders.items():
            start = clock()
            call()
            best[name] = min(best[name], clock() - start)
    return best


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])
