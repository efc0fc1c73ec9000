"""Streamed ids become whole characters, and a text stops where it is told to."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from tests.text.odd import ODD
from vitrail.text.pieces import StopStrings, stream_text
from vitrail.text.tokenizer import Tokenizer


@cache
def of_bytes():
    """A tokenizer that knows no words: each byte is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({"<end>": 0, **{letter: 1 + place for place, letter in enumerate(letters)}}, []))
    backend.add_special_tokens(["<end>"])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, context=9, pad=0, fixed=False)


def of_sentencepiece():
    """Words with a mark for the space before, bytes for what is unknown, and no space at the start: as LLaMA's."""
    words = ["<s>", "▁a", "▁cat", "s", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Backend(models.BPE({word: place for place, word in enumerate(words)}, []))
    backend.add_special_tokens(["<s>"])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(backend, context=9, pad=0, fixed=False)


def of_wordpiece():
    words = ["[PAD]", "a", "cat", "##s", ".", "n", "'", "t"]
    backend = Backend(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[PAD]"))
    backend.decoder = decoders.WordPiece(prefix="##")
    return Tokenizer(backend, context=9, pad=0, fixed=False)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_pieces_are_whole_characters(text):
    tokenizer = of_bytes()
    pieces = list(stream_text(tokenizer.plain(text), tokenizer))
    assert "".join(pieces) == text
    assert all(pieces)
    assert all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)
    assert len(pieces) == len(text)


@pytest.mark.parametrize("text", ODD[:-3])
def test_odd_texts(text):
    assert "".join(stream_text(iter(of_bytes().plain(text)), of_bytes())) == text


def test_bytes_that_are_no_characters():
    tokenizer = of_bytes()
    cat = tokenizer.plain("猫")
    broken = [*cat[:2], *cat, cat[0], *tokenizer.plain("a"), *cat[:1]]
    assert "".join(stream_text(broken, tokenizer)) == tokenizer.backend.decode(broken) == "\ufffd猫\ufffda\ufffd"


@settings(deadline=None)
@given(st.sampled_from([of_sentencepiece(), of_wordpiece()]), st.data())
def test_other_kinds_of_tokens(tokenizer, data):
    """Together the pieces are what the tokenizer makes of all ids; bytes in a row are at most two characters here."""
    tokens = st.lists(st.integers(0, min(7, tokenizer.backend.get_vocab_size() - 1)), max_size=12)
    ids = data.draw(tokens)
    assert "".join(stream_text(ids, tokenizer)) == tokenizer.backend.decode(ids)


def test_characters_that_come_in_bytes_between_words():
    tokenizer = of_sentencepiece()
    ids = [0, 1, *(5 + byte for byte in "猫é".encode()), 2, 3, 4, *(5 + byte for byte in "狗".encode())]
    assert list(stream_text(ids, tokenizer)) == ["a", "猫", "é", " cat", "s", " ", "狗"]


def test_a_piece_comes_as_soon_as_it_is_whole():
    def ids():
        for place, token in enumerate(of_bytes().plain("a猫b")):
            read.append(place)
            yield token

    read: list[int] = []
    assert [(piece, len(read)) for piece in stream_text(ids(), of_bytes())] == [("a", 1), ("猫", 4), ("b", 5)]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("cat\nUser: dog", ("\nUser:",), "cat"),
        ("cat\nUse it", ("\nUser:",), "cat\nUse it"),
        ("cat\nUser", ("\nUser:",), "cat\nUser"),
        ("aab", ("ab",), "a"),
        ("one。two", ("。", "two"), "one"),
        ("stop", ("stop",), ""),
        ("abcd", ("cd", "bcd"), "a"),
        ("no stop", (), "no stop"),
    ],
)
def test_stop_strings_are_no_part_of_the_text(text, stop, expected):
    assert "".join(stream_text(of_bytes().plain(text), of_bytes(), stop)) == expected


def test_nothing_is_read_behind_a_stop_string():
    ids = iter(of_bytes().plain("a.bc"))
    assert list(stream_text(ids, of_bytes(), (".b",))) == ["a"]
    assert of_bytes().decode(list(ids)) == "c"


def test_texts_that_have_come_to_a_stop_string():
    stops = StopStrings(["。", "stop"], of_bytes())
    texts = [of_bytes().plain(text)[-6:] for text in ("a cat。", "a stop", "nonstop", "a stoop", "a 猫, 狗")]
    assert stops.reached(torch.tensor([[texts[0], texts[1]], [texts[2], texts[3]]])).tolist() == [
        [True, True],
        [True, False],
    ]
    assert not stops.found(texts[4])
    assert stops.found(of_bytes().plain("a very long text before the stop"))
    assert not stops.found(of_bytes().plain("stop, and a text behind it"))
