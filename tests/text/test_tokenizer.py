"""A tokenizer fills its batches, comes back from its JSON, and may be shared between threads."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from tests.text.odd import ODD
from vitrail.errors import UsageError
from vitrail.text.tokenizer import Tokenizer

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "cat", "dog", "!"]


def backend():
    made = Backend(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    made.add_special_tokens(WORDS[:3])
    return made


def test_texts_are_filled_up_to_the_context_or_to_the_longest():
    fixed = Tokenizer(backend(), context=6, pad=0)
    ids = fixed(["a cat", "a red dog"])
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[1, 4, 6, 2, 0, 0], [1, 4, 5, 7, 2, 0]]
    longest = Tokenizer(backend(), context=6, pad=8, fixed=False)
    assert longest(["a cat", "a red dog"]).tolist() == [[1, 4, 6, 2, 8], [1, 4, 5, 7, 2]]
    assert longest("").tolist() == [[1, 2]]


def test_one_text_is_a_batch_of_one_and_none_an_empty_one():
    tokenizer = Tokenizer(backend(), context=6, pad=0)
    assert torch.equal(tokenizer("a cat"), tokenizer(["a cat"]))
    assert torch.equal(tokenizer(("a", "cat")), tokenizer(["a", "cat"]))
    assert tokenizer([]).shape == (0, 6)
    assert dataclasses.replace(tokenizer, fixed=False)([]).shape == (0, 0)


@pytest.mark.parametrize("fixed", [True, False])
def test_what_is_longer_is_cut_and_its_ends_stay(fixed):
    ids = Tokenizer(backend(), context=5, pad=0, fixed=fixed)(["a red cat dog !", "red"])
    assert ids[0].tolist() == [1, 4, 5, 6, 2]
    assert ids.shape == (2, 5)


def test_decoding_leaves_out_what_is_no_text():
    tokenizer = Tokenizer(backend(), context=8, pad=8)  # "!" fills up, as in open_clip's CLIP, and is a token of texts
    ids = tokenizer("a red ! cat !")
    assert ids.tolist() == [[1, 4, 5, 8, 6, 8, 2, 8]]
    assert tokenizer.decode(ids[0]) == tokenizer.decode(ids[0].tolist()) == "a red ! cat !"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("fixed", [True, False])
def test_a_plain_text_has_nothing_around_it_and_is_never_cut(fixed):
    tokenizer = Tokenizer(backend(), context=4, pad=0, fixed=fixed)
    assert tokenizer.plain("a red cat dog ! red") == [4, 5, 6, 7, 8, 5]
    assert tokenizer.plain("<start> a") == [1, 4]
    assert tokenizer.plain("") == []
    assert tokenizer("a red cat dog").tolist() == [[1, 4, 5, 2]]
    assert pickle.loads(pickle.dumps(tokenizer)).plain("a red cat dog !") == [4, 5, 6, 7, 8]
    for odd in (3, None, "a\ud800"):
        with pytest.raises(UsageError, match="is no text"):
            tokenizer.plain(odd)


@pytest.mark.parametrize("fixed", [True, False])
def test_it_comes_back_from_its_json(fixed):
    tokenizer = Tokenizer(backend(), context=7, pad=8, fixed=fixed)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.context, again.pad, again.fixed) == (7, 8, fixed)
    assert again.to_json() == tokenizer.to_json()
    assert torch.equal(again(ODD), tokenizer(ODD))
    for way in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        assert torch.equal(way(tokenizer)(["a cat"]), tokenizer(["a cat"]))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"model": 3}', backend().to_str()])
def test_json_that_describes_no_tokenizer(text):
    with pytest.raises(ValueError, match=r"tokenizer.json cannot be read|does not say how texts are cut"):
        Tokenizer.from_json(text)


def test_what_it_was_made_of_is_left_alone():
    made = backend()
    tokenizer = Tokenizer(made, context=4, pad=0)
    assert made.truncation is None
    assert made.padding is None
    made.enable_truncation(3)
    made.no_padding()
    other = dataclasses.replace(tokenizer, context=5, fixed=False)
    assert tokenizer("a red cat dog").tolist() == [[1, 4, 5, 2]]
    assert other("a red cat dog").tolist() == [[1, 4, 5, 6, 2]]


def test_threads_may_share_it():
    tokenizer = Tokenizer(backend(), context=12, pad=0, fixed=False)
    texts = [["a red cat"] * (1 + number % 3) + ["dog " * (number % 15)] for number in range(300)]
    alone = [tokenizer(batch) for batch in texts]
    with ThreadPoolExecutor(4) as threads:
        assert all(map(torch.equal, threads.map(tokenizer, texts), alone))


@pytest.mark.parametrize("texts", [[3], [None], ["a", b"b"], [["a"]], ["a\ud800"], "\udfff"])
def test_what_is_no_text(texts):
    with pytest.raises(UsageError, match="is no text"):
        Tokenizer(backend(), context=4, pad=0)(texts)


@pytest.mark.parametrize(
    ("context", "pad", "said"),
    [(2, 0, "no room"), (0, 0, "no room"), (-1, 0, "no room"), (4, 9, "no token 9"), (4, -1, "no token -1")],
)
def test_numbers_that_make_no_sense(context, pad, said):
    with pytest.raises(ValueError, match=said):
        Tokenizer(backend(), context, pad)
