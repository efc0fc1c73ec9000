"""What a source of training data is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.imaging.preprocess import HALF, Preprocess, Resize
from vitrail.models.language_model import Turn


@dataclass(frozen=True)
class Talk:
    """A conversation.

    Attributes:
        turns: the user's and the model's, in order.
        language: "en" or "zh".
    """

    turns: tuple[Turn, ...]
    language: str


class Batch(TypedDict):
    """Some pictures and what they show.

    Attributes:
        images: (B, 3, H, W) uint8, RGB.
        targets: (B,) int64, the number of each picture's class; or (B, classes) float32 of 0 and 1, where a picture
            shows several; or (B, K) int64, the numbers of the answers to K questions (see `Quiz`).
        numbers: (B,) int64, which pictures of a test they are; added by the loop.
        texts: B texts, one said of each picture, where the data is of pictures with texts. There `targets` are numbers
            that are the same for pictures of the same thing, and no others.
        talks: conversations about each picture, where the data is of such; in the test one, that lacks its answer, and
            `targets` are the numbers of `Talks.tests`.
        videos: (B, 3, T, H, W) uint8, RGB, where a film comes with each picture; `targets` are then (B, senses) int64,
            the numbers of the classes of each of `Data.senses`, in order.
        sounds: (B, S) float32 in [-1, 1], where a sound does.
        shown: (B, 3, H', W') uint8, in a test: what a sheet of samples shows in the place of `images`.
    """

    images: Tensor
    targets: Tensor
    numbers: NotRequired[Tensor]
    texts: NotRequired[list[str]]
    talks: NotRequired[list[list[Talk]]]
    videos: NotRequired[Tensor]
    sounds: NotRequired[Tensor]
    shown: NotRequired[Tensor]


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


CAPTION = "caption"
"""The kind of a request for a description, beside the kinds of questions."""


@dataclass(frozen=True)
class Asked:
    """Something that a test asks about a picture.

    Attributes:
        talk: the conversation up to there.
        kind: of question, "how many"; or `CAPTION`.
        answers: what is right: one answer, or all captions.
        majority: the answer that is given most often in training to questions of this kind in this language.
    """

    talk: Talk
    kind: str
    answers: tuple[str, ...]
    majority: str


@dataclass(frozen=True)
class Talks:
    """What is said about pictures in conversations.

    Attributes:
        corpus: gives the texts of training, for a tokenizer to be trained from.
        vocabulary: how many different tokens that may have.
        tests: everything that the test asks, in the order of its pictures.
    """

    corpus: Callable[[], Iterator[str]]
    vocabulary: int
    tests: Sequence[Asked]


@dataclass(frozen=True)
class Quiz:
    """What is asked where each picture comes with questions that have one answer each.

    A batch's `targets` are (B, K), a column for each kind of question in each language: the number of the answer's
    label, or below zero where it has none. Its `texts` are the B · K questions, picture by picture, "" where a picture
    is not asked that.

    Attributes:
        corpus: gives questions of training, for a tokenizer to be trained from.
        vocabulary: how many different tokens that may have.
        columns: the K kinds, each with its language: ("how many", "en").
        majority: the number of the commonest answer to each in training.
    """

    corpus: Callable[[], Iterator[str]]
    vocabulary: int
    columns: tuple[tuple[str, str], ...]
    majority: tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """A picture that a test asks for.

    Attributes:
        prompt: what is asked.
        language: "en" or "zh".
        concept: the number of the concept that it should show.
        part: of the test, by a name for the scores: "unseen" or "seen".
    """

    prompt: str
    language: str
    concept: int
    part: str


@dataclass(frozen=True)
class Prompts:
    """What is asked for where pictures are made from texts.

    Attributes:
        corpus: gives the prompts of training, for a tokenizer to be trained from.
        vocabulary: how many different tokens that may have.
        names: by language, what each concept is called.
        tests: everything that the test asks for, in the order of its pictures.
    """

    corpus: Callable[[], Iterator[str]]
    vocabulary: int
    names: Mapping[str, Sequence[str]]
    tests: Sequence[Wanted]


@dataclass(frozen=True)
class Data:
    """What a network is trained and tested on.

    Attributes:
        train, test: the pictures.
        labels: a name for each class.
        many: whether a picture may show several classes at once.
        mapped: whether `targets` say of every pixel what it shows, (B, H, W).
        split: what the score on `test` is a score on: "unseen style noto".
        texts: what is said of the pictures; None where they come with classes alone.
        quiz: the questions about the pictures; None where there are none.
        talks: the conversations about the pictures; None where there are none.
        prompts: what the pictures are asked for by; None where they are not.
        senses: where films and sounds come with the pictures, the numbers of the classes of each: "picture", "video"
            and "sound".
    """

    train: Source
    test: Source
    labels: tuple[str, ...]
    many: bool
    split: str
    texts: Texts | None = None
    quiz: Quiz | None = None
    talks: Talks | None = None
    prompts: Prompts | None = None
    mapped: bool = False
    senses: Mapping[str, range] | None = None


def scaling(size: tuple[int, int]) -> Preprocess:
    """How a picture of any size becomes one of `size` = (height, width): what a trained network's `preprocess` does,
    too.
    """
    return Preprocess(Resize(size), transparency="white", mean=HALF, std=HALF)


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W), uint8 or float32 in [0, 1] -> float32 in [-1, 1], as `scaling(size)` does it."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    return (images - 0.5) / 0.5


def to_tensor(pictures: Sequence[Image.Image | np.ndarray]) -> Tensor:
    """RGB pictures of one size, arrays (H, W, 3) uint8 or PIL's, as (B, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()
