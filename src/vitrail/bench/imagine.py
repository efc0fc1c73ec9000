"""A prompt to a picture, with the network in the box; nobody else makes its pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.bench.contender import Ready
from vitrail.bench.contest import Work
from vitrail.bench.ours import EVERYWHERE, contenders, every_engine
from vitrail.checkpoints.load import load
from vitrail.tasks.models import engine_of

TOLERANCE = 0.02
"""In the picture's 256 levels, of which one is already more than what rounding does to other numbers."""

PROMPT = "a smiling cat, flat style"


def works(folder: Path, engines: Sequence[str], num_steps: int | None = None) -> list[Work]:
    """What is measured.

    Args:
        folder: not used.
        engines: ours; all that can run it and are quickly made for none.
        num_steps: from noise to picture; the network's own unless said.
    """
    return [
        Work(
            "emoji/imagine-nano, a prompt to a picture",
            contenders(engines or every_engine(EVERYWHERE), ours, num_steps),
            tolerance=TOLERANCE,
        )
    ]


def ours(num_steps: int | None, engine: str) -> Ready:
    """`vitrail.generate`, with the network loaded before."""
    from vitrail.tasks.generate import DEFAULT_GENERATOR, Generated, generate

    model = load(DEFAULT_GENERATOR, device="cpu", engine=engine)

    def call() -> np.ndarray:
        made = generate(PROMPT, seed=0, num_steps=num_steps, model=model)
        assert isinstance(made, Generated)  # one prompt, one result
        return np.asarray(made.image)

    return Ready(call, engine_of(model))
