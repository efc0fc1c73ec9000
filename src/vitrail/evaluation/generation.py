"""How good pictures are that a network made: how near to real ones, how varied, how new, and whether of what was asked.

The usual scores compare pictures in the feature space of an Inception network that knows photographs. Here the space is
that of an encoder in the box, `emoji/vit-nano`, which knows emoji: so a Fréchet distance of ours can be compared with
others of ours, and with no FID of a paper. The encoder has seen all glyphs of Emoji World, those kept for a test too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.checkpoints.load import load
from vitrail.data.source import Source, normalise
from vitrail.evaluation.retrieval import ranks, recall_at
from vitrail.evaluation.torchmetrics import import_part
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model

ENCODER = "emoji/vit-nano"
"""In the box: in its feature space pictures are compared."""

READER = "emoji/clip-nano"
"""In the box: it says how well a picture and a text go together."""

_AT_ONCE = 256  # pictures, or texts, that an encoder sees


def features(pictures: Tensor, encoder: Model) -> Tensor:
    """What an encoder sees in pictures, scaled to its size by its own preprocessing.

    Args:
        pictures: (B, 3, H, W) float32 in [-1, 1]; what lies outside is cut off.
        encoder: any model with pooled features.

    Returns:
        (B, D) float32, on the CPU.
    """
    seen = []
    for part in pictures.split(_AT_ONCE):
        pixels = prepared(part, encoder)
        with torch.no_grad(), torch.autocast(pixels.device.type, enabled=False):
            seen.append(encoder.pool(encoder.features(pixels)).float().cpu())
    return torch.cat(seen)


def prepared(pictures: Tensor, encoder: Model) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], what lies outside cut off -> what an encoder takes, where it runs."""
    bytes_ = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return encoder.preprocess(list(bytes_)).to(next(encoder.parameters()).device)


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """The squared 2-Wasserstein distance of two Gaussians with the sets' means and covariances.

    Heusel et al. 2017 (1706.08500), §2 and eq. 6: ‖μ - μ'‖² + tr(Σ + Σ' - 2 (Σ Σ')^½). It is larger the fewer vectors
    there are: compare only distances of as many.

    Args:
        real, made: feature vectors, (N, D) and (M, D), two at least of each.
    """
    metric = import_part("image.fid").FrechetInceptionDistance(feature=_Vectors(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(made.double(), real=False)
    return float(metric.compute())


class _Vectors(nn.Module):
    """Stands where torchmetrics has an Inception network: what it is given are features already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


def precision_recall(real: Tensor, made: Tensor, nearest: int = 3) -> tuple[float, float]:
    """How many of the made pictures could be real, and how many of the real ones could be made.

    Kynkäänniemi et al. 2019 (1904.06991), eq. 1-2: a vector belongs to a set if it is in the ball of one of the set's
    vectors, that reaches to its `nearest`-th neighbour there.

    Args:
        real, made: feature vectors, (N, D) and (M, D), as many of each if scores are to be compared.
        nearest: k.

    Returns:
        Precision and recall, in [0, 1].

    Raises:
        ValueError: a set has no k neighbours.
    """
    if min(len(real), len(made)) <= nearest:
        raise ValueError(f"the {nearest}-th neighbour is asked for of {min(len(real), len(made))} vectors")
    between = torch.cdist(real.double(), made.double())
    return (
        (between <= _radii(real, nearest)[:, None]).any(0).double().mean().item(),
        (between <= _radii(made, nearest)[None]).any(1).double().mean().item(),
    )


def _radii(vectors: Tensor, nearest: int) -> Tensor:
    """The distance of each vector's `nearest`-th neighbour, (N,)."""
    distances = torch.cdist(vectors.double(), vectors.double())
    return distances.fill_diagonal_(torch.inf).kthvalue(nearest, dim=1).values


def text_scores(
    pictures: Tensor,
    prompts: Sequence[str],
    names: Sequence[str],
    targets: Tensor,
    reader: ImageText,
) -> dict[str, float]:
    """Whether pictures show what was asked for, to a network that reads.

    A score says little alone: put beside it that of real pictures of the same prompts.

    Args:
        pictures: (B, 3, H, W) in [-1, 1].
        prompts: B texts, what each picture was made from.
        names: what may be in a picture, all that there is; several may share a name.
        targets: which of these each picture should show, (B,) int64.
        reader: towers for pictures and texts.

    Returns:
        agreement: the mean cosine of a picture and its prompt; agreement_shuffled: of a picture and another's prompt,
        over all such pairs. top_1 and top_5: how often the picture is nearest to the right name, or to four others at
        the most.
    """
    vectors = F.normalize(features(pictures, reader), dim=-1)
    told, named = _text_vectors(prompts, reader), _text_vectors(names, reader)
    cosines = vectors @ told.T
    rows = {text: row for row, text in enumerate(dict.fromkeys(prompts))}
    asked = torch.tensor([rows[text] for text in prompts])
    other = asked[:, None] != asked
    columns = {name: column for column, name in enumerate(dict.fromkeys(names))}
    called = torch.tensor([columns[name] for name in names])
    places = ranks(vectors @ named.T, called[targets.cpu()][:, None] == called)
    return {
        "agreement": cosines.diagonal().mean().item(),
        "agreement_shuffled": cosines[other].mean().item() if other.any() else cosines.mean().item(),
        "top_1": recall_at(1, places),
        "top_5": recall_at(5, places),
    }


@torch.no_grad()
def _text_vectors(texts: Sequence[str], reader: ImageText) -> Tensor:
    """(T, E) float32 of length 1, on the CPU."""
    parts = [list(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
    return torch.cat([reader.encode_text(part, normalize=True).float().cpu() for part in parts])


@dataclass(frozen=True)
class Made:
    """A picture that a network made in the place of a real one, and what it thinks of the real one.

    Attributes:
        picture: (3, H, W) in [-1, 1].
        real: (3, H, W) in [-1, 1], from the test.
        loss: the objective's on the real one.
        bits: the bits per dimension of the real one; None where nobody wants to know.
        asked: whether the network was asked for the real one's class.
    """

    picture: Tensor
    real: Tensor
    loss: float
    bits: float | None = None
    asked: bool = False


class GenerationScores:
    """Compares as many made pictures as a test has real ones with these, and both with the pictures of training.

    Args:
        train: the pictures of training.
        device: where the encoder runs.
    """

    def __init__(self, train: Source, device: torch.device) -> None:
        self.train, self.encoder = train, box_encoder(device)
        self.taken: list[tuple[Tensor, ...]] = []
        self.asked = False

    def update(self, outputs: Sequence[Made], targets: Tensor) -> None:
        """Take in a batch of pictures, and the numbers of the classes that they are of, (B,)."""
        made = features(torch.stack([output.picture for output in outputs]), self.encoder)
        real = features(torch.stack([output.real for output in outputs]), self.encoder)
        said = torch.tensor([(output.loss, torch.nan if output.bits is None else output.bits) for output in outputs])
        self.asked = any(output.asked for output in outputs)
        self.taken.append((made, real, said, targets.cpu()))

    def compute(self) -> dict[str, float]:
        """The scores of what all processes took in; those that end in _real are the test's own, for comparison.

        loss: the objective's, on the test's pictures. frechet: the distance of the made from those of training.
        precision and recall: against the test's. novelty: the median distance of the made from the nearest picture of
        training, in the test's own such distance; copies have 0. recognised: how often that nearest picture is of the
        class that was asked for. bits: per dimension, where they were asked for.
        """
        from accelerate.utils import gather_object  # only training has several processes

        made, real, said, targets = (torch.cat(every) for every in zip(*gather_object(self.taken), strict=True))
        losses, bits = said.unbind(1)
        seen, classes = self._seen()
        distances, nearest = torch.cdist(made, seen).min(1)
        distances_real, nearest_real = torch.cdist(real, seen).min(1)
        scores = {
            "loss": losses.mean().item(),
            "frechet": frechet_distance(seen, made),
            "frechet_real": frechet_distance(seen, real),
        }
        if len(made) > _NEAREST:
            scores["precision"], scores["recall"] = precision_recall(real, made, _NEAREST)
        if novelty := distances_real.median().item():
            scores["novelty"] = distances.median().item() / novelty
        if self.asked:
            scores["recognised"] = (classes[nearest] == targets).float().mean().item()
            scores["recognised_real"] = (classes[nearest_real] == targets).float().mean().item()
        if not bits.isnan().all():
            scores["bits"] = bits.nanmean().item()
        return scores

    def _seen(self) -> tuple[Tensor, Tensor]:
        """The features (N, D) of all pictures of training, as they would be tested, and their classes (N,)."""
        batches = [self.train.batch(part, None) for part in torch.arange(len(self.train)).split(_AT_ONCE)]
        vectors = [features(normalise(batch["images"]), self.encoder) for batch in batches]
        return torch.cat(vectors), torch.cat([batch["targets"] for batch in batches])


_NEAREST = 3  # k, as in the paper


@cache
def box_encoder(device: torch.device) -> Model:
    """The encoder in the box that pictures are compared with, on a device; gradients flow through it."""
    return load(ENCODER, device=device, engine="eager").requires_grad_(False)
