"""Random draws that are a pure function of a key: the same on any machine, in any order, in any process."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

POOL = 64  # raw words fetched at a time: a scene needs about as many


class Dice:
    """The draws of one item: Philox, a counter-based generator, keyed by (seed, index).

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Only the raw words come from numpy, which
    keeps them the same in every version (NEP 19); what is made of them is done here, in exact arithmetic.

    Args:
        seed: of the data set, 0 to 2⁶⁴ - 1.
        index: of the item, 0 to 2⁶⁴ - 1.
        stream: one of the independent streams of an item, so that its captions do not depend on whether its questions
            were asked first.
    """

    def __init__(self, seed: int, index: int, stream: int) -> None:
        key = np.array([seed, index], dtype=np.uint64)
        self._philox = np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], dtype=np.uint64))
        self._pool: list[float] = []

    def random(self) -> float:
        """A number from [0, 1) with 53 random bits."""
        if not self._pool:
            self._pool = ((self._philox.random_raw(POOL) >> np.uint64(11)) * 2.0**-53).tolist()
        return self._pool.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def between(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        return low + (high - low) * self.random()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices, each as likely."""
        return choices[int(self.random() * len(choices))]

    def shuffled(self, choices: Sequence[T]) -> list[T]:
        """The choices in a random order, each order as likely (Fisher and Yates)."""
        order = list(choices)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(0, last)
            order[last], order[other] = order[other], order[last]
        return order

    def bytes(self, rows: int, columns: int) -> np.ndarray:
        """uint8 of shape (rows, columns), 0 to 255."""
        raw = self._philox.random_raw(rows * columns) >> np.uint64(56)
        return raw.astype(np.uint8).reshape(rows, columns)
