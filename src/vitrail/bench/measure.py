"""Measure what was asked for, one table after the other."""

import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from vitrail.bench import FAMILIES
from vitrail.bench.contest import Contest, Progress, Result
from vitrail.bench.machine import CLOCKS, describe, versions
from vitrail.bench.ours import check_engines
from vitrail.engines.threads import cores
from vitrail.errors import UsageError


def bench(
    families: Sequence[str] = (),
    *,
    engines: Sequence[str] = (),
    rounds: int = 5,
    threads: int | None = None,
    clock: str = "wall",
    progress: Progress = lambda what, done, total: None,
) -> Iterator[Result]:
    """Measure, one table after the other, each as soon as it is there.

    Networks have published sizes and random weights, but for those in the box: nothing is fetched. Another library is
    measured where it is installed, with the same weights, and must give the same numbers. One that is interrupted gives
    what it has, and raises KeyboardInterrupt then.

    Args:
        families: of `FAMILIES`; all for none.
        engines: ours, "packed:bfloat16" or "auto"; for none all but those that take minutes to be made.
        rounds: turns of each contender.
        threads: that each may compute on; as many as this process has cores, unless said.
        clock: "wall"; or "processor", time that is spent on a contender alone, where a machine is crowded.
        progress: told how far a piece of work is.

    Raises:
        UsageError: there is no such family, engine or clock, or a number is below 1.
    """
    for family in families:
        if family not in FAMILIES:
            raise UsageError(f"there is nothing called '{family}' to measure; there are {', '.join(FAMILIES)}")
    if clock not in CLOCKS:
        raise UsageError(f"there is no clock '{clock}'; there are {', '.join(CLOCKS)}")
    if rounds < 1 or (threads is not None and threads < 1):
        raise UsageError("it takes at least 1 round and 1 thread")
    check_engines(engines)
    chosen = tuple(dict.fromkeys(families)) or FAMILIES
    return _bench(chosen, tuple(dict.fromkeys(engines)), rounds, threads, clock, progress)


def _bench(
    families: Sequence[str],
    engines: Sequence[str],
    rounds: int,
    threads: int | None,
    clock: str,
    progress: Progress,
) -> Iterator[Result]:
    count = threads or cores()
    machine = ", ".join(filter(None, [describe(count), versions()]))
    for family in families:
        with tempfile.TemporaryDirectory(prefix="vitrail-bench-") as folder:
            works = import_module(f"vitrail.bench.{family.replace('-', '_')}").works
            for work in works(Path(folder), engines):
                contest = Contest(work, machine, rounds=rounds, threads=count, clock=clock, progress=progress)
                interrupted = False
                try:
                    contest.run()
                except KeyboardInterrupt:
                    interrupted = True
                yield contest.result()
                if interrupted:
                    raise KeyboardInterrupt
