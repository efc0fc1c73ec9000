"""The table of glyphs, on glyphs drawn by code."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from vitrail.data.generated import MANNERS, MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.sheet import draw_glyphs
from vitrail.errors import UsageError, VitrailError


@pytest.fixture(scope="module")
def table() -> GlyphTable:
    return generate_glyphs(24, size=24, seed=3)


def test_generated_glyphs_are_a_full_grid(table):
    assert len(table) == 24 * 4
    assert table.size == 24
    assert table.styles == MANNERS
    assert len(table.concepts) == 24
    assert len({concept.name_en for concept in table.concepts.values()}) == 24
    for code, concept in table.concepts.items():
        assert concept.code == code == f"{ord(concept.emoji):x}"
        assert concept.name_zh
        for style in MANNERS:
            index = table.of(code, style)
            assert (table.concept[index], table.style[index]) == (code, style)


def test_generated_glyphs_are_drawn_apart_from_their_background(table):
    alpha = table.pictures[..., 3]
    covered = (alpha > 127).mean(axis=(1, 2))
    assert covered.min() > 0.15
    assert covered.max() < 0.75
    assert not alpha[:, 0, :].any()  # clear of the upper edge
    assert len({picture.tobytes() for picture in table.pictures}) == len(table)


def test_styles_differ_more_than_noise_does(table):
    for code in table.concepts:
        drawn = [table.pictures[table.of(code, style)].astype(float) for style in table.styles]
        assert all(np.abs(drawn[0] - other).mean() > 2 for other in drawn[1:])


def test_any_twelve_in_a_row_have_different_shapes(table):
    shapes = [concept.keywords_en[-1] for concept in table.concepts.values()]
    assert len(set(shapes[:12])) == len(set(shapes[12:])) == 12


def test_the_same_arguments_give_the_same_glyphs(table):
    again = generate_glyphs(24, size=24, seed=3)
    assert np.array_equal(again.pictures, table.pictures)
    assert again.concept == table.concept
    assert generate_glyphs(24, size=24, seed=4).concept != table.concept


def test_all_kinds_there_are_can_be_generated_and_no_more():
    assert len(generate_glyphs(MOST_CONCEPTS, ["flat"], size=8).concepts) == MOST_CONCEPTS
    with pytest.raises(UsageError, match=f"between 1 and {MOST_CONCEPTS} concepts can be generated, not 1000"):
        generate_glyphs(1000)
    with pytest.raises(UsageError, match="not 'noto'"):
        generate_glyphs(4, ["noto"])
    with pytest.raises(UsageError, match="not none"):
        generate_glyphs(4, [])


def test_a_selection_holds_what_was_asked_and_all_of_it(table):
    chosen = table.select(styles=["shaded"], groups=["food-drink"])
    assert chosen.styles == ("shaded",)
    assert {concept.group for concept in chosen.concepts.values()} == {"food-drink"}
    expected = [code for code, concept in table.concepts.items() if concept.group == "food-drink"]
    assert list(chosen.concept) == expected
    for code in expected:
        picture = chosen.pictures[chosen.of(code, "shaded")]
        assert np.array_equal(picture, table.pictures[table.of(code, "shaded")])
    assert len(table.select()) == len(table)
    assert len(table.select(skin_tones=["dark"])) == 0
    assert set(table.select(concepts=expected[:2]).concept) == set(expected[:2])


def test_a_glyph_that_is_not_there_is_named(table):
    code = table.concept[0]
    assert table.has(code, "flat")
    assert not table.has(code, "noto")
    with pytest.raises(VitrailError, match=f"no glyph of '{code}' in the style 'noto'"):
        table.of(code, "noto")


def test_a_table_that_does_not_fit_together_is_refused(table):
    with pytest.raises(ValueError, match="not uint8"):
        replace(table, pictures=table.pictures.astype(np.float32))
    with pytest.raises(ValueError, match="pictures with"):
        replace(table, style=table.style[1:])
    with pytest.raises(ValueError, match="nothing is known about"):
        replace(table, concepts={})


def test_a_table_survives_pickling_to_another_process(table):
    copy = pickle.loads(pickle.dumps(table))
    assert np.array_equal(copy.pictures, table.pictures)
    assert copy.of(table.concept[5], "textured") == table.of(table.concept[5], "textured")


def test_a_sheet_shows_every_style_of_a_concept_and_a_hole_where_one_is_missing(table):
    code = next(iter(table.concepts))
    one = table.select(concepts=[code])
    sheet = np.asarray(draw_glyphs(one, columns=1)).astype(int)
    assert sheet.shape == (4 + 20 + 4 * 28, 4 + 28, 3)
    missing = np.asarray(draw_glyphs(one.subset([0, 1, 3]), columns=1)).astype(int)
    assert missing.shape[0] == sheet.shape[0] - 28  # a style that nothing is drawn in has no row
    two = table.select(concepts=[code, list(table.concepts)[12]])  # of the same shape, and so of the same group
    holed = two.subset(index for index in range(len(two)) if (two.concept[index], two.style[index]) != (code, "shaded"))
    row = np.asarray(draw_glyphs(holed, columns=2))[24 + 2 * 28 : 24 + 2 * 28 + 24]
    assert (row[:, 28:] == (245, 245, 245)).all()  # the one drawn less often comes second
    assert not (row[:, :28] == (245, 245, 245)).all()
