"""What is minimised, and the scores that go with it."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.evaluation.classification import ManyScores, Scores, SingleScores
from vitrail.models.model import Model
from vitrail.training.answering import AnsweringSection
from vitrail.training.autoencoding import AutoencodingSection
from vitrail.training.contrastive import ContrastiveSection
from vitrail.training.denoising import DenoisingSection
from vitrail.training.imagining import ImaginingSection
from vitrail.training.lsgm import LSGMSection
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes
from vitrail.training.patches import PatchesSection
from vitrail.training.sensing import SensingSection
from vitrail.training.talking import TalkingSection


class Naming(Objective):
    """What objectives share that compare a network's logits with the classes that a picture shows."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """From logits (B, classes) and what they should say to what is minimised, ()."""
        raise NotImplementedError

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained: the network itself."""
        return model

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) and their targets forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        loss = self.loss(passes.forward(batch["images"]), batch["targets"])
        passes.backward(loss)
        return loss.detach()

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives the logits (B, classes) float32 of prepared pictures (B, 3, H, W) and the batch they are of."""
        return lambda images, batch: model(images).float()


class ClassificationSection(Naming):
    """Name the one thing that a picture shows: cross-entropy.

    Attributes:
        label_smoothing: ε, how much of the target is spread evenly over all classes (Szegedy et al. 2016, 1512.00567,
            §7).
    """

    name: Literal["classification"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy, ().

        Args:
            outputs: logits (B, classes).
            targets: class numbers (B,), or each class's share (B, classes), as mixed pictures have it.
        """
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.label_smoothing)

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers outputs and targets and scores them."""
        return SingleScores(len(data.labels), device)

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture's logits (classes,) come to in words."""
        return (data.labels[int(output.argmax())],)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture shows, by its target (), in words."""
        return (data.labels[int(target)],)


class PresenceSection(Naming):
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

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers outputs and targets and scores them."""
        return ManyScores(len(data.labels), device)

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture's logits (classes,) come to in words: the classes likelier than not, the likeliest first."""
        order = output.argsort(descending=True).tolist()
        return tuple(data.labels[index] for index in order if output[index] > 0)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture shows, by its target (classes,), in words."""
        return tuple(data.labels[index] for index in target.nonzero().flatten().tolist())


ObjectiveSection = Annotated[
    ClassificationSection
    | PresenceSection
    | ContrastiveSection
    | TalkingSection
    | AnsweringSection
    | PatchesSection
    | SensingSection
    | DenoisingSection
    | AutoencodingSection
    | ImaginingSection
    | LSGMSection,
    Field(discriminator="name"),
]
