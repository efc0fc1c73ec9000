"""A network that runs few pictures at once on one engine, and many on another."""

from collections.abc import Mapping

from torch import Tensor

from vitrail.engines.entries import Entry
from vitrail.engines.remembered import nearest
from vitrail.models.model import Model


class Own:
    """A network's own method, by PyTorch: eager, or packed where its modules are.

    Args:
        model: the network.
        name: the method's.
        engine: "eager" or "packed".
        precision: the network's.
    """

    def __init__(self, model: Model, name: str, engine: str, precision: str) -> None:
        self.model, self.name, self.engine, self.precision = model, name, engine, precision

    def __call__(self, images: Tensor) -> Tensor:
        """As the method's own."""
        return getattr(type(self.model), self.name)(self.model, images)


class ByBatch:
    """A method, pictures (B, C, H, W) -> tensor, run by the engine that was fastest for the size most like B.

    Args:
        engines: what runs it, by the size that was measured.
    """

    def __init__(self, engines: Mapping[int, Entry | Own]) -> None:
        self.engines = dict(engines)

    def of(self, batch: int) -> Entry | Own:
        """What runs so many pictures at once."""
        return self.engines[nearest(self.engines, max(batch, 1))]

    def __call__(self, images: Tensor) -> Tensor:
        """As the method's own."""
        return self.of(len(images))(images)
