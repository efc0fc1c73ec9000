"""`vitrail.classify`: what is in the picture, by the classes a network was trained on, or by labels in words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import printable
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, in_batches, one_or_all
from vitrail.tasks.models import engine_for, get_model, name_of
from vitrail.tasks.settle import settle
from vitrail.tasks.zero_shot import SCORED, Scoring, Words, classifier, get_image_text


@dataclass(frozen=True)
class Label:
    """A class and how sure the network is of it.

    Attributes:
        label: the class's name, "class 17" where the checkpoint names none; or the label as it was given.
        index: which of the network's outputs, or of the labels given, it is.
        score: its softmax probability among all of them, in [0, 1]; or, by "sigmoid", its probability by itself.
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
        scoring: where labels were given in words, how they were scored: "softmax" shares 1 out among them, "sigmoid"
            judges each by itself; None for the network's own classes.
        source: where the picture is, for `draw`.
    """

    input: str
    model: str
    engine: str
    labels: tuple[Label, ...]
    scoring: Scoring | None
    source: Input = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "model": …, "engine": …, "labels": [{"label": …, "index": …, "score": …}, …]}.

        And "scoring": "softmax" or "sigmoid", where labels were given.
        """
        scoring = {} if self.scoring is None else {"scoring": self.scoring}
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            **scoring,
            "labels": [label.to_dict() for label in self.labels],
        }

    def __str__(self) -> str:
        scored = "" if self.scoring is None else f"  ({SCORED[self.scoring]})"
        rows = (f"  {label.score:7.2%}  {label.label}" for label in self.labels)
        return "\n".join([printable(self.input) + scored, *rows])

    def draw(self, *, allow_private: bool = False) -> Image.Image:
        """The picture, opened again, and a bar for each label, RGB.

        Raises:
            ImageError: the picture cannot be opened any more.
        """
        picture = self.source.open(allow_private).image
        bars = draw.bars([label.label for label in self.labels], [label.score for label in self.labels], (480, 320))
        return draw.sheet([picture, bars], [printable(self.input), f"{self.model}, {self.engine}"], columns=2, cell=480)


def top_labels(
    logits: Tensor, labels: tuple[str, ...] | None, top: int, scoring: Scoring = "softmax"
) -> tuple[Label, ...]:
    """The likeliest classes of one picture, best first.

    Args:
        logits: (classes,).
        labels: the classes' names, if they have any.
        top: how many; all where there are fewer.
        scoring: how logits become scores.
    """
    probabilities = logits.float().sigmoid() if scoring == "sigmoid" else logits.float().softmax(-1)
    scores, indices = probabilities.topk(min(top, len(logits)))
    return tuple(
        Label(labels[index] if labels else f"class {index}", index, score)
        for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
    )


def classify(
    images: Any,
    *,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    model: str | Model | None = None,
    top: int = 5,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> "Classification | list[Classification | Failure]":
    """Name what is in a picture, or in many: by the classes a network was trained on, or by labels given in words.

    Args:
        images: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg").
        labels: what to tell apart, in words, for a network that reads them (zero-shot): ["a cat", "a dog"].
        templates: sentences to put labels into, with {} in the label's place: ["a photo of {}", "a drawing of {}"];
            the vectors of several are averaged. "{}", the label alone, unless said.
        model: what `vitrail.load` takes, or a loaded network; unless said, efficientnet-lite0, trained on ImageNet, or
            with labels emoji/clip-nano.
        top: how many labels to give.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs. For many minutes of work "auto" measures first, unless it was measured before.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Classification; for many a list, with a Failure in the place of each that could not be done.

    Raises:
        UsageError: `top` or `batch_size` below 1; a network that has neither classes nor labels to go by, or cannot
            read labels; an empty label, one given twice, or a template without {}.
        CheckpointError: the network cannot be loaded.
        ImageError: the one picture cannot be opened.
    """
    words = Words.of(labels, templates)
    network = (get_model if words is None else get_image_text)(model, engine=engine, device=device)
    inputs = find_inputs(images)
    settle(network, inputs, batch_size)
    results = classify_each(inputs, network, words, top=top, batch_size=batch_size, allow_private=allow_private)
    return one_or_all(images, inputs, results)


def classify_each(
    inputs: Sequence[Input],
    model: Model,
    words: Words | None = None,
    *,
    top: int = 5,
    batch_size: int = 8,
    allow_private: bool = False,
) -> Iterator[Classification | Failure]:
    """`classify` for a stream: each input's result as soon as it is there, in order, however many there are.

    Raises:
        UsageError: `top` or `batch_size` below 1, or a network that has neither classes nor labels to go by, or cannot
            read labels.
    """
    if top < 1:
        raise UsageError(f"there must be at least 1 label to give, not {top}")
    if words is not None:
        run, scoring = _by_words(model, words, top)
    else:
        run, scoring = _by_classes(model, top), None
    results = in_batches(inputs, model, run, batch_size=batch_size, allow_private=allow_private)
    name, engine = name_of(model), engine_for(model, inputs)
    return (
        result if isinstance(result, Failure) else Classification(input.name, name, engine, result, scoring, input)
        for input, result in results
    )


Run = Callable[[Tensor], list[tuple[Label, ...]]]
"""Prepared pictures (B, C, H, W) -> each one's likeliest labels."""


def _by_classes(model: Model, top: int) -> Run:
    """What tells pictures apart by the network's own classes."""
    if isinstance(model, ImageText):
        raise UsageError(
            f"'{name_of(model)}' has no classes of its own: say which to tell apart with --labels (labels=)"
        )
    if isinstance(model.head, nn.Identity):
        raise UsageError(f"'{name_of(model)}' has no classes to tell apart: use embed, or a network with a head")
    return lambda images: [top_labels(logits, model.labels, top) for logits in model(images)]


def _by_words(model: Model, words: Words, top: int) -> tuple[Run, Scoring]:
    """What tells pictures apart by labels in words, and how it scores them."""
    judge = classifier(model, words)

    def run(images: Tensor) -> list[tuple[Label, ...]]:
        logits = judge(model.pool(model.features(images)))
        return [top_labels(picture, words.labels, top, judge.scoring) for picture in logits]

    return run, judge.scoring
