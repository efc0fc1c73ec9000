"""What networks that write have in common."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
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


CAPTION = {"en": "describe the picture", "zh": "描述图片"}
"""What a request for a caption is read as, by networks that are taught here."""


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
        context: the most ids of text it reads.
        stop: strings that end an answer, and are no part of it.
        opening: ids that stand between what `transcript` makes of a question and its answer.
        most_pictures: how many pictures a conversation may show; None for any number.
    """

    reads: ClassVar[bool] = True
    head: nn.Module
    stop: tuple[str, ...] = ()
    opening: tuple[int, ...] = ()
    most_pictures: int | None = 1

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        raise NotImplementedError

    @property
    def context(self) -> int:
        """The most ids of text that the network reads, prompt and answer together; a config's `context` unless said."""
        return self.config.context

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

    def transcript(self, turns: Sequence[Turn], language: str = "en") -> tuple[list[int], list[bool]]:
        """A conversation as ids, and which of them the network is to say: what it is taught by.

        Raises:
            UsageError: networks of this family are not taught here, or not this language.
        """
        raise UsageError(f"{self.family} is not taught by conversations")

    def _spelled(self, turns: Sequence[Turn], before: Callable[[Turn], list[int]]) -> tuple[list[int], list[bool]]:
        """`transcript` of turns that follow each other, each behind what `before` gives, each answer with its end.

        Raises:
            UsageError: there is no tokenizer.
        """
        if self.tokenizer is None:
            raise UsageError("this network has no tokenizer: set its `tokenizer`")
        ids: list[int] = []
        said: list[bool] = []
        for turn in turns:
            opening, answer = before(turn), turn.by == "model"
            words = [*self.tokenizer.plain(turn.text), *(self.ends[:1] if answer else ())]
            ids += [*opening, *words]
            said += [False] * len(opening) + [answer] * len(words)
        return ids, said

    def _asked(self, turns: Sequence[Turn], language: str) -> list[Turn]:
        """The turns, with a request for a caption in words.

        Raises:
            UsageError: networks that are taught here do not speak this language.
        """
        if language not in CAPTION:
            raise UsageError(f"{self.family} speaks {' and '.join(CAPTION)}, not {language}")
        return [turn if turn.text else replace(turn, text=CAPTION[language]) for turn in turns]

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
        self,
        pixels: Tensor | None,
        prompt_ids: Tensor,
        *,
        max_new_tokens: int = 64,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] = False,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Go on with prompts: (B, N) int64 -> prompts and continuations (B, N + n), which end with their end.

        A row that ended is filled up with the tokenizer's filler, or the first end where there is no tokenizer. A text
        that reaches the network's context ends there.

        Args:
            pixels: the pictures, as `start` takes them; None for none.
            prompt_ids: the prompts; shorter ones are filled up on their left, as `vitrail.text.decoding.left_pad` does.
            max_new_tokens: as `vitrail.text.decoding.Decoding` explains them, like all that follow.
            num_beams: more than one to search for the most likely text.
            length_penalty: with beams, above 0 for longer texts.
            early_stopping: with beams, when the search is over.
            temperature: above 0 to draw tokens.
            top_k: how many of the likeliest tokens are drawn from.
            top_p: how likely those are together.
            repetition_penalty: above 1 against tokens that are there already.
            stop: strings that end a text; a family's own are its `stop`. What was written ends with the string.
            seed: of what is drawn.
            mask: (B, N) bool, False where a prompt is filled up; None for nowhere.

        Raises:
            UsageError: a number is out of its range or two exclude each other; a prompt is empty or leaves no room to
                answer; there are stop strings and no tokenizer; the pictures are not what the network reads.
        """
        decoding = Decoding(
            max_new_tokens,
            num_beams,
            length_penalty,
            early_stopping,
            temperature,
            top_k,
            top_p,
            repetition_penalty,
            tuple(stop),
            seed,
        )
        return generate(self, pixels, prompt_ids, decoding, mask)

    def stream(
        self,
        pixels: Tensor | None,
        prompt_ids: Tensor,
        *,
        max_new_tokens: int = 64,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[int]:
        """Go on with one prompt (1, N): the ids as they are chosen, those that `generate` writes, without the end.

        `vitrail.text.pieces.stream_text` makes text of them. Arguments and errors as `generate` has them.
        """
        decoding = Decoding(
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            stop=tuple(stop),
            seed=seed,
        )
        return stream(self, pixels, prompt_ids, decoding)

    def _text_prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], begin: Sequence[int]) -> Prompt:
        """`prompt` of a family that reads text alone and was taught no form of conversation: a turn a line.

        Args:
            turns: what was said.
            pictures: none.
            begin: the ids that a text begins with.
        """
        if pictures or any(turn.pictures for turn in turns):
            raise UsageError(f"{self.family} reads no pictures")
        if self.tokenizer is None:
            raise UsageError("a prompt needs a network with a tokenizer, which this one lacks")
        return Prompt(None, torch.tensor([[*begin, *self.tokenizer.plain("\n".join(turn.text for turn in turns))]]))

    def _no_pictures(self, pixels: Tensor | None, rows: int, layers: int) -> Cache:
        """`start` of a family that reads text alone."""
        if pixels is not None:
            raise UsageError(f"{self.family} reads no pictures")
        return Cache(layers)
