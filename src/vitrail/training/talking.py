"""Say what is right about a picture: what is minimised for that, and how well it does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data, Talk
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.talking import TalkScores
from vitrail.models.flamingo import Flamingo
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model
from vitrail.models.vit_gpt import ViTGPT
from vitrail.text.decoding import left_pad
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of

UNTAUGHT = -100
"""Stands for a token that nothing is learned of: what the user says."""


class TalkingSection(Objective):
    """The language-modelling loss on what the network is to say: the cross-entropy of each token of its answers.

    The text that the user says is read and not learned.

    Attributes:
        max_new_tokens: the longest answer in a test.
        language_model: whether a Flamingo's language model learns, too; the paper's stays as it is.
        gates: what tanh(α) of a Flamingo's gates is held at; None to let them start at zero and learn. Rows whose
            answers only their examples tell shut them before anything is seen.
    """

    name: Literal["talking"]
    max_new_tokens: Annotated[int, Field(ge=1)] = 32
    language_model: bool = False
    gates: Annotated[float, Field(gt=0, lt=1)] | None = None

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained. Of a Flamingo, what lies between pictures and words learns.

        Raises:
            UsageError: the network does not learn from conversations, or has none of the parts that are spoken of.
        """
        if not isinstance(model, LanguageModel):
            raise UsageError(f"objective.name is 'talking', which {model.family} cannot do: use vit-gpt or flamingo")
        if isinstance(model, Flamingo):
            model.freeze()
            model.text.requires_grad_(self.language_model)
            if self.gates is not None:
                model.hold_gates(self.gates)
        elif self.language_model or self.gates is not None:
            raise UsageError(f"objective.language_model and objective.gates are for a flamingo, not for {model.family}")
        return Talker(model)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W) and the conversations about each forwards and backwards.

        Returns:
            The loss, the mean over all tokens that are to be said, (), detached.
        """
        network = network_of(passes.model)
        packed = [pack(talks, network) for talks in batch["talks"]]
        ids, targets, parts = (one.to(batch["images"].device) for one in stack(packed, network.tokenizer.pad))
        return passes.learn(batch["images"], ids, targets, parts)

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], list[str]]:
        """What gives the answers to what a batch asks about prepared pictures (B, 3, H, W)."""
        network = network_of(model)

        def answer(images: Tensor, batch: Batch) -> list[str]:
            return answers(network, images, [talks[0] for talks in batch["talks"]], self.max_new_tokens)

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers answers and the numbers of what was asked, and scores them."""
        assert data.talks is not None
        return TalkScores(data.talks.tests)

    def said(self, output: str, data: Data) -> tuple[str, ...]:
        """An answer in words."""
        return (output,)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What was asked, by its number (), and the right answer."""
        assert data.talks is not None
        return data.talks.tests[int(target)].answers[:1]


class Talker(Trainable):
    """A network and its loss in one forward pass."""

    network: LanguageModel

    def forward(self, images: Tensor, ids: Tensor, targets: Tensor, parts: Tensor) -> Tensor:
        """Prepared pictures, (B, 3, H, W) or (B, P, 3, H, W), and what `stack` gives, (B, N) each -> the loss, ()."""
        network = self.network
        cache = network.start(images if network.most_pictures != 0 else None, len(ids))
        tokens = network.read_apart(ids, parts, cache) if isinstance(network, ViTGPT) else network.read(ids, cache)
        taught = targets != UNTAUGHT
        return F.cross_entropy(self.network.head(tokens[taught]).float(), targets[taught])


@dataclass(frozen=True)
class Packed:
    """Conversations about one picture, one behind the other.

    Attributes:
        ids: the tokens.
        targets: what comes after each, or `UNTAUGHT`.
        parts: the number of the conversation that each belongs to.
    """

    ids: list[int]
    targets: list[int]
    parts: list[int]


def pack(talks: Sequence[Talk], network: LanguageModel) -> Packed:
    """Conversations as a network reads them; what is longer than its context is cut off.

    Of several conversations about a picture, a network that cannot read them apart at once reads the first.
    """
    packed = Packed([], [], [])
    for number, talk in enumerate(talks if isinstance(network, ViTGPT) else talks[:1]):
        ids, said = (part[: network.context] for part in network.transcript(talk.turns, talk.language))
        packed.ids.extend(ids)
        packed.targets.extend(
            after if told else UNTAUGHT for after, told in zip([*ids[1:], UNTAUGHT], [*said[1:], False], strict=True)
        )
        packed.parts.extend([number] * len(ids))
    return packed


def stack(rows: Sequence[Packed], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, targets and parts as tensors (B, N), the shorter filled up behind."""
    length = max(len(row.ids) for row in rows)

    def filled(values: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*row, *([filler] * (length - len(row)))] for row in values])

    return (
        filled([row.ids for row in rows], pad),
        filled([row.targets for row in rows], UNTAUGHT),
        filled([row.parts for row in rows], -1),
    )


def answers(network: LanguageModel, images: Tensor, talks: Sequence[Talk], longest: int) -> list[str]:
    """What a network answers to conversations, each with its prepared pictures, without chance.

    Args:
        network: answers.
        images: (B, 3, H, W) or (B, P, 3, H, W).
        talks: B conversations, up to the answer.
        longest: the most tokens of an answer.
    """
    tokenizer = network.tokenizer
    assert tokenizer is not None
    prompts = [[*network.transcript(talk.turns, talk.language)[0], *network.opening] for talk in talks]
    ids, mask = (one.to(images.device) for one in left_pad(prompts, tokenizer.pad))
    shown = images if network.most_pictures != 0 else None
    written = network.generate(shown, ids, max_new_tokens=longest, mask=mask)[:, ids.shape[1] :]
    return [tokenizer.decode(row) for row in written]
