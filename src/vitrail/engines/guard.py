"""Whether an engine says what eager float32 says: on pictures, and by what each kind of network is asked for.

What is compared, and how much must agree, is in `LIMITS`. The limits of float32 leave room for another order of
summation and nothing else. bfloat16 keeps 8 bits of each number, an error of 2⁻⁸ in every one of some fifty layers, of
which a few per cent reach the end: fewer than one picture in fifty may change its class by it. Integers of 8 bits are
held to what they are advertised with: as good as the original but for one answer in two hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.models.generator import Generator
from vitrail.models.language_model import LanguageModel, Turn
from vitrail.models.model import Model

NEW_TOKENS = 16
"""So many tokens are written about each picture."""


@dataclass(frozen=True)
class Limit:
    """How near an engine must be to eager float32.

    Attributes:
        error: the most that |a - b| / |b| may be, over all numbers of all answers.
        agreement: the least share of answers that are the same.
    """

    error: float
    agreement: float


LIMITS: dict[str, dict[str, Limit]] = {
    # logits; the same class is the likeliest
    "classes": {"float32": Limit(1e-3, 0.98), "bfloat16": Limit(0.1, 0.98), "int8": Limit(0.5, 0.995)},
    # pooled vectors; the mean cosine with eager's
    "vectors": {"float32": Limit(1e-3, 0.9999), "bfloat16": Limit(0.1, 0.995), "int8": Limit(0.5, 0.995)},
    # greedy texts; the same token at the same place
    "texts": {"float32": Limit(1.0, 0.98), "bfloat16": Limit(1.0, 0.95), "int8": Limit(1.0, 0.995)},
    # one step's noise; no agreement to count
    "noise": {"float32": Limit(1e-3, 0.0), "bfloat16": Limit(0.1, 0.0), "int8": Limit(0.05, 0.0)},
}

AGREES = {"classes": "top-1", "vectors": "cosine", "texts": "tokens", "noise": ""}
"""What an agreement is one of."""


@dataclass(frozen=True)
class Comparison:
    """How near an engine came.

    Attributes:
        kind: what was compared, one of `LIMITS`.
        error: |a - b| / |b| over all numbers of all answers; for texts the share of tokens that differ.
        agreement: the share of answers that are the same, or the mean cosine; None where there is nothing to count.
    """

    kind: str
    error: float
    agreement: float | None

    def objection(self, precision: str) -> str | None:
        """Why the engine should not be used, in words; None where it may."""
        limit = LIMITS[self.kind][precision]
        if self.agreement is not None and not self.agreement >= limit.agreement:
            return f"{AGREES[self.kind]} agreement {self.agreement:.2%}, below {limit.agreement:.2%}"
        if not self.error <= limit.error:  # nor where it is no number
            return f"error {self.error:.2g}, above {limit.error:g}"
        return None


def kind_of(model: Model) -> str:
    """What a network is asked for: "classes", "vectors", "texts" or "noise".

    Raises:
        UsageError: it is a part of other networks and answers nothing by itself.
    """
    if isinstance(model, LanguageModel):
        return "texts"
    if isinstance(model, Generator):
        return "noise"
    if not model.entries:
        raise UsageError(
            f"engines are compared on networks that see, write or make pictures, and {model.family} is none"
        )
    return "vectors" if isinstance(model.head, nn.Identity) else "classes"


def questions(model: Model, pictures: Sequence[Picture], batch: int) -> list[Any]:
    """What a network is asked about pictures, in whole batches of so many: for `answer`.

    Pictures that are prepared to another size than the first are left out.

    Raises:
        UsageError: there are fewer pictures than fill one batch.
    """
    kind = kind_of(model)
    dice = torch.Generator().manual_seed(0)
    if isinstance(model, Generator):
        return [_batched(model.example(model.usual.size), batch, dice)]
    prepared: list[tuple[Tensor | None, Tensor]] = []
    for picture in pictures:
        if kind == "texts":
            assert isinstance(model, LanguageModel)
            prepared.append(_prompt(model, picture))
        else:
            images = model.preprocess(picture)
            prepared.append((images, images))
    first = prepared[0][1].shape if prepared else None
    same = [one if kind == "texts" else one[1] for one in prepared if one[1].shape == first]
    return [joined(same[start:], batch) for start in range(0, max(1, len(same) - batch + 1), batch)]


def joined(asked: Sequence[Any], batch: int) -> Any:
    """The first so many of `questions` about single pictures as one.

    Raises:
        UsageError: there are fewer.
    """
    if len(asked) < batch:
        raise UsageError(f"engines are tried on batches of {batch}, and there are {len(asked)} pictures of one size")
    chunk = asked[:batch]
    if isinstance(chunk[0], Tensor):
        return torch.cat(list(chunk))
    pixels = [one for one, _ in chunk if one is not None]
    return torch.cat(pixels) if pixels else None, torch.cat([ids for _, ids in chunk])


@torch.inference_mode()
def answer(model: Model, question: Any) -> Tensor:
    """What a verb would compute for one of `questions`: logits, vectors, the ids of texts, or a step's noise."""
    kind, dtype = kind_of(model), next(model.parameters()).dtype
    if kind == "texts":
        assert isinstance(model, LanguageModel)
        pixels, ids = question
        pixels = None if pixels is None else pixels.to(dtype)
        return model.generate(pixels, ids, max_new_tokens=NEW_TOKENS)[:, ids.shape[1] :]
    if kind == "noise":
        return model(*question).float()
    said = model(question) if kind == "classes" else model.pool(model.features(question))
    return said.float()


def compare(kind: str, plain: Sequence[Tensor], tried: Sequence[Tensor]) -> Comparison:
    """Answers of eager float32 beside those of an engine, to the same questions in the same order."""
    if kind == "texts":
        same = total = 0
        for one, other in zip(plain, tried, strict=True):
            length = min(one.shape[1], other.shape[1])
            same += int((one[:, :length] == other[:, :length]).sum())
            total += len(one) * max(one.shape[1], other.shape[1])
        agreement = same / max(total, 1)
        return Comparison(kind, 1 - agreement, agreement)
    one, other = torch.cat(list(plain)), torch.cat(list(tried))
    error = ((other - one).norm() / one.norm().clamp(min=1e-12)).item()
    if kind == "classes":
        return Comparison(kind, error, (one.argmax(-1) == other.argmax(-1)).float().mean().item())
    if kind == "vectors":
        return Comparison(kind, error, F.cosine_similarity(one, other, dim=-1).mean().item())
    return Comparison(kind, error, None)


def _prompt(model: LanguageModel, picture: Picture) -> tuple[Tensor | None, Tensor]:
    """A request for a caption; of a network that sees no pictures, or takes no requests, a text of a few tokens."""
    if model.most_pictures != 0:
        try:
            prompt = model.prompt((Turn("", 1),), [picture])
            return prompt.pixels, prompt.ids
        except UsageError:  # it answers questions only
            prompt = model.prompt((Turn("what is this?", 1),), [picture])
            return prompt.pixels, prompt.ids
    return None, torch.arange(1, 9)[None]


def _batched(value: Any, batch: int, dice: torch.Generator) -> Any:
    """What `Model.example` gives for one picture of zeros, for several of noise."""
    if isinstance(value, dict):
        return {name: _batched(one, batch, dice) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_batched(one, batch, dice) for one in value)
    if not isinstance(value, Tensor):
        return value
    value = value.expand(batch, *value.shape[1:])
    return torch.randn(value.shape, generator=dice) if value.ndim > 1 and value.is_floating_point() else value
