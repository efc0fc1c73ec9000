"""`vitrail.embed`: one vector a picture, near to those of pictures that are alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import printable
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, in_batches, one_or_all
from vitrail.tasks.models import engine_for, get_model, name_of
from vitrail.tasks.settle import settle


@dataclass(frozen=True, eq=False)
class Embedding:
    """A picture as a vector.

    Attributes:
        input: what the user would recognise the picture by.
        model: the network's name.
        engine: how it ran.
        vector: (D,), float32: what the network's head would read. It is not scaled to length 1.
    """

    input: str
    model: str
    engine: str
    vector: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "model": …, "engine": …, "vector": […]}."""
        return {"input": self.input, "model": self.model, "engine": self.engine, "vector": self.vector.tolist()}

    def __str__(self) -> str:
        first = ", ".join(f"{value:.4f}" for value in self.vector[:3])
        more = ", …" if len(self.vector) > 3 else ""
        length = np.linalg.norm(self.vector)
        return f"{printable(self.input)}\n  {len(self.vector)} numbers, length {length:.4f}: {first}{more}"


def embed(
    images: Any,
    *,
    model: str | Model | None = None,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> "Embedding | list[Embedding | Failure]":
    """Turn a picture, or many, into vectors: the pooled features in front of the network's head.

    Args:
        images: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg").
        model: what `vitrail.load` takes, or a loaded network; efficientnet-lite0, trained on ImageNet, unless said.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs. For many minutes of work "auto" measures first, unless it was measured before.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Embedding; for many a list, with a Failure in the place of each that could not be done.
        `vitrail.tasks.vectors.save_vectors` writes them to a file.

    Raises:
        UsageError: `batch_size` below 1.
        CheckpointError: the network cannot be loaded.
        ImageError: the one picture cannot be opened.
    """
    network = get_model(model, engine=engine, device=device)
    inputs = find_inputs(images)
    settle(network, inputs, batch_size)
    results = embed_each(inputs, network, batch_size=batch_size, allow_private=allow_private)
    return one_or_all(images, inputs, results)


def embed_each(
    inputs: Sequence[Input], model: Model, *, batch_size: int = 8, allow_private: bool = False
) -> Iterator[Embedding | Failure]:
    """`embed` for a stream: each input's result as soon as it is there, in order, however many there are.

    Raises:
        UsageError: `batch_size` below 1.
    """

    def run(images: Tensor) -> list[np.ndarray]:
        vectors = model.pool(model.features(images)).float().cpu().numpy()
        return [vector.copy() for vector in vectors]  # one that is kept does not keep its batch

    results = in_batches(inputs, model, run, batch_size=batch_size, allow_private=allow_private)
    name, engine = name_of(model), engine_for(model, inputs)
    return (
        result if isinstance(result, Failure) else Embedding(input.name, name, engine, result)
        for input, result in results
    )
