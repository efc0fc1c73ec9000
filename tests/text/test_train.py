"""A tokenizer of our own: the same from the same texts, and nothing is unknown to it."""

import dataclasses
import random
import subprocess
import sys
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import UsageError
from vitrail.text.train import train_tokenizer

ENGLISH = ["a red apple left of a dog", "two green frogs", "a smiling face with sunglasses", "three bananas and a cat"]
CHINESE = ["一个红苹果在狗的左边", "两只绿色的青蛙", "戴墨镜的笑脸", "三根香蕉和一只猫"]


def captions(count=300):
    dice = random.Random(0)
    return [dice.choice(ENGLISH + CHINESE) for _ in range(count)]


TOKENIZER = train_tokenizer(captions(), 400, 32)
END = TOKENIZER.backend.token_to_id("<end>")
WIDE = dataclasses.replace(TOKENIZER, context=500, fixed=False)


def test_the_same_texts_give_the_same_tokenizer():
    assert train_tokenizer(captions(), 400, 32).to_json() == TOKENIZER.to_json()
    assert train_tokenizer(iter(captions()), 400, 32).to_json() == TOKENIZER.to_json()
    script = (
        "from vitrail.text.train import train_tokenizer; import sys, random; dice = random.Random(0)\n"
        f"texts = {ENGLISH + CHINESE!r}\n"
        "made = train_tokenizer([dice.choice(texts) for _ in range(300)], 400, 32).to_json()\n"
        "sys.stdout.buffer.write(made.encode())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert elsewhere.stdout.decode() == TOKENIZER.to_json()


@pytest.mark.parametrize(
    "text", [*ENGLISH, *CHINESE, "a cat 在 the 石头 上", "猫 cat", "2 dogs, 3 frogs!", "青蛙，和狗。"]
)
def test_texts_come_back(text):
    assert TOKENIZER.decode(TOKENIZER(text)[0]) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=60))  # Python and Rust know other new letters
def test_any_text_comes_back_in_lower_case(text):
    read = WIDE.decode(WIDE(text)[0])
    plain = "".join(letter.lower() for letter in unicodedata.normalize("NFC", text))
    assert "".join(read.split()) == "".join(plain.split())
    assert read == read.strip(" ")


def test_ids_are_those_that_configs_name():
    ids = TOKENIZER("a dog")
    assert ids.shape == (1, 32)
    assert ids[0, 0] == 1
    assert int(ids.argmax()) == int((ids != 0).sum()) - 1  # "<end>", and then nothing
    assert TOKENIZER.pad == 0
    assert int(ids.max()) + 1 == TOKENIZER.backend.get_vocab_size() <= 400


def test_a_word_is_one_token_wherever_it_stands_and_a_chinese_character_alone():
    def pieces(text):
        return [one for one in TOKENIZER(text)[0].tolist() if 1 < one < END]

    assert pieces("Dog") == pieces("a dog")[1:] == pieces("  DOG ")
    assert len(pieces("青蛙")) == 2
    assert pieces("青蛙") == pieces("绿色的青蛙")[-2:]


def test_frequent_words_become_one_token():
    assert int((TOKENIZER("a red apple") > 1).sum()) < int((TOKENIZER("a rfd bpplf") > 1).sum())
    assert torch.equal(TOKENIZER("a RED  apple"), TOKENIZER("a red apple"))


@pytest.mark.parametrize(("size", "context"), [(258, 16), (0, 16), (300, 2), (300, -1)])
def test_too_small(size, context):
    with pytest.raises(UsageError, match="a tokenizer has 259 tokens or more"):
        train_tokenizer(captions(), size, context)


def test_the_smallest_reads_bytes():
    tokenizer = train_tokenizer(captions(), 259, 64)
    assert tokenizer.decode(tokenizer("绿色的青蛙 and 👩‍👩‍👧")[0]) == "绿色的青蛙 and 👩‍👩‍👧"
