"""What is said to get a glyph: its name, a keyword, its colour, its style."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vitrail.data.colours import CHINESE, main_colour
from vitrail.data.glyphs import Concept
from vitrail.data.prompts import Prompted, PromptsSection, in_colour, in_style
from vitrail.data.scenes.dice import Dice


def prompted(**changes: Any) -> Prompted:
    train = PromptsSection(source="prompts", generated=24, styled=0, **changes).open((32, 32)).train
    assert isinstance(train, Prompted)
    return train


def glyph(*parts: tuple[tuple[int, int, int], float], transparent: float = 0.3) -> np.ndarray:
    """A picture whose upper part is transparent, and whose rest has these colours in these shares."""
    picture = np.zeros((100, 10, 4), np.uint8)
    row = round(100 * transparent)
    for colour, share in parts:
        rows = round((100 - 100 * transparent) * share)
        picture[row : row + rows] = (*colour, 255)
        row += rows
    return picture


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((230, 20, 30), "red"),
        ((250, 140, 20), "orange"),
        ((250, 210, 40), "yellow"),
        ((40, 160, 60), "green"),
        ((30, 120, 220), "blue"),
        ((130, 60, 200), "purple"),
        ((250, 150, 190), "pink"),
        ((120, 70, 30), "brown"),
        ((20, 20, 25), "black"),
        ((150, 150, 152), "grey"),
        ((250, 250, 250), "white"),
    ],
)
def test_a_glyph_of_one_colour_has_it(colour: tuple[int, int, int], name: str):
    assert main_colour(glyph((colour, 0.8), ((90, 200, 240), 0.2))) == name
    assert name in CHINESE


def test_no_colour_where_none_prevails_and_none_of_what_is_not_seen():
    many = [((230, 20, 30), 0.3), ((40, 160, 60), 0.3), ((30, 120, 220), 0.3)]
    assert main_colour(glyph(*many)) is None
    assert main_colour(np.zeros((8, 8, 4), np.uint8)) is None
    assert main_colour(glyph(((40, 160, 60), 1.0), transparent=0.9)) == "green"


@pytest.mark.parametrize(
    ("said", "name", "language", "expected"),
    [
        ("a frog", "frog", "en", "a green frog"),
        ("an apple", "apple", "en", "a green apple"),
        ("frog", "frog", "en", "green frog"),
        ("a picture of an apple", "apple", "en", "a picture of a green apple"),
        ("a red apple", "red apple", "en", "a red apple"),
        ("一只青蛙", "青蛙", "zh", "一只绿色的青蛙"),
        ("红苹果", "红苹果", "zh", "红苹果"),
    ],
)
def test_the_colour_stands_before_the_name(said: str, name: str, language: str, expected: str):
    assert in_colour(said, name, "green", language) == expected
    assert in_colour("an owl", "owl", "orange", "en") == "an orange owl"
    assert in_style(expected, "flat", "en").startswith(expected)


def test_prompts_name_colours_as_often_as_asked():
    source = prompted(coloured=0.5, languages=("en",))
    shapes = {code: replace(each, name_en=each.name_en.split()[-1]) for code, each in source.table.concepts.items()}
    source.table = replace(source.table, concepts=shapes)  # or all their names would name a colour already
    coloured = [index for index in range(len(source)) if source.colour(index)]
    dice = Dice(0, 0, 0)
    told = [str(source.colour(index)) in source.ask(index, dice) for index in coloured for _ in range(20)]
    assert len(coloured) > len(source) / 2
    assert 0.4 < np.mean(told) < 0.6


def test_keywords_that_many_share_are_not_said():
    source = prompted(keywords=1.0, languages=("en",))
    words = {code: concept.keywords_en for code, concept in source.table.concepts.items()}
    for index, code in enumerate(source.table.concept):
        for word in source.telling["en"][code]:
            assert sum(word in others for others in words.values()) <= 4
        said = source.ask(index, Dice(3, index, 0))
        called: list[str] = source.telling["en"][code] or [concept_name(source, code)]
        assert any(word in said for word in called)
    assert any(source.telling["en"].values())
    assert set(source.corpus()) > {word for told in source.telling["en"].values() for word in told}


def concept_name(source: Prompted, code: str) -> str:
    concept: Concept = source.table.concepts[code]
    return concept.name_en
