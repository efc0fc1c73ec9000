"""Write on from a prompt: the most likely token each time, a random one, or the best of several texts at once.

Every function asks of a network only what `Writer` says, so that one piece of code writes for all of them. Where
nothing is random it chooses what transformers' `generate` chooses.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.nn.cache import Cache
from vitrail.text.beams import beam_search
from vitrail.text.pieces import StopStrings
from vitrail.text.tokenizer import Tokenizer


class Writer(Protocol):
    """What decoding needs of a network; `vitrail.models.language_model.LanguageModel` is one."""

    tokenizer: Tokenizer | None

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""

    @property
    def context(self) -> int:
        """The most ids of text that it reads."""

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """What is known before any text."""

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """New ids (B, n) -> what they have become (B, n, D)."""

    def head(self, tokens: Tensor) -> Tensor:
        """(B, n, D) -> logits (B, n, V)."""


@dataclass(frozen=True)
class Decoding:
    """How a text is continued. Without `temperature` and with one beam, by the most likely token each time.

    Attributes:
        max_new_tokens: the most tokens that are added; a text that reaches the network's context ends there.
        num_beams: how many texts are written side by side, of which the most likely is taken.
        length_penalty: what a text's length is raised to before its log-probability is divided by it; above 0 favours
            longer texts. Wu et al. 2016 (1609.08144), §7, in transformers' form.
        early_stopping: when a search by beams is over: True, as soon as `num_beams` texts have ended; False, when an
            unfinished one as likely as it is now would not be among them; "never", when it could not even at its best.
        temperature: what the logits are divided by before a token is drawn; None or 0 draws none.
        top_k: draw from so many of the likeliest tokens; None for all. Fan et al. 2018 (1805.04833), §5.
        top_p: draw from the likeliest tokens that together have this probability; None for all. Holtzman et al. 2020
            (1904.09751), §3.1.
        repetition_penalty: a token that is there already has its logit (with beams, its log-probability) divided by it
            if positive and multiplied if negative; 1 for none. Keskar et al. 2019 (1909.05858), §4.1.
        stop: strings that end a text once it holds one; they need the network's tokenizer.
        seed: of what is drawn, on the CPU, so that it is the same wherever the network runs; None to draw from torch's
            own generator.

    Raises:
        UsageError: a number is out of its range, or two of them exclude each other.
    """

    max_new_tokens: int = 64
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UsageError(f"an answer has at least one token, not {self.max_new_tokens}")
        if self.num_beams < 1:
            raise UsageError(f"a search needs at least one beam, not {self.num_beams}")
        if not math.isfinite(self.length_penalty):
            raise UsageError(f"a length penalty is a number, not {self.length_penalty}")
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(f"early stopping is True, False or 'never', not {self.early_stopping!r}")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise UsageError(f"a temperature is 0 or above, not {self.temperature:g}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top-k keeps at least one token, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is a probability above 0 and at most 1, not {self.top_p:g}")
        if not 0 < self.repetition_penalty < math.inf:
            raise UsageError(f"a repetition penalty is above 0, not {self.repetition_penalty:g}")
        if not all(self.stop):
            raise UsageError("an empty text would stop every answer at once")
        if self.samples and self.num_beams > 1:
            raise UsageError("beams search and a temperature draws: give one of them")
        if not self.samples and (self.top_k, self.top_p) != (None, None):
            raise UsageError("top-k and top-p say what is drawn from: give a temperature above 0 with them")

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return bool(self.temperature)

    def choose(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (B, V) -> the ids that follow (B,)."""
        if not self.samples:
            return logits.argmax(-1)
        shares = self.drawn_from(logits).softmax(-1)
        return torch.multinomial(shares.cpu(), 1, generator=generator)[:, 0].to(logits.device)

    def drawn_from(self, logits: Tensor) -> Tensor:
        """Logits (B, V) float32 by temperature, and minus infinity for what top-k and then top-p leave out."""
        logits = logits / (self.temperature or 1.0)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        if self.top_p is not None and self.top_p < 1:
            likeliest, order = logits.sort(descending=True)
            shares = likeliest.softmax(-1)
            out = shares.cumsum(-1) - shares >= self.top_p  # what is likelier suffices; never so for the likeliest
            logits = logits.masked_fill(out.scatter(1, order, out), -math.inf)
        return logits


def left_pad(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts of several lengths as one batch: ids (B, N) int64 and mask (B, N) bool, False where `pad` fills up."""
    longest = max(map(len, prompts), default=0)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], dtype=torch.int64)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    return ids, torch.arange(longest) >= longest - lengths[:, None]


def generate(
    writer: Writer, pixels: Tensor | None, ids: Tensor, decoding: Decoding, mask: Tensor | None = None
) -> Tensor:
    """Prompts and their continuations.

    What stands behind the end of a row is the tokenizer's filler, or the network's first end where there is no
    tokenizer. So it is in transformers, but that its beams fill up with the end where the filler is token 0.

    Args:
        writer: the network.
        pixels: the pictures, as the network's `start` takes them; None for none.
        ids: the prompts (B, N) int64.
        decoding: how they are continued.
        mask: (B, N) bool, False where a shorter prompt is filled up, on its left, as `left_pad` does; None for nowhere.

    Returns:
        (B, N + n) int64: the prompts as they were, and what was written, with the end that was written.

    Raises:
        UsageError: a prompt is empty, ends in filling or leaves no room, or stop strings lack a tokenizer.
    """
    most, stops = _prepare(writer, ids, decoding, mask)
    ends = torch.tensor(writer.ends, dtype=torch.int64, device=ids.device)
    fill = writer.tokenizer.pad if writer.tokenizer else [*writer.ends, 0][0]

    def ended(written: Tensor) -> Tensor:
        """Texts (..., n) -> (...) bool."""
        here = torch.isin(written[..., -1], ends)
        return here | stops.reached(written) if stops else here

    if decoding.num_beams > 1:
        return torch.cat([ids, _search(writer, pixels, ids, decoding, mask, most, ended, fill)], 1)
    written = ids.new_full((len(ids), most), fill)
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    count = 0
    for chosen in _choices(writer, pixels, ids, decoding, mask, most):
        written[:, count] = torch.where(done, fill, chosen)
        count += 1
        done |= ended(written[:, :count])
        if done.all():
            break
    return torch.cat([ids, written[:, :count]], 1)


def stream(writer: Writer, pixels: Tensor | None, ids: Tensor, decoding: Decoding) -> Iterator[int]:
    """The ids of one continuation, each as soon as it is chosen, without the one that ends it.

    Args:
        writer: the network.
        pixels: the pictures, as the network's `start` takes them; None for none.
        ids: one prompt (1, N) int64.
        decoding: how it is continued.

    Raises:
        UsageError: as `generate`, and for several prompts or beams; at once, not with the first id.
    """
    if len(ids) != 1:
        raise UsageError(f"one text is written at a time as it is chosen, not {len(ids)}")
    if decoding.num_beams > 1:
        raise UsageError("beams choose a text when they are done: it cannot be shown as it is written")
    most, stops = _prepare(writer, ids, decoding, None)
    return _stream(_choices(writer, pixels, ids, decoding, None, most), frozenset(writer.ends), stops)


def _stream(choices: Iterator[Tensor], ends: frozenset[int], stops: StopStrings | None) -> Iterator[int]:
    written: list[int] = []
    for chosen in choices:
        token = int(chosen)
        if token in ends:
            return
        yield token
        if stops:
            written = [*written, token][-stops.window :]
            if stops.found(written):
                return


class _Reading:
    """Texts that are being written: what the network remembers of them, and which tokens they have already."""

    def __init__(
        self, writer: Writer, pixels: Tensor | None, ids: Tensor, mask: Tensor | None, decoding: Decoding
    ) -> None:
        self.writer, self.penalty = writer, decoding.repetition_penalty
        self.cache = writer.start(pixels, len(ids))
        self.logits = self._logits(ids, mask)
        self.seen: Tensor | None = None
        if self.penalty != 1:
            size = self.logits.shape[1]
            real = ids < size if mask is None else (ids < size) & mask
            seen = torch.zeros(len(ids), size + 1, dtype=torch.bool, device=ids.device)
            self.seen = seen.scatter_(1, torch.where(real, ids, size), True)[:, :size]

    def read(self, chosen: Tensor) -> None:
        """Go on with these ids (B,)."""
        self.logits = self._logits(chosen[:, None], None)
        if self.seen is not None:
            self.seen[torch.arange(len(chosen), device=chosen.device), chosen] = True

    def penalised(self, scores: Tensor) -> Tensor:
        """Scores (B, V) of what comes next, less for what is there already."""
        if self.seen is None:
            return scores
        less = torch.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return torch.where(self.seen, less, scores)

    def select(self, rows: Tensor) -> None:
        """Keep these texts (R,) int64, in this order; one may be there several times."""
        self.cache.select(rows)
        self.logits = self.logits[rows]
        if self.seen is not None:
            self.seen = self.seen[rows]

    def _logits(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Of what comes next, (B, V) float32."""
        return self.writer.head(self.writer.read(ids, self.cache, mask)[:, -1:])[:, 0].float()


@torch.no_grad()
def _choices(
    writer: Writer, pixels: Tensor | None, ids: Tensor, decoding: Decoding, mask: Tensor | None, most: int
) -> Iterator[Tensor]:
    """The ids that follow, (B,) each time, up to `most` times."""
    generator = None if decoding.seed is None else torch.Generator().manual_seed(decoding.seed)
    reading = _Reading(writer, pixels, ids, mask, decoding)
    for count in range(most):
        chosen = decoding.choose(reading.penalised(reading.logits), generator)
        yield chosen
        if count + 1 < most:
            reading.read(chosen)


@torch.no_grad()
def _search(
    writer: Writer,
    pixels: Tensor | None,
    ids: Tensor,
    decoding: Decoding,
    mask: Tensor | None,
    most: int,
    ended: Callable[[Tensor], Tensor],
    fill: int,
) -> Tensor:
    """The best continuations by beams, (B, n)."""
    reading = _Reading(writer, pixels, ids, mask, decoding)

    def likelihoods() -> Tensor:
        return reading.penalised(reading.logits.log_softmax(-1))

    def go_on(rows: Tensor, chosen: Tensor) -> Tensor:
        reading.select(rows)
        reading.read(chosen)
        return likelihoods()

    return beam_search(
        likelihoods(),
        go_on,
        ended,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        early_stopping=decoding.early_stopping,
        candidates=max(2, 1 + len(writer.ends)) * decoding.num_beams,
        most=most,
        fill=fill,
    )


def _prepare(writer: Writer, ids: Tensor, decoding: Decoding, mask: Tensor | None) -> tuple[int, StopStrings | None]:
    """How many tokens may be added, and what stops the texts besides their ends; UsageError for what cannot be."""
    if ids.ndim != 2 or not ids.numel():
        raise UsageError(f"prompts are ids (B, N) with at least one token each, not of shape {tuple(ids.shape)}")
    if mask is not None and (mask.shape != ids.shape or not mask[:, -1].all()):
        raise UsageError("prompts are filled up on their left, and the mask, of their shape, says where")
    room = writer.context - ids.shape[1]
    if room < 1:
        raise UsageError(
            f"a prompt of {ids.shape[1]} tokens leaves no room to answer: this network reads {writer.context}"
        )
    if not decoding.stop:
        return min(decoding.max_new_tokens, room), None
    if writer.tokenizer is None:
        raise UsageError("strings that stop a text need a network with a tokenizer, which this one lacks")
    return min(decoding.max_new_tokens, room), StopStrings(decoding.stop, writer.tokenizer)
