"""What stands in for a network's method that another engine runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from vitrail.errors import VitrailError
from vitrail.models.model import Model

Run: TypeAlias = Callable[[Tensor], Tensor]
"""Pictures (B, C, H, W) float32, on the CPU and contiguous -> what the method gives for them."""

MOST_SIZES = 4
"""An engine that is made for one size of picture is made for so many sizes; others run as PyTorch runs them."""

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2, "int8": 0.6}
"""How far features may be from the plain method's on the first picture that comes: |a - b| / |b| over all its numbers.

Wide, for it is to find what is broken and not what is inexact: that `vitrail.engines.guard` does, on many pictures and
on the answers instead of the features."""


class Entry(ABC):
    """A method of a network, pictures (B, C, H, W) -> tensor, that another engine runs where no gradient is wanted.

    The family's own method runs instead with gradients, in training, where somebody watches a module through a hook,
    for sizes beyond `MOST_SIZES`, and for good once weights were changed. What is made for a size of pictures is
    compared with the plain method on the first of them.

    Args:
        model: the network.
        name: the method's.
        precision: what the engine computes in, one of `TOLERANCE`.
    """

    engine: str
    most_sizes: float = MOST_SIZES

    def __init__(self, model: Model, name: str, precision: str) -> None:
        self.model, self.name, self.precision = model, name, precision
        self.runs: dict[tuple[int, ...], Run] = {}
        self.lock = Lock()  # an engine's request holds one batch at a time
        self.before: Before | None = None  # the network as it was when the first was made
        self.touched = False  # by gradients or training, since
        self.changed = False

    @abstractmethod
    def make(self, images: Tensor) -> Run:
        """What runs pictures of this size, in batches of any length.

        Raises:
            VitrailError: there is none.
        """

    def plain(self, images: Tensor) -> Tensor:
        """The family's own method."""
        return getattr(type(self.model), self.name)(self.model, images)

    def __call__(self, images: Tensor) -> Tensor:
        """As the method's own.

        Raises:
            VitrailError: the engine cannot run it, or strays too far from the plain method.
        """
        if torch.compiler.is_compiling() or not self._suits(images):
            return self.plain(images)
        size, dtype = tuple(images.shape[1:]), next(self.model.parameters()).dtype
        with torch.inference_mode(False), torch.no_grad(), self.lock:
            prepared = self.takes(images.detach())
            if size not in self.runs:
                if len(self.runs) >= self.most_sizes:
                    return self.plain(images)
                if not self.runs:
                    self.before = Before(self.model)
                self.runs[size] = self.checked(prepared)
            return self.runs[size](prepared).to(dtype)

    def takes(self, images: Tensor) -> Tensor:
        """Pictures as the engine wants them."""
        return images.to("cpu", torch.float32).contiguous()

    def _suits(self, images: Tensor) -> bool:
        if torch.is_grad_enabled() or self.model.training:
            self.touched = True
            return False
        if images.ndim != 4 or not len(images) or not images.is_floating_point() or self.changed:
            return False
        before = self.before or Before(self.model)
        if self.touched:  # modules may have been put in the place of others
            self.changed = list(map(id, self.model.modules())) != list(map(id, before.parts))
            self.touched = False
        self.changed = self.changed or before.changed()
        return not self.changed and not before.watched()

    def checked(self, images: Tensor) -> Run:
        """What was made for pictures of this size, once it said of the first what the plain method says.

        Raises:
            VitrailError: there is none, or it says something else.
        """
        run = self.make(images)
        weight = next(self.model.parameters())
        plain = self.plain(images[:1].to(weight.dtype)).float()
        made = run(images)[:1].float()  # of all at once: torch.compile compiles for the length that it meets first
        if made.shape != plain.shape:
            raise VitrailError(f"{self._says()} gives {tuple(made.shape)} where PyTorch gives {tuple(plain.shape)}")
        error = ((made - plain).norm() / plain.norm().clamp(min=1e-12)).item()
        if not error <= TOLERANCE[self.precision]:  # nor where it is no number
            helps = "calibrate it on your pictures (vitrail tune --int8 --pictures PATH), or use packed"
            raise VitrailError(
                f"{self._says()} strays by {error:.2g} of what PyTorch says, more than {TOLERANCE[self.precision]:g}: "
                f"{helps if self.precision == 'int8' else 'use the engine packed, or eager'}"
            )
        return run

    def _says(self) -> str:
        return f"this {self.model.family} on {self.engine} {self.precision}"

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied or pickled network has its own engine made."""
        return type(self), (self.model, self.name, self.precision)


class Before:
    """A network as it was: its modules, and where its weights lay.

    Asked before every batch, it goes through hundreds of them; so what it looks at is gathered once.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parts = list(model.modules())
        self.held = [held for part in self.parts for held in (part._parameters, part._buffers)]
        self.hooks = [hooks for part in self.parts for hooks in (part._forward_hooks, part._forward_pre_hooks)]
        self.tensors = [tensor for held in self.held for tensor in held.values() if tensor is not None]
        self.counted = [tensor for tensor in self.tensors if not tensor.is_inference()]  # the others cannot be written
        self.state = self._state()

    def watched(self) -> bool:
        """Whether somebody looks at what goes into a module or comes out of it, and would miss its being left out."""
        return any(self.hooks)

    def changed(self) -> bool:
        """Whether a weight was replaced, or written to."""
        return self._state() != self.state

    def _state(self) -> tuple[list[int], ...]:
        """Which tensors are held, where each lies, and how often it was changed there."""
        held = chain.from_iterable(held.values() for held in self.held)
        return (
            list(map(id, held)),
            list(map(Tensor.data_ptr, self.tensors)),
            list(map(_version, self.counted)),
        )


_version = attrgetter("_version")
