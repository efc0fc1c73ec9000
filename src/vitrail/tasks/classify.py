"""`vitrail.classify`: what is in the picture, by the classes a network was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import printable
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, in_batches, one_or_all
from vitrail.tasks.models import engine_of, get_model, name_of


@dataclass(frozen=True)
class Label:
    """A class and how sure the network is of it.

    Attributes:
        label: the class's name, "class 17" where the checkpoint names none.
        index: which of the network's outputs it is.
        score: its softmax probability among all classes, in [0, 1].
    """

    label: str
    index: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        """{"label": …, "index": …, "score": …}."""
        return {"label": self.label, "index": self.index, "score": self.score}


@dataclass(frozen=True)
class Classification:
    """What a network takes a picture for.

    Attributes:
        input: what the user would recognise the picture by.
        model: the network's name.
        engine: how it ran.
        labels: the likeliest classes, best first.
        source: where the picture is, for `draw`.
    """

    input: str
    model: str
    engine: str
    labels: tuple[Label, ...]
    source: Input = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "model": …, "engine": …, "labels": [{"label": …, "index": …, "score": …}, …]}."""
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            "labels": [label.to_dict() for label in self.labels],
        }

    def __str__(self) -> str:
        rows = (f"  {label.score:7.2%}  {label.label}" for label in self.labels)
        return "\n".join([printable(self.input), *rows])

    def draw(self, *, allow_private: bool = False) -> Image.Image:
        """The picture, opened again, and a bar for each label, RGB.

        Raises:
            ImageError: the picture cannot be opened any more.
        """
        picture = self.source.open(allow_private).image
        bars = draw.bars([label.label for label in self.labels], [label.score for label in self.labels], (480, 320))
        return draw.sheet([picture, bars], [printable(self.input), f"{self.model}, {self.engine}"], columns=2, cell=480)


def top_labels(logits: Tensor, labels: tuple[str, ...] | None, top: int) -> tuple[Label, ...]:
    """The likeliest classes of one picture, best first.

    Args:
        logits: (classes,).
        labels: the classes' names, if they have any.
        top: how many; all where there are fewer.
    """
    scores, indices = logits.float().softmax(-1).topk(min(top, len(logits)))
    return tuple(
        Label(labels[index] if labels else f"class {index}", index, score)
        for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
    )


def classify(
    images: Any,
    *,
    model: str | Model | None = None,
    top: int = 5,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> "Classification | list[Classification | Failure]":
    """Name what is in a picture, or in many.

    Args:
        images: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg").
        model: what `vitrail.load` takes, or a loaded network; efficientnet-lite0, trained on ImageNet, unless said.
        top: how many labels to give.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Classification; for many a list, with a Failure in the place of each that could not be done.

    Raises:
        UsageError: `top` or `batch_size` below 1, or a network without a head.
        CheckpointError: the network cannot be loaded.
        ImageError: the one picture cannot be opened.
    """
    network = get_model(model, engine=engine, device=device)
    inputs = find_inputs(images)
    results = classify_each(inputs, network, top=top, batch_size=batch_size, allow_private=allow_private)
    return one_or_all(images, inputs, results)


def classify_each(
    inputs: Sequence[Input], model: Model, *, top: int = 5, batch_size: int = 8, allow_private: bool = False
) -> Iterator[Classification | Failure]:
    """`classify` for a stream: each input's result as soon as it is there, in order, however many there are.

    Raises:
        UsageError: `top` or `batch_size` below 1, or a network without a head.
    """
    if top < 1:
        raise UsageError(f"there must be at least 1 label to give, not {top}")
    if isinstance(model.head, nn.Identity):
        raise UsageError(f"'{name_of(model)}' has no classes to tell apart: use embed, or a network with a head")

    def run(images: Tensor) -> list[tuple[Label, ...]]:
        return [top_labels(logits, model.labels, top) for logits in model(images)]

    results = in_batches(inputs, model, run, batch_size=batch_size, allow_private=allow_private)
    name, engine = name_of(model), engine_of(model)
    return (
        result if isinstance(result, Failure) else Classification(input.name, name, engine, result, input)
        for input, result in results
    )
