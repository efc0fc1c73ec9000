"""What every family's module carries besides its mathematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vitrail.imaging.preprocess import Preprocess
from vitrail.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Origin:
    """Where a loaded model came from and how it runs.

    Attributes:
        name: the name, path or hub id it was loaded by.
        layout: whose form the checkpoint had ("transformers", "timm", "vitrail", …).
        licence: the weights' licence as far as known (an SPDX identifier where there is one).
        engine: what runs it, as `vitrail.load` chose ("eager float32", …).
    """

    name: str
    layout: str
    licence: str | None
    engine: str


class Model(nn.Module):
    """An `nn.Module` with what a checkpoint says about itself. It defines no mathematics: `forward` is the family's.

    Attributes:
        family: the registry's name of the family, "vit".
        config: the family's frozen config.
        preprocess: pictures -> (B, C, H, W) float32, exactly as the checkpoint's own preprocessor does it.
        head: what turns the pooled vector into logits; the identity where there are no classes.
        labels: a name for each class, or None where the checkpoint names none.
        reads: whether it reads texts.
        entries: its methods, pictures (B, C, H, W) -> tensor, that an engine may run in its own way: they depend on
            nothing but the pictures and the weights, and hold nearly all of the work. Empty where there is no such.
        tokenizer: texts -> ids, the checkpoint's own, where it reads any; a network built in Python has none until one
            is set.
        tied: its weights that are another of its weights, under a second name: {"head.weight": "tokens.weight"}. A file
            holds them once.
        origin: where it was loaded from; None for a model built in Python.
        guessed: whether its engine is only the best guess for this machine, neither measured nor asked for.
    """

    family: ClassVar[str]
    config: Any
    preprocess: Preprocess
    head: nn.Module
    labels: tuple[str, ...] | None = None
    reads: ClassVar[bool] = False
    entries: ClassVar[tuple[str, ...]] = ()
    tokenizer: Tokenizer | None = None
    tied: Mapping[str, str] = {}
    origin: Origin | None = None
    guessed: bool = False

    @property
    def device(self) -> torch.device:
        """Where its weights are, and what it is given must be."""
        return next(self.parameters()).device

    def weights(self) -> dict[str, Tensor]:
        """The state without the second names of tied weights: what a file holds."""
        return {name: tensor for name, tensor in self.state_dict().items() if name not in self.tied}

    def assign(self, weights: Mapping[str, Tensor]) -> None:
        """Take these tensors, by the names of `weights`, for the network's own, and tie what is tied.

        Raises:
            RuntimeError: one is missing, left over or misshapen.
        """
        self.load_state_dict(
            {**weights, **{second: weights[first] for second, first in self.tied.items()}}, assign=True
        )
        for second, first in self.tied.items():
            owner, _, name = second.rpartition(".")
            setattr(self.get_submodule(owner), name, self.get_parameter(first))

    def example(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """What `forward` takes for one picture of (height, width) in pixels, in zeros: to see what a pass costs."""
        return (torch.zeros(1, getattr(self.config, "channels", 3), *size),)

    def features(self, images: Tensor) -> Tensor:
        """The final tokens (B, N, D), class and register tokens first; or (B, C, H, W) for a convolutional network."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """The one vector a picture, (B, D), that the head reads and `vitrail embed` writes."""
        raise NotImplementedError
