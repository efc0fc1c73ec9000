"""How well a network names what it sees and hears."""

from collections.abc import Mapping

import torch
from torch import Tensor


class SenseScores:
    """Accuracy by sense, over all classes of all senses, beside the commonest right answer.

    Args:
        senses: the numbers of the classes of each sense.
    """

    def __init__(self, senses: Mapping[str, range]) -> None:
        self.senses = senses
        self.taken: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in the logits (B, senses, classes) of what a network was shown by each sense, and its classes (B,
        senses).
        """
        self.taken.append((outputs.argmax(2).cpu(), targets.cpu()))

    def compute(self) -> dict[str, float]:
        """The scores of what all processes took in, each in [0, 1].

        accuracy: the mean over the senses. accuracy_S by sense, and chance_S: what naming the commonest class of the
        test every time would score.
        """
        from accelerate.utils import gather_object  # only training has several processes

        outputs, targets = (torch.cat(every) for every in zip(*gather_object(self.taken), strict=True))
        right = (outputs == targets).float().mean(0).tolist()
        scores = {"accuracy": sum(right) / len(right)}
        for column, (sense, share) in enumerate(zip(self.senses, right, strict=True)):
            scores[f"accuracy_{sense}"] = share
            scores[f"chance_{sense}"] = targets[:, column].bincount().max().item() / len(targets)
        return scores
