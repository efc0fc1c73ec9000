"""Write on from a prompt, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vitrail.nn.cache import Cache


class Writer(Protocol):
    """What decoding needs of a network; `vitrail.models.language_model.LanguageModel` is one."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """What is known before any text."""

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """New ids (B, n) -> what they have become (B, n, D)."""

    def head(self, tokens: Tensor) -> Tensor:
        """(B, n, D) -> logits (B, n, V)."""


@dataclass(frozen=True)
class Decoding:
    """How a text is continued.

    Attributes:
        max_new_tokens: the most tokens that are added.
    """

    max_new_tokens: int = 64


def generate(
    writer: Writer, pixels: Tensor | None, ids: Tensor, decoding: Decoding, mask: Tensor | None = None
) -> Tensor:
    """Prompts (B, N) -> prompts and continuations (B, N + n); after its end a row is filled up with the first end."""
    ends = torch.tensor(writer.ends, device=ids.device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    with torch.no_grad():
        cache, new = writer.start(pixels, len(ids)), ids
        for _ in range(decoding.max_new_tokens):
            logits = writer.head(writer.read(new, cache, mask)[:, -1:])[:, 0]
            mask = None
            chosen = torch.where(done, ends[0], logits.argmax(-1))
            ids = torch.cat([ids, chosen[:, None]], 1)
            done |= torch.isin(chosen, ends)
            if done.all():
                break
            new = chosen[:, None]
    return ids


def stream(writer: Writer, pixels: Tensor | None, ids: Tensor, decoding: Decoding) -> Iterator[int]:
    """The tokens of one continuation, each as soon as it is chosen, without the one that ends it."""
    with torch.no_grad():
        cache, new = writer.start(pixels, 1), ids
        for _ in range(decoding.max_new_tokens):
            logits = writer.head(writer.read(new, cache)[:, -1:])[:, 0]
            new = logits.argmax(-1)[:, None]
            if int(new) in writer.ends:
                return
            yield int(new)
