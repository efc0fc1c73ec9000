"""Ids that come one by one, as text: whole characters, up to a string that stops it."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vitrail.text.tokenizer import Tokenizer

_HALF = "\ufffd"  # what a decoder writes for bytes that are no character, or not one yet


class StopStrings:
    """Whether texts have come to a string that stops them.

    Args:
        strings: those that do.
        tokenizer: makes text of ids.

    Attributes:
        window: how many of a text's last ids may have a part in such a string.
    """

    def __init__(self, strings: Sequence[str], tokenizer: Tokenizer) -> None:
        self.strings, self.tokenizer = tuple(strings), tokenizer
        self.window = 1 + max(len(string.encode()) for string in strings)  # a token is a byte at least; one before

    def found(self, ids: Sequence[int]) -> bool:
        """Whether the last ids hold one."""
        text = self.tokenizer.backend.decode(ids[-self.window :])
        return any(string in text for string in self.strings)

    def reached(self, texts: Tensor) -> Tensor:
        """Texts (..., n) -> (...) bool."""
        last = texts[..., -self.window :]
        found = [self.found(ids) for ids in last.flatten(0, -2).tolist()]
        return torch.tensor(found, device=texts.device).view(texts.shape[:-1])


def stream_text(ids: Iterable[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """A text in pieces, as its ids come: never half a character, nothing from a stop string on.

    Tokens of bytes cut characters in two, most Chinese ones among them; their halves wait for the rest. So does what
    may become a stop string. The pieces together are what the tokenizer makes of all ids, before the first stop string.

    Args:
        ids: of what is written, as `LanguageModel.stream` gives them, or a row that was written.
        tokenizer: makes text of them.
        stop: strings that end the text, and are no part of it.
    """
    waiting = ""
    for piece in _whole(ids, tokenizer):
        waiting += piece
        places = [place for string in stop if (place := waiting.find(string)) >= 0]
        if places:
            if text := waiting[: min(places)]:
                yield text
            return
        ready = len(waiting) - max((_begun(waiting, string) for string in stop), default=0)
        if ready:
            yield waiting[:ready]
            waiting = waiting[ready:]
    if waiting:
        yield waiting


def _whole(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Pieces of text, in whole characters."""
    before: list[int] = []  # the last piece's: they tell the decoder that what comes does not begin the text
    held: list[int] = []  # those since, whose text may change with the next one
    text, said = "", 0  # what they say together, and how much of it was given
    for token in ids:
        held.append(token)
        text = tokenizer.backend.decode(before + held)
        whole = text.rstrip(_HALF)
        if len(whole) > said:
            yield whole[said:]
            said = len(whole)
        if whole == text and (last := tokenizer.backend.decode(held)):
            before, held, said = held, [], len(last)
    if held and len(text) > said:
        yield text[said:]


def _begun(text: str, string: str) -> int:
    """How many characters at the end of `text` begin `string`."""
    return next((size for size in range(len(string) - 1, 0, -1) if text.endswith(string[:size])), 0)
