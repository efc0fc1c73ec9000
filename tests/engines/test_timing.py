"""How long a call takes: not counted the first time, unless that is long."""

import itertools
import time

import pytest

from vitrail.engines import timing
from vitrail.engines.timing import seconds_of


def test_the_first_call_of_a_short_one_does_not_count(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.05)
    calls = itertools.count()

    def call() -> None:
        time.sleep(0.04 if next(calls) == 0 else 0.002)

    assert 0.002 <= seconds_of(call) < 0.02
    assert next(calls) > 3


def test_a_long_one_is_called_once(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.01)
    calls = []
    assert seconds_of(lambda: calls.append(time.sleep(0.02))) >= 0.02
    assert len(calls) == 1


def test_another_clock_counts_what_it_counts(monkeypatch):
    monkeypatch.setattr(timing, "LEAST", 0.01)
    spent = [0.0]

    def call() -> None:
        spent[0] += 7.0
        time.sleep(0.001)

    assert seconds_of(call, lambda: spent[0]) == pytest.approx(7.0)
