"""From texts to the numbers of their tokens, as a batch that a network reads."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from tokenizers import Tokenizer as Backend
from torch import Tensor

from vitrail.errors import UsageError


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A checkpoint's tokenizer, and how it fills a batch. It never changes, so that threads may share it.

    Attributes:
        backend: splits a text into tokens and puts the special ones around it. Unless it cuts and fills up as the rest
            says already, it is a copy of what was given that does.
        context: the most tokens a text has, special ones included; what is longer is cut, special ones stay.
        pad: the number that fills up what is shorter.
        fixed: whether every text is filled up to `context`, or only to the longest of its batch.

    Raises:
        ValueError: `context` has no room for a token of the text, or there is no token `pad`.
    """

    backend: Backend
    context: int
    pad: int
    fixed: bool = True

    def __post_init__(self) -> None:
        special = self.backend.num_special_tokens_to_add(is_pair=False)
        if self.context <= special:
            raise ValueError(f"a context of {self.context} tokens has no room beside {special} special ones")
        filler = self.backend.id_to_token(self.pad) if self.pad >= 0 else None
        if filler is None:
            raise ValueError(f"there is no token {self.pad} to fill up with")
        length = self.context if self.fixed else None
        cut, fill = self.backend.truncation or {}, self.backend.padding or {}
        said = (
            cut.get("max_length"),
            cut.get("direction"),
            *(fill.get(key) for key in ("pad_id", "length", "direction")),
        )
        if said != (self.context, "right", self.pad, length, "right"):
            backend = copy.deepcopy(self.backend)
            backend.enable_truncation(self.context)
            backend.enable_padding(pad_id=self.pad, pad_token=filler, length=length)
            object.__setattr__(self, "backend", backend)

    def filled_with(self, pad: int) -> "Tokenizer":
        """The same, but that it fills up with this token, and finds it in texts as a special one, as transformers does.

        Raises:
            ValueError: there is no such token.
        """
        filled = replace(self, pad=pad)
        backend = copy.deepcopy(filled.backend)
        backend.add_special_tokens([backend.id_to_token(pad)])
        return replace(filled, backend=backend)

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Texts -> ids (B, N) int64, filled up on the right; one text is a batch of one.

        Raises:
            UsageError: something is no text, or is half a character (a lone surrogate).
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        try:
            encoded = self.backend.encode_batch_fast(texts)
        except TypeError:
            odd = next(text for text in texts if not _is_text(text))
            raise UsageError(f"{odd!r:.200} is no text, or not one in Unicode's characters") from None
        if not encoded:
            return torch.empty(0, self.context if self.fixed else 0, dtype=torch.int64)
        return torch.tensor([text.ids for text in encoded])

    def plain(self, text: str) -> list[int]:
        """The ids of a text as it stands, of any length: nothing around it, nothing cut, nothing filled up.

        What a prompt is put together of. Special tokens that are spelled out in the text are found.

        Raises:
            UsageError: it is no text, or is half a character (a lone surrogate).
        """
        if not _is_text(text):
            raise UsageError(f"{text!r:.200} is no text, or not one in Unicode's characters")
        return self._uncut.encode(text, add_special_tokens=False).ids

    @cached_property
    def _uncut(self) -> Backend:
        backend = copy.deepcopy(self.backend)
        backend.no_truncation()
        backend.no_padding()
        return backend

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of one row of ids, without special tokens and without what fills it up."""
        ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        while ids and ids[-1] == self.pad:  # which may be a token of texts, too: "!" in open_clip's CLIP
            ids.pop()
        return self.backend.decode(ids)

    def to_json(self) -> str:
        """All of it in the form of a tokenizer.json, which has words for cutting and filling up."""
        return self.backend.to_str()

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """What `to_json` wrote.

        Raises:
            ValueError: it is no tokenizer.json, or one that does not say how texts are cut and filled up.
        """
        backend = parse_backend(text)
        cut, fill = backend.truncation, backend.padding
        if cut is None or fill is None:
            raise ValueError("it does not say how texts are cut and filled up")
        return cls(backend, cut["max_length"], fill["pad_id"], fill["length"] is not None)


def token_ids(texts: str | Sequence[str] | Tensor, tokenizer: Tokenizer | None) -> Tensor:
    """Texts, or what are their ids (B, N) already, -> these.

    Raises:
        UsageError: they are texts and there is no tokenizer, or what the tokenizer raises.
    """
    if isinstance(texts, Tensor):
        return texts
    if tokenizer is None:
        raise UsageError("this network has no tokenizer: give it token ids, or set its `tokenizer`")
    return tokenizer(texts)


def parse_backend(text: str) -> Backend:
    """The tokenizer that a tokenizer.json describes.

    Raises:
        ValueError: it describes none.
    """
    try:
        return Backend.from_str(text)
    except Exception as error:  # `tokenizers` knows no narrower one
        raise ValueError(f"its tokenizer.json cannot be read ({error})") from None


def _is_text(thing: object) -> bool:
    try:
        return isinstance(thing, str) and thing.encode() is not None
    except UnicodeEncodeError:
        return False
