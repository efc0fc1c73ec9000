"""How well a network chooses the answers to questions about pictures."""

from collections import defaultdict

import torch
from torch import Tensor

from vitrail.data.answers import NOT_ASKED
from vitrail.data.source import Quiz


class AnswerScores:
    """Exact match overall, by language and by kind of question, beside the commonest answer of training.

    Args:
        quiz: what is asked.
    """

    def __init__(self, quiz: Quiz) -> None:
        self.quiz = quiz
        self.taken: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in the numbers of answers, and of the right ones, (B, K) each."""
        self.taken.append((outputs.cpu(), targets.cpu()))

    def compute(self) -> dict[str, float]:
        """The scores of what all processes took in, each in [0, 1].

        exact, exact_L by language, exact_K by kind of question; majority and majority_K: what the commonest answer to
        questions of that kind in that language would score.
        """
        from accelerate.utils import gather_object  # only training has several processes

        outputs, targets = (torch.cat(every) for every in zip(*gather_object(self.taken), strict=True))
        asked = targets != NOT_ASKED
        right, common = outputs == targets, torch.tensor(self.quiz.majority) == targets
        marks: dict[str, list[Tensor]] = defaultdict(list)
        for column, (kind, language) in enumerate(self.quiz.columns):
            chosen = asked[:, column]
            if not chosen.any():
                continue
            spelled = kind.replace(" ", "_")
            for name in ("exact", f"exact_{language}", f"exact_{spelled}"):
                marks[name].append(right[chosen, column])
            for name in ("majority", f"majority_{spelled}"):
                marks[name].append(common[chosen, column])
        return {name: torch.cat(every).float().mean().item() for name, every in marks.items()}
