"""The batches of a run, each a pure function of its number."""

from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from vitrail.data.source import Batch, Source
from vitrail.training.randomness import generator_for, shuffled


@dataclass(frozen=True)
class Batches(Dataset[Batch]):
    """The parts of a run's batches that one process works on; item n is the n-th part since the first step.

    Attributes:
        source: the pictures.
        size: pictures in a part, in each process.
        seed: the recipe's.
        rank, world: which process of how many.
    """

    source: Source
    size: int
    seed: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, number: int) -> Batch:
        start = (number * self.world + self.rank) * self.size
        indices = shuffled(start, start + self.size, len(self.source), self.seed)
        return self.source.batch(indices, generator_for(self.seed, "look", number, self.rank))


def loader(batches: Batches, numbers: range, workers: int, device: torch.device) -> "DataLoader[Batch]":
    """A loader of the parts of these numbers, in order, prepared ahead by worker processes if there are any."""
    return DataLoader(
        batches,
        batch_size=None,  # an item is a batch already
        sampler=numbers,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=False,
    )
