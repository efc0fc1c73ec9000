"""A search by beams that is wide enough finds what trying everything finds."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.text.beams import beam_search

TOKENS, END, MOST = 4, 0, 3


class Table:
    """A language where what comes next depends on the last token and on how many there are; prompts are rows of it."""

    def __init__(self, rows, seed):
        numbers = torch.Generator().manual_seed(seed)
        self.first = (3 * torch.randn(rows, TOKENS, generator=numbers)).log_softmax(-1)
        self.later = (3 * torch.randn(rows, MOST, TOKENS, TOKENS, generator=numbers)).log_softmax(-1)

    def search(self, **how):
        prompts, length = torch.arange(len(self.first)), 0

        def go_on(rows, tokens):
            nonlocal prompts, length
            prompts, length = prompts[rows], length + 1
            return self.later[prompts, length, tokens]

        return beam_search(self.first, go_on, lambda texts: texts[..., -1] == END, most=MOST, fill=9, **how)

    def best(self, row, power):
        """Of all texts, and their scores, the best."""
        texts = [
            text
            for length in range(1, MOST + 1)
            for text in product(range(TOKENS), repeat=length)
            if END not in text[:-1] and (text[-1] == END or length == MOST)
        ]
        return max(texts, key=lambda text: self.likelihood(row, text) / len(text) ** power)

    def likelihood(self, row, text):
        steps = [self.later[row, place, text[place - 1], text[place]] for place in range(1, len(text))]
        return float(self.first[row, text[0]] + sum(steps))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_it_finds_what_trying_everything_finds(seed, power):
    table = Table(rows=3, seed=seed)
    found = table.search(num_beams=16, length_penalty=power, early_stopping="never", candidates=32)
    best = [list(table.best(row, power)) for row in range(3)]
    longest = max(map(len, best))
    assert found.tolist() == [text + [9] * (longest - len(text)) for text in best]


def test_it_stops_when_there_are_enough():
    """With early stopping the first texts that ended are taken, though a better one would have come later."""
    table = Table(rows=1, seed=0)
    table.first = torch.tensor([[0.3, 0.5, 0.1, 0.1]]).log()
    table.later = torch.tensor([0.4, 0.1, 0.3, 0.2]).log().expand(1, MOST, TOKENS, TOKENS).clone()
    table.later[:, :, 1] = torch.tensor([0.9, 0.05, 0.03, 0.02]).log()
    how = {"num_beams": 1, "length_penalty": 0.0, "candidates": 2}
    assert table.search(early_stopping=True, **how).tolist() == [[1, END]]
    assert table.search(early_stopping=True, **{**how, "num_beams": 2, "candidates": 4}).tolist() == [[1, END]]
    table.first = torch.tensor([[0.5, 0.49, 0.005, 0.005]]).log()
    assert table.search(early_stopping=True, **how).tolist() == [[END]]


@pytest.mark.parametrize("power", [0.0, 3.0, -3.0])
def test_length_is_weighed_by_the_penalty(power):
    table = Table(rows=1, seed=0)
    table.first = torch.tensor([[0.5, 0.4, 0.05, 0.05]]).log()
    table.later = torch.tensor([0.05, 0.9, 0.03, 0.02]).log().expand(1, MOST, TOKENS, TOKENS)
    found = table.search(num_beams=4, length_penalty=power, early_stopping="never", candidates=8)
    assert found.tolist() == [[1, 1, 1] if power > 0 else [END]]
