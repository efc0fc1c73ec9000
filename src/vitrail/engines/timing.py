"""How long a call takes that comes again and again."""

import time
from collections.abc import Callable

LEAST = 0.1
"""Seconds that are measured at least. A thread that has computed waits some milliseconds for more before it sleeps, and
on a core that others want: a single short call would mostly tell who computed before it."""


def seconds_of(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes: the mean of as many, one after the other, as fill `LEAST`.

    The first finds caches and threads as others left them and does not count, unless it is that long by itself.

    Args:
        call: what is timed.
        clock: what is asked for the time, in seconds; how long it goes on is always a matter of wall time.
    """
    began, start = time.perf_counter(), clock()
    call()
    taken = clock() - start
    if time.perf_counter() - began >= LEAST:
        return taken
    count, began, start = 0, time.perf_counter(), clock()
    while time.perf_counter() - began < LEAST:
        call()
        count += 1
    return (clock() - start) / count
