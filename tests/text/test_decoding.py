"""How texts are written: by the likeliest token, by chance, by beams; in batches, and one by one."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.test_pieces import of_bytes
from vitrail.errors import UsageError
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.text.decoding import Decoding, left_pad
from vitrail.text.pieces import stream_text

SIZE = 40
PROMPTS = ([3, 17, 9, 22, 5], [8], [30, 31, 2])


def lively(model):
    """Random weights so large that a text does not soon repeat itself."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=3 * parameter.shape[1] ** -0.5 if "blocks" in name else 0.8)
    return model.eval()


def gpt2(*, vocabulary=SIZE, context=40, end=SIZE):
    return lively(GPT2(GPT2Config(vocabulary, context, width=24, depth=2, heads=3, mlp_width=48, end=end)))


def llama(*, end=(SIZE,)):
    return lively(Llama(LlamaConfig(SIZE, 40, width=24, depth=2, heads=6, kv_heads=2, mlp_width=48, end=end)))


def ending(model, *ends):
    """The same network, for which these tokens end a text."""
    changed = copy.deepcopy(model)
    changed.config = replace(model.config, end=ends[0] if isinstance(model, GPT2) else ends)
    return changed


def written(model, prompt, **how):
    """What is written behind one prompt."""
    return model.generate(None, torch.tensor([prompt]), **how)[0, len(prompt) :].tolist()


@torch.no_grad()
def step_by_step(model, prompt, steps):
    """The likeliest tokens, where the whole text is read again for each."""
    ids = torch.tensor([prompt])
    for _ in range(steps):
        ids = torch.cat([ids, model(None, ids)[:, -1:].argmax(-1)], 1)
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_writing_takes_the_likeliest_token(build, prompt):
    model = build()
    expected = step_by_step(model, prompt, 20)
    assert len(set(expected)) > 4
    assert written(model, prompt, max_new_tokens=20) == expected
    assert written(model, prompt, max_new_tokens=20, temperature=0) == expected
    assert list(model.stream(None, torch.tensor([prompt]), max_new_tokens=20)) == expected


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize(
    "how", [{}, {"repetition_penalty": 1.5}, {"num_beams": 3}, {"num_beams": 2, "length_penalty": 0.0}]
)
def test_a_batch_writes_what_its_rows_write_alone(build, how):
    free = build()
    first = [written(free, prompt, max_new_tokens=12, **how) for prompt in PROMPTS]
    model = ending(free, first[0][3])  # so that the first text ends, and others later or never
    alone = [written(model, prompt, max_new_tokens=12, **how) for prompt in PROMPTS]
    ids, mask = left_pad(PROMPTS, first[1][0])  # which the second prompt, most of it filling, goes on with
    together = model.generate(None, ids, max_new_tokens=12, mask=mask, **how)
    assert torch.equal(together[:, :5], ids)
    longest = max(map(len, alone))
    assert len({len(text) for text in alone}) > 1
    assert together[:, 5:].tolist() == [text + [model.ends[0]] * (longest - len(text)) for text in alone]


def test_any_of_several_ends_ends_a_text():
    free = llama()
    ids, mask = left_pad(PROMPTS, 0)
    rows = free.generate(None, ids, max_new_tokens=12, mask=mask)[:, 5:].tolist()
    ends = (rows[0][2], rows[1][5])
    ended = ending(free, *ends).generate(None, ids, max_new_tokens=12, mask=mask)[:, 5:].tolist()
    for before, after in zip(rows, ended, strict=True):
        place = next((place for place, token in enumerate(before) if token in ends), len(before))
        kept = before[: place + 1]
        assert after == kept + [ends[0]] * (len(after) - len(kept))


def test_a_row_that_ended_is_filled_up_with_the_tokenizer_s_filler():
    free = gpt2(vocabulary=257)
    ids, mask = left_pad(PROMPTS, 0)
    end = int(free.generate(None, ids, max_new_tokens=1, mask=mask)[1, -1])
    model = ending(free, end)
    model.tokenizer = replace(of_bytes(), pad=7)
    for how in ({}, {"num_beams": 2, "length_penalty": -5.0}):
        row = model.generate(None, ids, max_new_tokens=6, mask=mask, **how)[1, 5:].tolist()
        assert row == [end] + [7] * (len(row) - 1)
        assert len(row) > 1


def test_a_stream_leaves_out_the_end():
    free = gpt2()
    expected = written(free, PROMPTS[0], max_new_tokens=9)
    model = ending(free, expected[4])
    assert list(model.stream(None, torch.tensor(PROMPTS[:1]))) == expected[: expected.index(expected[4])]


def test_a_stream_reads_no_further_than_it_is_asked_to_and_leaves_gradients_alone():
    model, read = gpt2(), []
    model.norm.register_forward_hook(lambda *_: read.append(torch.is_grad_enabled()))
    ids = model.stream(None, torch.tensor(PROMPTS[:1]), max_new_tokens=3)
    assert read == []
    next(ids)
    assert torch.is_grad_enabled()
    assert read == [False]
    assert len([*ids]) == 2
    assert read == [False] * 3


def test_what_is_drawn_is_as_likely_as_the_network_says():
    model, prompt = gpt2(), torch.tensor(PROMPTS[:1])
    expected = (model(None, prompt)[0, -1] / 3).softmax(-1)
    drawn = model.generate(None, prompt.expand(8000, -1), max_new_tokens=1, temperature=3.0, seed=0)[:, -1]
    found = torch.bincount(drawn, minlength=SIZE) / 8000
    assert (expected > 0.02).sum() > 5
    assert (found - expected).abs().max() < 4 * (0.25 / 8000) ** 0.5


def test_the_same_seed_draws_the_same_text():
    model = gpt2()

    def text(**how):
        return written(model, PROMPTS[0], max_new_tokens=15, temperature=2.0, **how)

    assert text(seed=1) == text(seed=1)
    assert text(seed=1) != text(seed=2)
    assert text(seed=1) == list(
        model.stream(None, torch.tensor(PROMPTS[:1]), max_new_tokens=15, temperature=2.0, seed=1)
    )
    torch.manual_seed(5)
    before = text()
    assert text() != before
    torch.manual_seed(5)
    text(seed=1)  # which leaves torch's own generator alone
    assert text() == before


@pytest.mark.parametrize("how", [{"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}])
def test_drawing_from_the_likeliest_alone_is_greedy(how):
    model = gpt2()
    expected = written(model, PROMPTS[2], max_new_tokens=15)
    assert written(model, PROMPTS[2], max_new_tokens=15, **{"temperature": 5.0, **how}) == expected


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (None, None, 5),
        (3, None, 3),
        (9, None, 5),
        (None, 0.49, 1),
        (None, 0.51, 2),
        (None, 0.86, 4),
        (None, 1.0, 5),
        (2, 0.99, 2),
        (4, 0.6, 2),
    ],
)
def test_top_k_and_top_p_keep_the_likeliest(top_k, top_p, kept):
    shares = torch.tensor([[0.2, 0.05, 0.5, 0.15, 0.1], [0.1, 0.5, 0.05, 0.15, 0.2]])
    left = Decoding(temperature=1.0, top_k=top_k, top_p=top_p).drawn_from(shares.log()).softmax(-1)
    least = shares.sort(descending=True).values[:, kept - 1 : kept]
    expected = torch.where(shares >= least, shares, 0)
    torch.testing.assert_close(left, expected / expected.sum(1, keepdim=True))


def test_tokens_of_equal_likelihood_are_all_kept_by_top_k():
    logits = torch.tensor([[1.0, 2.0, 1.0, 0.0]])
    assert Decoding(temperature=0.5, top_k=2).drawn_from(logits).isfinite().tolist() == [[True, True, True, False]]


@torch.no_grad()
def test_a_penalty_on_repetition_makes_what_is_there_less_likely():
    model, text = gpt2(), list(PROMPTS[0])
    for _ in range(12):
        logits = model(None, torch.tensor([text]))[0, -1]
        for token in set(text):
            logits[token] = logits[token] * 1.4 if logits[token] < 0 else logits[token] / 1.4
        text.append(int(logits.argmax()))
    found = written(model, PROMPTS[0], max_new_tokens=12, repetition_penalty=1.4)
    assert found == text[5:]
    assert found != written(model, PROMPTS[0], max_new_tokens=12)


def test_strings_that_stop_a_text():
    model = gpt2(vocabulary=257, end=0)
    tokenizer = model.tokenizer = of_bytes()
    ids, mask = left_pad(PROMPTS, 0)
    full = model.generate(None, ids, max_new_tokens=16, mask=mask)[:, 5:]
    words = next(
        word
        for row in full
        if (word := tokenizer.backend.decode(row[5:9].tolist())).isprintable() and "\ufffd" not in word
    )
    stopped = model.generate(None, ids, max_new_tokens=16, mask=mask, stop=(words,))[:, 5:]
    assert (stopped == tokenizer.pad).any()
    for before, after in zip(full.tolist(), stopped.tolist(), strict=True):
        text = tokenizer.backend.decode([token for token in after if token != tokenizer.pad])
        whole = tokenizer.backend.decode(before)
        assert text == (whole[: whole.index(words) + len(words)] if words in whole else whole)
    for prompt, row in zip(PROMPTS, full, strict=True):
        streamed = model.stream(None, torch.tensor([prompt]), max_new_tokens=16, stop=(words,))
        assert (
            "".join(stream_text(streamed, tokenizer, (words,)))
            == tokenizer.backend.decode(row.tolist()).split(words)[0]
        )


def test_strings_stop_beams_too():
    model = gpt2(vocabulary=257, end=0)
    tokenizer = model.tokenizer = of_bytes()
    full = written(model, PROMPTS[0], max_new_tokens=16, num_beams=3)
    letter = next(letter for token in full[3:] if (letter := tokenizer.backend.decode([token])) != "\ufffd")
    text = written(model, PROMPTS[0], max_new_tokens=16, num_beams=3, stop=(letter,), length_penalty=3.0)
    assert letter not in tokenizer.backend.decode(text[:-1])
    assert len(text) < 16


def test_a_text_that_reaches_the_context_ends_there():
    model = gpt2(context=12)
    for how in ({}, {"num_beams": 2}, {"temperature": 1.0}):
        assert model.generate(None, torch.tensor(PROMPTS[:1]), max_new_tokens=50, **how).shape == (1, 12)
    assert len([*model.stream(None, torch.tensor(PROMPTS[:1]), max_new_tokens=50)]) == 7


@pytest.mark.parametrize("way", ["generate", "stream"])
@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (torch.ones(1, 12, dtype=torch.int64), "12 tokens leaves no room to answer: this network reads 12"),
        (torch.ones(1, 13, dtype=torch.int64), "13 tokens leaves no room"),
        (torch.ones(1, 0, dtype=torch.int64), "at least one token"),
        (torch.ones(1, 3, 2, dtype=torch.int64), "not of shape"),
    ],
)
def test_prompts_that_cannot_be(way, ids, said):
    with pytest.raises(UsageError, match=said):
        getattr(gpt2(context=12), way)(None, ids)


@pytest.mark.parametrize(
    "mask", [[[True, True, False], [True, True, True]], [[True, True, True]], [[True, True], [True, True]]]
)
def test_masks_that_cannot_be(mask):
    with pytest.raises(UsageError, match="filled up on their left"):
        gpt2().generate(None, torch.ones(2, 3, dtype=torch.int64), mask=torch.tensor(mask))


def test_what_a_stream_cannot_do_it_says_at_once():
    model = gpt2()
    with pytest.raises(UsageError, match="one text is written at a time as it is chosen, not 2"):
        model.stream(None, torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(UsageError, match="need a network with a tokenizer"):
        model.stream(None, torch.ones(1, 3, dtype=torch.int64), stop=["."])
    with pytest.raises(UsageError, match="temperature is 0 or above, not -1"):
        model.stream(None, torch.ones(1, 3, dtype=torch.int64), temperature=-1)


def test_a_network_that_reads_text_alone_is_shown_no_pictures():
    with pytest.raises(UsageError, match="llama reads no pictures"):
        llama().generate(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"max_new_tokens": 0}, "at least one token, not 0"),
        ({"num_beams": 0}, "at least one beam, not 0"),
        ({"length_penalty": float("nan")}, "length penalty is a number"),
        ({"early_stopping": "always"}, "True, False or 'never', not 'always'"),
        ({"temperature": -0.5}, "0 or above, not -0.5"),
        ({"temperature": float("inf")}, "0 or above, not inf"),
        ({"temperature": 1.0, "top_k": 0}, "at least one token, not 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "above 0 and at most 1, not 0"),
        ({"temperature": 1.0, "top_p": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"repetition_penalty": 0.0}, "above 0, not 0"),
        ({"stop": ("a", "")}, "empty text"),
        ({"temperature": 1.0, "num_beams": 2}, "give one of them"),
        ({"top_k": 3}, "give a temperature above 0"),
        ({"top_p": 0.5, "temperature": 0.0}, "give a temperature above 0"),
    ],
)
def test_numbers_that_make_no_sense(how, said):
    with pytest.raises(UsageError, match=said):
        Decoding(**how)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=4))
def test_prompts_are_filled_up_on_their_left(prompts):
    ids, mask = left_pad(prompts, 0)
    assert ids.dtype == torch.int64
    assert ids.shape == mask.shape == (len(prompts), max(map(len, prompts)))
    assert [row[real].tolist() for row, real in zip(ids, mask, strict=True)] == prompts
    assert not ids[~mask].any()
    assert (mask.int().diff(dim=1) >= 0).all()
