"""Pictures and texts in one space: what is minimised for that, and how well it does."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.data.source import Batch, Data
from vitrail.errors import UsageError
from vitrail.evaluation.classification import Scores
from vitrail.evaluation.retrieval import RetrievalScores, questions
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.training.objective import Objective
from vitrail.training.passes import Passes, Trainable, network_of
from vitrail.training.randomness import seed_for

LARGEST_SCALE = 100.0
"""What cosines are multiplied by at the most. Radford et al. 2021 (2103.00020), §2.5."""

_TEXTS = 256  # embedded at once in a test


class ContrastiveSection(Objective):
    """Bring each picture near its text, and away from the texts of the rest of the batch, of all processes.

    Where two pictures of a batch show the same thing, or have the same text, the text of either is true of both, and to
    call it false would teach the opposite of what is meant. So each has several right answers: UniCL, Yang et al. 2022
    (2204.03610), §3.2.

    Attributes:
        loss: "infonce" or "sigmoid", the functions below.
        chunk: pictures, each with its text, whose activations a process holds at once (`Passes.in_chunks`); null for
            all of its share of the batch. The gradients are the same, and each tower is run once more. Batch norms see
            a chunk at a time.
    """

    name: Literal["contrastive"]
    loss: Literal["infonce", "sigmoid"] = "infonce"
    chunk: Annotated[int, Field(ge=1)] | None = None

    @property
    def reads(self) -> bool:
        """Whether pictures must come with texts."""
        return True

    def trainable(self, model: Model) -> nn.Module:
        """The module whose forward pass is trained.

        Raises:
            UsageError: the loss is "sigmoid", and the network has no bias.
        """
        assert isinstance(model, ImageText)
        if self.loss == "sigmoid" and model.logit_bias is None:
            raise UsageError(
                f"objective.loss is 'sigmoid', which needs a bias, and {model.family} has none: use siglip"
            )
        return Towers(model)

    def learn(self, passes: Passes, batch: Batch) -> Tensor:
        """Run a batch forwards and backwards.

        Args:
            passes: of `trainable`'s module.
            batch: prepared pictures (B, 3, H, W), numbers (B,) that are the same for the same thing, and B texts.

        Returns:
            The loss of this process's share, (), detached; the mean over processes is that of the batch.
        """
        network = network_of(passes.model)
        if self.loss == "infonce":
            with torch.no_grad():
                network.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
        images, targets = batch["images"], batch["targets"]
        ids = network.tokenizer(batch["texts"]).to(images.device)
        texts = torch.tensor([seed_for(text) for text in batch["texts"]], device=images.device)  # a number for each
        right = (targets[:, None] == gathered(targets)) | (texts[:, None] == gathered(texts))
        loss_of = infonce if self.loss == "infonce" else sigmoid
        size = self.chunk or len(images)
        return passes.in_chunks(
            list(zip(images.split(size), ids.split(size), strict=True)),
            lambda pictures, texts: loss_of(pictures @ gathered(texts).T, texts @ gathered(pictures).T, right),
        )

    def answering(self, model: nn.Module, data: Data) -> Callable[[Tensor, Batch], Tensor]:
        """What gives the cosines (B, T) of prepared pictures (B, 3, H, W) and all that a test asks (`questions`)."""
        network = network_of(model)
        assert data.texts is not None
        bank = text_bank(network, questions(data.texts))

        def answer(images: Tensor, batch: Batch) -> Tensor:
            vectors = network.encode_image(images).float()
            with torch.autocast(images.device.type, enabled=False):  # in bfloat16, half of all cosines are equal
                return F.normalize(vectors, dim=-1) @ bank.T

        return answer

    def scores(self, data: Data, device: torch.device) -> Scores:
        """Something that gathers these cosines and the pictures' numbers, and scores them."""
        assert data.texts is not None
        return RetrievalScores(data.texts)

    def said(self, output: Tensor, data: Data) -> tuple[str, ...]:
        """The label whose names in the first language are nearest, by a picture's cosines (T,)."""
        return (data.labels[int(output[: len(data.labels)].argmax())],)

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What a picture shows, by its number ()."""
        return (data.labels[int(target)],)


class Towers(Trainable):
    """Both towers in one forward pass, as frameworks that distribute the training of a module want it.

    Args:
        network: the towers.
    """

    network: ImageText

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared pictures (B, 3, H, W) and token ids (B, N) -> two vectors a pair, (B, E + 1) each.

        The scalar product of one of each is the logit of `ImageText.forward`: the first holds the factor and, at the
        end, the bias, which meets a 1 in the second. So all that the loss depends on is in vectors.
        """
        pictures = F.normalize(self.network.encode_image(images).float(), dim=-1) * self.network.logit_scale.exp()
        texts = F.normalize(self.network.encode_text(ids).float(), dim=-1)
        bias = self.network.logit_bias
        column = pictures.new_zeros(()) if bias is None else bias
        return torch.cat([pictures, column.expand(len(pictures), 1)], 1), F.pad(texts, (0, 1), value=1.0)


def infonce(pictures: Tensor, texts: Tensor, right: Tensor) -> Tensor:
    """The mean of two cross-entropies: of each picture's right text, and of each text's right picture.

    Radford et al. 2021 (2103.00020), figure 3. Where several are right, each is as right: Yang et al. 2022
    (2204.03610), eq. 2-4.

    Args:
        pictures: logits of these pictures and all texts, (B, N).
        texts: logits of these texts and all pictures, (B, N).
        right: which of all belong to which of these, (B, N) bool; one at least.

    Returns:
        ().
    """
    shares = right / right.sum(1, keepdim=True)
    return (F.cross_entropy(pictures, shares) + F.cross_entropy(texts, shares)) / 2


def sigmoid(pictures: Tensor, texts: Tensor, right: Tensor) -> Tensor:
    """A binary cross-entropy for each pair of a picture and a text, summed, a picture. Zhai et al. 2023 (2303.15343),
    algorithm 1. Arguments as of `infonce`; those of texts are not needed.
    """
    return -F.logsigmoid(torch.where(right, pictures, -pictures)).sum(1).mean()


def gathered(tensor: Tensor) -> Tensor:
    """The tensors (B, ...) of all W processes, (W · B, ...), through which gradients flow back to where each is from.

    Where each process takes the gradients of a loss of its own, each tensor gets the sum of them all.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    return _Gather.apply(tensor)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        everywhere = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(everywhere, tensor.contiguous())
        return torch.cat(everywhere)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def text_bank(network: ImageText, ensembles: Sequence[Sequence[str]]) -> Tensor:
    """One vector for each ensemble of texts: the mean of theirs, each of length 1, scaled to that length again.

    Radford et al. 2021 (2103.00020), §3.1.4.

    Returns:
        (T, E) float32.
    """
    rows = {text: row for row, text in enumerate(dict.fromkeys(text for texts in ensembles for text in texts))}
    texts = list(rows)
    parts = [network.encode_text(texts[start : start + _TEXTS]).float() for start in range(0, len(texts), _TEXTS)]
    vectors = F.normalize(torch.cat(parts), dim=-1)
    means = [vectors[[rows[text] for text in texts]].mean(0) for texts in ensembles]
    return F.normalize(torch.stack(means), dim=-1)
