"""Name what is seen and heard, with one network for pictures, films and sounds: what is minimised, how well it does."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.source import Batch, Data, normalise
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.sensing import SenseScores
from vitrail.models.model import Model
from vitrail.models.perceiver_senses import PerceiverSenses
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of


class SensingSection(Objective):
    """Name what a picture shows, how a thing in a film moves and what a sound is: cross-entropy, the mean of the three.

    One head chooses among the classes of all senses: that a sound is no bird is to be learned, too. A recipe's
    augmentation changes the pictures alone, and may not mix them.
    """

    name: Literal["sensing"]

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network does not take pictures, films and sounds.
        """
        if not isinstance(model, PerceiverSenses):
            raise UsageError(
                f"objective.name is 'sensing', which {model.family} is not trained by: use perceiver-senses"
            )
        return Senses(model)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch of prepared pictures (B, 3, H, W), films and sounds forwards and backwards.

        Returns:
            The loss, (), detached.
        """
        logits = passes.forward(batch["images"], *_films_and_sounds(batch, batch["images"].device))
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch["targets"].flatten())
        passes.backward(loss)
        return loss.detach()

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives the logits (B, 3, classes) float32 of prepared pictures (B, 3, H, W) and their batch's films and
        sounds.
        """
        senses = Senses(network_of(model))
        return lambda images, batch: senses(images, *_films_and_sounds(batch, images.device)).float()

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these logits and the targets, and scores them."""
        assert data.senses is not None
        return SenseScores(data.senses)

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture, a film and a sound's logits (3, classes) come to in words."""
        return self.right(output.argmax(1), data)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What they show, by their targets (3,), in words."""
        return tuple(data.labels[index] for index in target.tolist())


class Senses(Trainable):
    """A network that is shown a picture, then a film, then a sound."""

    network: PerceiverSenses

    def forward(self, images: Tensor, videos: Tensor, sounds: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 3, T, H, W), (B, S) -> logits (B, 3, classes)."""
        return torch.stack([self.network(images), self.network(videos=videos), self.network(sounds=sounds)], 1)


def _films_and_sounds(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's films in [-1, 1], as its prepared pictures are, and its sounds."""
    videos = normalise(batch["videos"].to(device, non_blocking=True))
    return videos, batch["sounds"].to(device, non_blocking=True)
