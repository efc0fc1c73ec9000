"""What is minimised, and the scores that go with it."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.evaluation.classification import ManyScores, Scores, SingleScores
from vitrail.settings import Section


class ClassificationSection(Section):
    """Name the one thing that a picture shows: cross-entropy.

    Attributes:
        label_smoothing: ε, how much of the target is spread evenly over all classes (Szegedy et al. 2016, 1512.00567,
            §7).
    """

    name: Literal["classification"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def many(self) -> bool:
        """Whether a picture may show several classes at once."""
        return False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy, ().

        Args:
            outputs: logits (B, classes).
            targets: class numbers (B,), or each class's share (B, classes), as mixed pictures have it.
        """
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.label_smoothing)

    def scores(self, classes: int, device: torch.device) -> Scores:
        """Something that gathers outputs and targets and scores them."""
        return SingleScores(classes, device)

    def said(self, output: Tensor, labels: Sequence[str]) -> tuple[str, ...]:
        """What a picture's logits (classes,) come to in words."""
        return (labels[int(output.argmax())],)


class PresenceSection(Section):
    """Name all the things that a picture shows: a binary cross-entropy for each class, summed.

    Attributes:
        positive_weight: how much more the classes that are there count than those that are not.
    """

    name: Literal["presence"]
    positive_weight: Annotated[float, Field(gt=0)] = 1.0

    @property
    def many(self) -> bool:
        """Whether a picture may show several classes at once."""
        return True

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The binary cross-entropy summed over classes, mean over pictures, ().

        Args:
            outputs: logits (B, classes).
            targets: 0 or 1 for each class, or its share in mixed pictures, (B, classes).
        """
        weight = torch.tensor(self.positive_weight, device=outputs.device)
        every = F.binary_cross_entropy_with_logits(outputs.float(), targets, pos_weight=weight, reduction="none")
        return every.sum(1).mean()

    def scores(self, classes: int, device: torch.device) -> Scores:
        """Something that gathers outputs and targets and scores them."""
        return ManyScores(classes, device)

    def said(self, output: Tensor, labels: Sequence[str]) -> tuple[str, ...]:
        """What a picture's logits (classes,) come to in words: the classes likelier than not, the likeliest first."""
        order = output.argsort(descending=True).tolist()
        return tuple(labels[index] for index in order if output[index] > 0)


ObjectiveSection = Annotated[ClassificationSection | PresenceSection, Field(discriminator="name")]
