"""What a source of training data is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.imaging.preprocess import HALF, Preprocess, Resize


class Batch(TypedDict):
    """Some pictures and what they show.

    Attributes:
        images: (B, 3, H, W) uint8, RGB.
        targets: (B,) int64, the number of each picture's class; or (B, classes) float32 of 0 and 1, where a picture
            shows several.
        texts: B texts, one said of each picture, where the data is of pictures with texts. There `targets` are numbers
            that are the same for pictures of the same thing, and no others.
    """

    images: Tensor
    targets: Tensor
    texts: NotRequired[list[str]]


class Source(Protocol):
    """A set of pictures that any part of can be asked for, in any order, by any process."""

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """The pictures of these numbers, a pure function of them and of the generator's state.

        Args:
            indices: (B,) int64.
            generator: where what varies from look to look is drawn from; None to look at the pictures as they are
                tested.
        """


@dataclass(frozen=True)
class Texts:
    """What is said of pictures that come with texts, in training and in the test.

    Attributes:
        corpus: gives the texts of training, for a tokenizer to be trained from.
        vocabulary: how many different tokens that may have.
        names: by language ("en", "zh"), for each class what a test calls it: one text or several. The first alone is
            the query, or the candidate, of retrieval; zero-shot takes the mean of the vectors of all.
        groups: by language, for each group of classes what a test calls it.
        group_of: the number of each class's group.
        parts: the classes whose test pictures are scored together, by a name for the scores: {"style": (0, 1, …)}. The
            candidates are the classes of the part, and no others.
    """

    corpus: Callable[[], Iterator[str]]
    vocabulary: int
    names: Mapping[str, Sequence[Sequence[str]]]
    groups: Mapping[str, Sequence[Sequence[str]]]
    group_of: Sequence[int]
    parts: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Data:
    """What a network is trained and tested on.

    Attributes:
        train, test: the pictures.
        labels: a name for each class.
        many: whether a picture may show several classes at once.
        split: what the score on `test` is a score on: "unseen style noto".
        texts: what is said of the pictures; None where they come with classes alone.
    """

    train: Source
    test: Source
    labels: tuple[str, ...]
    many: bool
    split: str
    texts: Texts | None = None


def scaling(size: tuple[int, int]) -> Preprocess:
    """How a picture of any size becomes one of `size` = (height, width): what a trained network's `preprocess` does,
    too.
    """
    return Preprocess(Resize(size), transparency="white", mean=HALF, std=HALF)


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures of one size as (B, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()
