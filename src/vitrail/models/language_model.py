"""What networks that write have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.models.model import Model
from vitrail.nn.cache import Cache
from vitrail.text.decoding import Decoding, generate, stream


@dataclass(frozen=True)
class Turn:
    """Something said in a conversation.

    Attributes:
        text: what is said; "" by the user asks for a caption of the pictures.
        pictures: how many pictures are shown just before it.
        by: "user" or "model".
    """

    text: str
    pictures: int = 0
    by: str = "user"


@dataclass(frozen=True)
class Prompt:
    """What a network goes on from.

    Attributes:
        pixels: (1, C, H, W), or (1, P, C, H, W) for a family that reads several pictures; None for none.
        ids: (1, N) int64.
    """

    pixels: Tensor | None
    ids: Tensor


class LanguageModel(Model):
    """A network that goes on with a text, after pictures or without.

    A family gives `start`, `read` and `head`; here is what users call.

    Attributes:
        head: what a token has become -> logits of the next one.
        ends: the ids that end a text.
        stop: strings that end an answer, and are no part of it.
        most_pictures: how many pictures a conversation may show; None for any number.
    """

    reads: ClassVar[bool] = True
    head: nn.Module
    stop: tuple[str, ...] = ()
    most_pictures: ClassVar[int | None] = 1

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        raise NotImplementedError

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """What the network knows before it reads any text: the pictures.

        Args:
            pixels: prepared pictures (B, C, H, W), or (B, P, C, H, W) for a family that reads several; None for none.
            rows: B, where there are no pictures.

        Raises:
            UsageError: the family does not read so many pictures, or needs one.
        """
        raise NotImplementedError

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """Read on: new ids (B, n) int64 -> what they have become, (B, n, D); the cache then holds them, too.

        Args:
            ids: the new tokens.
            cache: what `start` gave, and `read` has added to.
            mask: (B, n) bool, False where a shorter text of the batch is filled up, on its left.

        Raises:
            ValueError: the text is longer than the network's context.
        """
        raise NotImplementedError

    def forward(self, pixels: Tensor | None, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pictures, as `start` takes them, and ids (B, N) -> logits of what comes after each token (B, N, V)."""
        return self.head(self.read(ids, self.start(pixels, len(ids)), mask))

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """A conversation as this network was trained to read it, up to where its answer begins.

        Args:
            turns: what was said, the user's first and last.
            pictures: those the turns show, in order.
            language: "en" or "zh", where the network can choose.

        Raises:
            UsageError: the network cannot do this: it writes captions only, or reads one picture, or not this language.
        """
        raise NotImplementedError

    def generate(
        self, pixels: Tensor | None, prompt_ids: Tensor, decoding: Decoding | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        """To be written with the rest of `vitrail.text.decoding`."""
        return generate(self, pixels, prompt_ids, decoding or Decoding(), mask)

    def stream(self, pixels: Tensor | None, prompt_ids: Tensor, decoding: Decoding | None = None) -> Iterator[int]:
        """To be written with the rest of `vitrail.text.decoding`."""
        return stream(self, pixels, prompt_ids, decoding or Decoding())

    def _no_pictures(self, pixels: Tensor | None, rows: int, layers: int) -> Cache:
        """`start` of a family that reads text alone."""
        if pixels is not None:
            raise UsageError(f"{self.family} reads no pictures")
        return Cache(layers)
