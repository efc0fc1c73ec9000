"""What every family's module carries besides its mathematics."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from vitrail.imaging.preprocess import Preprocess


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
        origin: where it was loaded from; None for a model built in Python.
    """

    family: ClassVar[str]
    config: Any
    preprocess: Preprocess
    head: nn.Module
    labels: tuple[str, ...] | None = None
    origin: Origin | None = None

    def features(self, images: Tensor) -> Tensor:
        """The final tokens (B, N, D), class and register tokens first; or (B, C, H, W) for a convolutional network."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """The one vector a picture, (B, D), that the head reads and `vitrail embed` writes."""
        raise NotImplementedError
