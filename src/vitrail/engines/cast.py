"""PyTorch in another float type than the network's weights, which stay as they are."""

import torch
from torch import Tensor

from vitrail.engines.entries import Entry, Run
from vitrail.engines.exported import unprepared
from vitrail.engines.packed import can_pack, pack
from vitrail.models.model import Model


class CastEntry(Entry):
    """A method that a copy of the network runs, whose weights are of the engine's float type.

    So the network itself keeps the weights that it was loaded with, to be saved and trained, and answers in their type.
    """

    engine = "eager"
    most_sizes = float("inf")

    def takes(self, images: Tensor) -> Tensor:
        """In the engine's float type, where the weights are."""
        return images.to(next(self.model.parameters()).device, getattr(torch, self.precision)).contiguous()

    def make(self, images: Tensor) -> Run:
        """The copy's method; all sizes share the copy."""
        return next(iter(self.runs.values()), None) or getattr(type(self.model), self.name).__get__(self.copied())

    def copied(self) -> Model:
        """A copy of the network in the engine's float type, on PyTorch alone."""
        return unprepared(self.model).to(getattr(torch, self.precision))


class PackedCastEntry(CastEntry):
    """The same with weights packed for the processor."""

    engine = "packed"

    def copied(self) -> Model:
        """The copy, packed."""
        copied = super().copied()
        if can_pack(next(copied.parameters())):
            pack(copied)
        return copied
