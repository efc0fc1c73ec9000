"""Zero-shot classification: labels that the user gives in words, and that no network was trained on.

The text tower turns each label into a vector, and those vectors are the weights of a linear classifier of pictures:
Radford et al. 2021 (2103.00020), §3.1.2.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.checkpoints.box import box_names
from vitrail.errors import UsageError
from vitrail.files import read_lines
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.models import get_model, name_of

Scoring = Literal["softmax", "sigmoid"]
"""How logits become scores: as shares of the labels given, which sum to 1, or each label by itself."""

SCORED: dict[Scoring, str] = {"softmax": "shares of the labels given", "sigmoid": "each label by itself"}
"""The same in words."""

DEFAULT_MODEL = "emoji/clip-nano"
"""In the box, trained on Emoji World."""

EXAMPLE = "openai/clip-vit-base-patch32"
"""A published network that reads words, for sentences that ask for one."""

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Words:
    """Labels to tell apart, and the sentences they are put into.

    Attributes:
        labels: what may be in a picture, each said once; space around them is taken off.
        templates: sentences with {} where the label goes. With several, a label is the mean of them (§3.1.4).

    Raises:
        UsageError: no labels, an empty one or one said twice; no templates, or one without {}.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)

    def __post_init__(self) -> None:
        if any(isinstance(given, str) for given in (self.labels, self.templates)):
            raise UsageError("labels and templates are lists of texts, not one text")
        object.__setattr__(self, "labels", tuple(str(label).strip() for label in self.labels))
        object.__setattr__(self, "templates", tuple(str(template) for template in self.templates))
        if not self.labels or not self.templates:
            raise UsageError("there are no labels" if not self.labels else "there are no templates to put labels into")
        said: set[str] = set()
        for label in self.labels:
            if not label:
                raise UsageError("a label is empty: each must say something")
            if label in said:
                raise UsageError(f"the label '{label}' is given twice")
            said.add(label)
        for template in self.templates:
            if "{}" not in template:
                raise UsageError(f"the template '{template}' has no {{}} where the label goes")

    @classmethod
    def of(cls, labels: Sequence[str] | None, templates: Sequence[str] | None) -> "Words | None":
        """What a user gave, checked; None where that is no labels.

        Raises:
            UsageError: as the class raises it; or templates without labels.
        """
        if labels is None:
            if templates:
                raise UsageError("a template (--template) is for labels to be put into: give some (--labels)")
            return None
        return cls(labels, templates or ("{}",))  # type: ignore[arg-type]  # made tuples there

    def sentences(self, template: str) -> list[str]:
        """Every label in a template."""
        return [template.replace("{}", label) for label in self.labels]  # other braces are the user's own


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier whose weights are texts, for one network's pictures.

    Attributes:
        words: its classes.
        vectors: (labels, E) float32, of length 1.
        scale: (), what cosines are multiplied by.
        bias: () or None, what is added to them; trained with it, each label's logit stands by itself (SigLIP: Zhai et
            al. 2023, 2303.15343, §3.2).
    """

    words: Words
    vectors: Tensor
    scale: Tensor
    bias: Tensor | None

    def __call__(self, pooled: Tensor) -> Tensor:
        """What the network's `pool` gives, (B, E), -> logits (B, labels) float32.

        In float32 whatever the network computes in: behind a scale of 100, bfloat16's eight bits tell no two apart.
        """
        pictures = F.normalize(pooled.to(self.vectors.device, torch.float32), dim=-1)
        logits = self.scale * pictures @ self.vectors.T
        return logits if self.bias is None else logits + self.bias

    @property
    def scoring(self) -> Scoring:
        """How its logits become scores."""
        return "softmax" if self.bias is None else "sigmoid"


@torch.inference_mode(False)  # or what explains a label could not differentiate through its vector
@torch.no_grad()
def classifier(model: Model, words: Words) -> Classifier:
    """Turn words into a classifier for `model`: every label in every template through its text tower, once.

    A label's vector is the mean over templates of the texts' vectors of length 1, again of length 1 (§3.1.4).

    Raises:
        UsageError: the network has no text tower, or no tokenizer; or there is one label whose score would be its share
            among itself.
    """
    model = with_words(model)
    if len(words.labels) == 1 and model.logit_bias is None:
        raise UsageError(
            f"'{words.labels[0]}' alone is always 100 %: '{name_of(model)}' compares labels, so give two or more"
        )
    vectors = sum(_directions(model, words.sentences(template)) for template in words.templates)
    assert isinstance(vectors, Tensor)  # there are templates
    bias = None if model.logit_bias is None else model.logit_bias.float()
    return Classifier(words, F.normalize(vectors, dim=-1), model.logit_scale.float().exp(), bias)


def get_image_text(
    model: str | os.PathLike | Model | None = None,
    *,
    engine: str = "auto",
    device: str | None = None,
    architecture: str | None = None,
) -> ImageText:
    """The network to run where there are words to read; arguments and errors are `get_model`'s.

    Without a name it is `DEFAULT_MODEL`.

    Raises:
        UsageError: the network has no text tower; or none is named and there is none in the box.
    """
    if model is None:
        if DEFAULT_MODEL not in box_names():
            raise UsageError(f"name a network that reads words, as in --model {EXAMPLE}: there is none in the box")
        model = DEFAULT_MODEL
    return with_words(get_model(model, engine=engine, device=device, architecture=architecture))


def with_words(model: Model) -> ImageText:
    """The network itself, once it is known to read words.

    Raises:
        UsageError: it has no text tower.
    """
    if not isinstance(model, ImageText):
        raise UsageError(
            f"'{name_of(model)}' has no text tower to read labels and phrases (--labels, --phrase) with: "
            f"use one that has, as in --model {EXAMPLE}"
        )
    return model


def read_labels(path: str | os.PathLike) -> tuple[str, ...]:
    """Labels from a text file in UTF-8, one a line; empty lines are none.

    Raises:
        VitrailError: it cannot be read, or is not in UTF-8.
        UsageError: it holds no label.
    """
    return read_lines(path, "labels")


def _directions(model: ImageText, texts: Sequence[str]) -> Tensor:
    """Texts -> their vectors of length 1, (texts, E) float32."""
    batches = [texts[first : first + _TEXTS_AT_ONCE] for first in range(0, len(texts), _TEXTS_AT_ONCE)]
    return torch.cat([F.normalize(model.encode_text(batch).float(), dim=-1) for batch in batches])
