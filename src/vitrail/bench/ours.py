"""Vitrail as a contender, on each of its engines."""

from collections.abc import Callable, Sequence
from functools import partial

from vitrail.bench.contender import Contender, Ready
from vitrail.engines.spec import PRECISIONS, Spec

EVERYWHERE = ("eager", "packed")
"""The engines that run every network; the others run those that see."""

SLOW = (("compile", "float32"), ("compile", "bfloat16"), ("openvino", "int8"))
"""Engines and precisions that take minutes to be made: they are measured where they are asked for."""


def every_engine(among: Sequence[str] = tuple(PRECISIONS)) -> tuple[str, ...]:
    """All that are compared unless one asks for others: "eager", ours without an engine, first; the default last.

    Args:
        among: which can run the network.
    """
    specs = (
        engine if precision == "float32" else f"{engine}:{precision}"
        for engine in among
        for precision in PRECISIONS[engine]
        if (engine, precision) not in SLOW
    )
    return *specs, "auto"


def check_engines(engines: Sequence[str]) -> None:
    """See whether these are names of engines.

    Raises:
        UsageError: there is no such engine.
    """
    for engine in engines:
        if engine != "auto":
            Spec.of(engine)


def contenders(engines: Sequence[str], make: Callable[..., Ready], *arguments: object) -> tuple[Contender, ...]:
    """Ours on each engine.

    Args:
        engines: "eager", "packed:bfloat16", …
        make: makes one of `arguments` and the engine; a function of a module, for it goes to another process.
        arguments: what else it takes.
    """
    return tuple(Contender(f"vitrail {engine}", partial(make, *arguments, engine)) for engine in engines)
