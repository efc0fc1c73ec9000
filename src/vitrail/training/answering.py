"""Choose the answers to questions about a picture: what is minimised for that, and how well it does."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.answers import NOT_ASKED
from vitrail.data.source import Batch, Data
from vitrail.evaluation.answers import AnswerScores
from vitrail.evaluation.classification import Scores
from vitrail.models.model import Model
from vitrail.models.vqa import VQA
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, network_of

_SHOWN = 3  # questions about a picture on a sheet of samples


class AnsweringSection(Objective):
    """Choose among the answers that there are: cross-entropy, the mean over all questions of a batch.

    A picture is looked at once for all of its questions. An answer without a number teaches nothing, and in a test
    nobody can be right about it.
    """

    name: Literal["answering"]

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained: the network itself."""
        return model

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W), questions and the numbers of their answers (B, K) forwards and
        backwards.

        Returns:
            The loss, (), detached.
        """
        network = network_of(passes.model)
        ids, rows, columns = _asked(network, batch)
        logits = passes.forward(batch["images"], ids, rows)
        targets = batch["targets"][rows, columns].clamp(min=NOT_ASKED)
        loss = F.cross_entropy(logits.float(), targets, ignore_index=NOT_ASKED)
        passes.backward(loss)
        return loss.detach()

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives the numbers (B, K) of the answers to a batch's questions about its prepared pictures (B, 3, H, W),
        and `NOT_ASKED` where there is none.
        """
        network = network_of(model)

        def answer(images: Tensor, batch: Batch) -> Tensor:
            ids, rows, columns = (one.to(images.device) for one in _asked(network, batch))
            said = torch.full_like(batch["targets"], NOT_ASKED, device=images.device)
            said[rows, columns] = model(images, ids, rows).argmax(1)
            return said

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers numbers of answers, and of the right ones, and scores them."""
        assert data.quiz is not None
        return AnswerScores(data.quiz)

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """The answers (K,) to the first questions about a picture, in words, each with its kind."""
        assert data.quiz is not None
        asked = [column for column, number in enumerate(output.tolist()) if number != NOT_ASKED]
        told = []
        for column in asked[:: len({language for _, language in data.quiz.columns})][:_SHOWN]:
            number = int(output[column])
            told.append(f"{data.quiz.columns[column][0]}: {data.labels[number] if number >= 0 else 'something new'}")
        return tuple(told)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """The right answers (K,) in the same form."""
        return self.said(target, data)


def _asked(network: VQA, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens (Q, N) of all the questions of a batch, and the row and the column (Q,) of each in its targets."""
    assert network.tokenizer is not None
    targets = batch["targets"]
    rows, columns = (targets != NOT_ASKED).nonzero(as_tuple=True)
    places = rows * targets.shape[1] + columns
    ids = network.tokenizer([batch["texts"][place] for place in places.tolist()]).to(targets.device)
    longest = int((ids != network.tokenizer.pad).sum(1).max())
    return ids[:, :longest], rows, columns
