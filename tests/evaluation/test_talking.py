"""Exact match against counts by hand, and CIDEr against what it must be."""

import pytest
import torch

from vitrail.data.source import Asked, Talk
from vitrail.evaluation.talking import TalkScores, cider, matches
from vitrail.models.language_model import Turn


def asked(kind: str, language: str, *answers: str, majority: str = "") -> Asked:
    return Asked(Talk((Turn("?", 1),), language), kind, answers, majority)


def test_exact_match_by_kind_and_language_beside_the_majority():
    scores = TalkScores(
        [
            asked("is there", "en", "yes", majority="yes"),
            asked("is there", "zh", "否", majority="是"),
            asked("how many", "en", "2", majority="1"),
            asked("caption", "en", "a frog", "one thing: a frog"),
        ]
    )
    scores.update(["a frog", "3"], torch.tensor([3, 2]))
    scores.update(["Yes.", "否"], torch.tensor([0, 1]))
    found = scores.compute()
    assert "cider_en" in found
    del found["cider_en"]
    assert found == pytest.approx(
        {
            "exact": 2 / 3,
            "exact_en": 1 / 2,
            "exact_zh": 1,
            "exact_is_there": 1,
            "exact_how_many": 0,
            "majority": 1 / 3,
            "majority_is_there": 1 / 2,
            "majority_how_many": 0,
        }
    )


def test_answers_match_but_for_capitals_spaces_and_a_full_stop():
    assert matches(" A  red apple.", "a red apple")
    assert matches("苹果。", "苹果")
    assert not matches("a red", "a red apple")
    assert not matches("", "a red apple")


def test_cider_is_highest_for_what_is_right_and_counts_chinese_by_the_character():
    right = [
        ("a red frog on a plain background",),
        ("two blue apples and a very small dog",),
        ("三只绿色的青蛙在红色的苹果旁边",),
    ]
    assert cider([(texts[0], texts) for texts in right]) == pytest.approx(10)
    assert cider([("something else", texts) for texts in right]) == 0
    partly = cider([("三只绿色的青蛙", right[2]), *((texts[0], texts) for texts in right[:2])])
    assert 20 / 3 < partly < 10
