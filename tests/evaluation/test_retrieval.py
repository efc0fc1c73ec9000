"""Ranks and recalls against counting by hand, and the scores of a test of two parts."""

import pytest
import torch

from vitrail.data.source import Texts
from vitrail.evaluation.retrieval import RetrievalScores, questions, ranks, recall_at


def test_ranks_are_counted_one_by_one():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randint(0, 6, (40, 9), generator=generator).float()  # with many ties
    relevant = torch.rand(40, 9, generator=generator) < 0.3
    relevant[:, 4] = True
    places = ranks(similarity, relevant)
    for row, right, place in zip(similarity.tolist(), relevant.tolist(), places.tolist(), strict=True):
        best = max(value for value, yes in zip(row, right, strict=True) if yes)
        assert place == 1 + sum(value >= best for value, yes in zip(row, right, strict=True) if not yes)
    for count in (1, 3, 9):
        assert recall_at(count, places) == pytest.approx(sum(place <= count for place in places.tolist()) / 40)


def test_a_network_that_says_the_same_of_all_finds_nothing():
    places = ranks(torch.zeros(5, 5), torch.eye(5).bool())
    assert places.tolist() == [5] * 5


TEXTS = Texts(
    corpus=lambda: iter(()),
    vocabulary=0,
    names={"en": [("cat", "a cat"), ("dog", "a dog"), ("pear", "a pear"), ("cat", "the cat")]},
    groups={"en": [("animals",), ("fruit",)]},
    group_of=[0, 0, 1, 0],
    parts={"style": [0, 1, 3], "concept": [2], "other": []},
)


def test_what_is_asked_has_an_order():
    assert questions(TEXTS) == [*TEXTS.names["en"], ("cat",), ("dog",), ("pear",), ("cat",), ("animals",), ("fruit",)]


def test_parts_are_scored_by_themselves():
    scores = RetrievalScores(TEXTS)
    outputs = torch.tensor(
        [  # ensembles of four names     first names             groups
            [0.9, 0.1, 1.0, 0.0, 0.9, 0.1, 1.0, 0.9, 0.8, 0.2],  # a cat: found, since the nearer pear is another part's
            [0.0, 0.2, 0.0, 0.7, 0.3, 0.2, 0.0, 0.3, 0.1, 0.6],  # a dog that is taken for the second cat
            [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.9, 0.1],  # a pear that is taken for an animal
        ]
    )
    scores.update(outputs[:2], torch.tensor([0, 1]))
    scores.update(outputs[2:], torch.tensor([2]))
    found = scores.compute()
    assert {name: found[name] for name in found if name.startswith("style")} == pytest.approx(
        {
            # Each "cat" finds the picture of the cat first, since both are called so; "dog" finds the dog's.
            "style_text_to_picture_en": 1.0,
            "style_text_to_picture_at_5_en": 1.0,
            "style_text_to_picture_median_rank_en": 1.0,
            "style_picture_to_text_en": 0.5,
            "style_picture_to_text_at_5_en": 1.0,
            "style_picture_to_text_median_rank_en": 2.0,  # of ranks 1 and 3, since two cats go before the dog
            "style_zero_shot_en": 0.5,
            "style_group_en": 1.0,  # among the groups of the part: there is one
        }
    )
    assert found["concept_text_to_picture_en"] == found["concept_zero_shot_en"] == found["concept_group_en"] == 1.0
    assert not any(name.startswith("other") for name in found)
