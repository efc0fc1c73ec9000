"""Before much work: measure which engine is fastest, where it was only guessed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from vitrail.engines import prepare
from vitrail.errors import ImageError, VitrailError
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import is_url
from vitrail.models.model import Model

if TYPE_CHECKING:
    from vitrail.tasks.tune import Progress, Tuning

LONG = 20 * 60
"""Seconds of work from which on it is worth some minutes to find out how it is done in half of them."""

MANY = 500
"""Of fewer pictures it is not even asked how long one takes."""

COMPARED = 64
"""Engines are compared on so many of the user's pictures."""


def settle(
    network: Model, inputs: Sequence[Input], batch_size: int = 8, progress: "Progress | None" = None
) -> "Tuning | None":
    """Have a network run on the engine that `tune` finds for it, where that is not known and there is much to do.

    Only where the engine was left to "auto", nothing was measured on this machine, which is not busy, and the work
    would take longer than `LONG`. What is measured is remembered: it is done once.

    Args:
        network: as it was loaded; it runs on what was found from then on.
        inputs: what it is to see. Some of them are what engines are compared on.
        batch_size: how many of them at once.
        progress: told how far the measuring is.

    Returns:
        What was measured; None where nothing was.
    """
    if not network.guessed or not network.entries or network.origin is None or len(inputs) < MANY:
        return None
    weight, size = next(network.parameters()), network.preprocess.output_size
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or size is None or batch_size < 1:
        return None
    from vitrail.engines.exported import unprepared
    from vitrail.engines.guard import answer
    from vitrail.engines.machine import busy
    from vitrail.engines.pictures import Opened
    from vitrail.engines.timing import seconds_of
    from vitrail.tasks.tune import tune

    image = torch.zeros(1, network.preprocess.channels, *size)
    answer(network, image)  # lays the weights out
    if min(seconds_of(lambda: answer(network, image)) for _ in range(2)) * len(inputs) < LONG or busy():
        return None
    seen = _whole(inputs)
    if len(seen) < max(COMPARED // 2, batch_size):
        return None
    plain = unprepared(network)
    plain.origin = replace(network.origin, engine="eager float32")
    try:
        tuning = tune(plain, batch=(1, batch_size), pictures=Opened(seen), rounds=3, progress=progress)
    except VitrailError:  # the pictures come to too many sizes, or the like: the guess will do
        return None
    network.origin = replace(network.origin, engine=prepare(network, "auto"))
    return tuning


def _whole(inputs: Sequence[Input]) -> list[Input]:
    """Up to `COMPARED` of them, evenly from all: those that can be opened, and need not be fetched."""
    found = []
    for input in (inputs[len(inputs) * place // COMPARED] for place in range(COMPARED)):
        if isinstance(input.source, str) and is_url(input.source):
            continue
        try:
            input.open()
        except ImageError:  # which is said when its turn comes
            continue
        found.append(input)
    return found
