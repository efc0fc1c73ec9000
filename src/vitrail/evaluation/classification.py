"""How well a network names what it sees."""

from typing import Any, Protocol

import torch
from torch import Tensor

from vitrail.evaluation.torchmetrics import import_classification


class Scores(Protocol):
    """Gathers what a network said, batch by batch and process by process, and scores all of it at the end."""

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Take in a batch: what the objective's `answering` gives, and what is right."""

    def compute(self) -> dict[str, float]:
        """The scores of everything taken in, by all processes together."""


class SingleScores:
    """One class a picture: top-1 and top-5 accuracy, and the mean over the classes of each one's accuracy.

    Args:
        classes: how many there are.
        device: where the outputs will be.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        library = import_classification()
        top = min(5, classes)
        self.metrics = {
            "accuracy": library.MulticlassAccuracy(classes, average="micro").to(device),
            f"top_{top}": library.MulticlassAccuracy(classes, top_k=top, average="micro").to(device),
            "mean_class_accuracy": library.MulticlassAccuracy(classes, average="macro").to(device),
        }

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Logits (B, classes) and class numbers (B,)."""
        for metric in self.metrics.values():
            metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        """accuracy, top_5 (or top_n of n classes, where there are fewer) and mean_class_accuracy, each in [0, 1]."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}


class ManyScores:
    """Several classes a picture: mean average precision over classes, and the F1 score of those found likelier than
    not.

    Average precision is taken at 101 thresholds, so that memory does not grow with the number of pictures.

    Args:
        classes: how many there are.
        device: where the outputs will be.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        library = import_classification()
        self.metrics = {
            "mean_average_precision": library.MultilabelAveragePrecision(classes, thresholds=101).to(device),
            "f1": library.MultilabelF1Score(classes, average="micro").to(device),
        }

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Logits (B, classes), and 0 or 1 for each (B, classes)."""
        probabilities, answers = outputs.sigmoid(), targets.long()
        for metric in self.metrics.values():
            metric.update(probabilities, answers)

    def compute(self) -> dict[str, float]:
        """mean_average_precision and f1, each in [0, 1]."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}
