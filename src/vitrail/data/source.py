"""What a source of training data is."""

from dataclasses import dataclass
from typing import Protocol, TypedDict

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
    """

    images: Tensor
    targets: Tensor


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
class Data:
    """What a network is trained and tested on.

    Attributes:
        train, test: the pictures.
        labels: a name for each class.
        many: whether a picture may show several classes at once.
        split: what the score on `test` is a score on: "unseen style noto".
    """

    train: Source
    test: Source
    labels: tuple[str, ...]
    many: bool
    split: str


def scaling(size: tuple[int, int]) -> Preprocess:
    """How a picture of any size becomes one of `size` = (height, width): what a trained network's `preprocess` does,
    too.
    """
    return Preprocess(Resize(size), transparency="white", mean=HALF, std=HALF)


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures of one size as (B, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()
