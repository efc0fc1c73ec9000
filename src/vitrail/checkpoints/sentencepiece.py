"""Read a sentencepiece model, "spiece.model", as far as a unigram tokenizer needs it.

The file is a protobuf message, whose fields are numbered as in sentencepiece_model.proto of the sentencepiece project.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # of ModelProto
_PIECE, _SCORE = 1, 2  # of SentencePiece
_MODEL_TYPE, _UNKNOWN = 3, 40  # of TrainerSpec
_CHARACTERS = 2  # of NormalizerSpec: precompiled_charsmap
_UNIGRAM = 1


@dataclass(frozen=True)
class SentencePiece:
    """A unigram vocabulary.

    Attributes:
        pieces: each piece and its log probability, in the order of their ids.
        unknown: the id that stands for what no piece covers.
        characters: what becomes of characters before they are cut into pieces, compiled; b"" where nothing does.
    """

    pieces: list[tuple[str, float]]
    unknown: int
    characters: bytes


def read_sentencepiece(model: bytes) -> SentencePiece:
    """The vocabulary in a sentencepiece model.

    Raises:
        ValueError: it is none, or not of the unigram kind.
    """
    try:
        fields = list(_fields(model))
        messages = {number: dict(_fields(value)) for number, value in fields if number in (_TRAINER, _NORMALIZER)}
        pieces = [dict(_fields(value)) for number, value in fields if number == _PIECES]
        words = [(piece[_PIECE].decode(), struct.unpack("<f", piece.get(_SCORE, bytes(4)))[0]) for piece in pieces]
    except (IndexError, KeyError, AttributeError, TypeError, UnicodeDecodeError, struct.error):
        raise ValueError("its sentencepiece model is damaged") from None
    trainer = messages.get(_TRAINER, {})
    if trainer.get(_MODEL_TYPE, _UNIGRAM) != _UNIGRAM:
        raise ValueError("its sentencepiece model is not of the unigram kind")
    return SentencePiece(words, trainer.get(_UNKNOWN, 0), messages.get(_NORMALIZER, {}).get(_CHARACTERS, b""))


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int, or the bytes of a text, a message or a float."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None and kind == 2:
            length, place = _varint(message, place)
        if length is None or place + length > len(message):
            raise IndexError
        yield number, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A whole number in groups of seven bits, the lowest first, and the place behind it."""
    number = shift = 0
    while True:
        byte = message[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
