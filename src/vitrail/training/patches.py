"""Name what is at each place of a picture: what is minimised for that, and how well it does."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.patches import PatchScores, patch_targets
from vitrail.models.model import Model
from vitrail.models.vit import ViT
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of


class PatchesSection(Objective):
    """Name what each patch of a picture shows: cross-entropy, of the commonest class of the patch's pixels.

    A lesson in seeing before a lesson in talking: dozens of answers a picture, each at its place, where a sentence
    about the picture is one. As dense labelling of tokens in Jiang et al. 2021 (2104.10858), eq. 2, with true labels.
    """

    name: Literal["patches"]

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the network has no patches with a head.
        """
        if not isinstance(model, ViT) or not model.config.classes:
            raise UsageError(f"objective.name is 'patches', and {model.family} names none: use vit")
        return PatchNamer(model)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run prepared pictures (B, 3, H, W) and a map of each (B, H, W) forwards and backwards.

        Returns:
            The loss, the mean over all patches, (), detached.
        """
        logits = passes.forward(batch["images"]).float()
        loss = F.cross_entropy(logits.flatten(0, 1), patch_targets(batch["targets"], logits.shape[1]).flatten())
        passes.backward(loss)
        return loss.detach()

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives the logits of patches (B, N, classes) float32 of prepared pictures (B, 3, H, W)."""
        namer = PatchNamer(network_of(model))
        return lambda images, batch: namer(images).float()

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these logits and the maps, and scores them."""
        return PatchScores()

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture's patches (N, classes) are said to show, things alone."""
        return _named(output.argmax(-1), data)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What a map (H, W) shows, things alone."""
        return _named(target, data)


class PatchNamer(Trainable):
    """A network whose head reads every patch."""

    network: ViT

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, classes)."""
        return self.network.head(self.network.features(images)[:, self.network.prefix_tokens :])


def _named(classes: Tensor, data: Data) -> tuple[str, ...]:
    return tuple(data.labels[index] for index in classes.unique().tolist() if index)
