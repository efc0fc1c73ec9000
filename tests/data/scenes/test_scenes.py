"""The data set: what is in a scene agrees with itself, with the glyphs it is made of, and with what was asked for."""

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.data.scenes import Scene, Scenes
from vitrail.data.scenes.compose import sprite
from vitrail.errors import UsageError, VitrailError

ROOT = Path(__file__).parents[3]


def digest(scene: Scene) -> str:
    """Everything that can be known of a scene, as a few letters."""
    known = hashlib.sha256()
    for array in (scene.picture, scene.boxes, scene.masks, scene.label_map):
        known.update(np.ascontiguousarray(array).tobytes())
    known.update(repr((scene.objects, scene.captions, scene.questions, str(scene.background))).encode())
    return known.hexdigest()


def test_a_scene_has_the_promised_shapes_and_types(many):
    scene = many[0]
    count = len(scene.objects)
    assert scene.picture.shape == (64, 64, 3)
    assert scene.picture.dtype == np.uint8
    assert scene.boxes.shape == (count, 4)
    assert scene.masks.shape == (count, 64, 64)
    assert scene.masks.dtype == bool
    assert scene.label_map.shape == (64, 64)


def test_the_same_scene_comes_in_any_order_and_with_questions_asked_first(glyphs):
    scenes = Scenes(glyphs, seed=3)
    forward = {index: digest(scenes[index]) for index in (0, 1, 99_999)}
    again = Scenes(glyphs, seed=3)
    for index in (99_999, 1, 0):
        scene = again[index]
        assert scene.questions or scene.masks is not None
        assert digest(scene) == forward[index]
    assert len(set(forward.values())) == 3


def test_another_process_makes_the_same_scenes(glyphs):
    program = (
        "from tests.data.scenes.test_scenes import digest\n"
        "from vitrail.data.generated import generate_glyphs\nfrom vitrail.data.scenes import Scenes\n"
        "scenes = Scenes(generate_glyphs(60, size=32), seed=5)\n"
        "print(digest(scenes[12]), digest(scenes[4]), hash('x'))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    scenes = Scenes(glyphs, seed=5)
    assert there[:2] == [digest(scenes[12]), digest(scenes[4])]


def test_seed_and_split_each_give_other_scenes(glyphs):
    digests = {
        digest(Scenes(glyphs, seed=seed, split=split)[0]) for seed in (0, 1) for split in ("any", "train", "test")
    }
    assert len(digests) == 6


def test_it_is_a_sequence_without_end_in_memory(glyphs):
    scenes = Scenes(glyphs, length=10**12)
    assert len(scenes) == 10**12
    assert digest(scenes[-1]) == digest(scenes[10**12 - 1])
    with pytest.raises(IndexError, match="there is no scene 1000000000000"):
        scenes[10**12]


def test_a_scene_survives_pickling_for_the_workers_of_a_loader(many):
    assert digest(pickle.loads(pickle.dumps(many[1]))) == digest(many[1])


def test_boxes_are_tight_around_what_shows(many):
    for scene in many:
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            left, top, right, bottom = box
            rows, columns = np.nonzero(mask)
            assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_masks_never_share_a_pixel_and_agree_with_the_label_map(many):
    for scene in many:
        assert scene.masks.sum(axis=0).max() <= 1
        expected = np.zeros((64, 64), int)
        for one, mask in zip(scene.objects, scene.masks, strict=True):
            expected[mask] = scene.labels.index(one.concept.group)
        np.testing.assert_array_equal(scene.label_map, expected)
    assert many[0].labels[0] == "background"


def test_the_picture_shows_each_glyph_where_its_mask_is(many, glyphs):
    for scene in many[:500]:
        for one, mask in zip(scene.objects, scene.masks, strict=True):
            if one.visible < 1:
                continue
            glyph = glyphs.pictures[one.glyph]
            paint = glyph[..., :3][glyph[..., 3] > 250].mean(axis=0)
            shown = scene.picture[mask].mean(axis=0)
            assert np.abs(paint - shown).max() < 45  # antialiased edges let some background in


def test_the_picture_is_the_background_away_from_the_objects(many):
    for scene in many[:200]:
        away = np.ones((64, 64), bool)
        for one in scene.objects:
            reach = one.scale * 64 / 2 + 20
            rows, columns = np.mgrid[:64, :64]
            away &= (abs(rows - one.centre[1]) > reach) | (abs(columns - one.centre[0]) > reach)
        np.testing.assert_array_equal(scene.picture[away], scene.background.picture[away])


def test_objects_name_the_glyph_that_is_drawn(many, glyphs):
    for scene in many:
        for one in scene.objects:
            assert (glyphs.concept[one.glyph], glyphs.style[one.glyph]) == (one.concept.code, one.style)


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.5])
def test_no_more_of_an_object_is_hidden_than_allowed(glyphs, overlap):
    scenes = Scenes(glyphs, length=300, count=(4, 6), overlap=overlap)
    visible = [one.visible for scene in scenes for one in scene.objects]
    assert min(visible) >= 1 - overlap
    assert (min(visible) < 1) == (overlap > 0)


def test_visible_is_the_share_of_pixels_that_the_mask_kept(glyphs):
    """The same glyph alone, at the same scale, has as many pixels as the mask and what hides it together."""
    for scene in Scenes(glyphs, length=100, overlap=0.5):
        for one, mask in zip(scene.objects, scene.masks, strict=True):
            whole = sprite(glyphs.pictures[one.glyph], max(8, round(one.scale * 64)))
            assert whole is not None
            assert mask.sum() == round(one.visible * whole.pixels)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(24, 130),
    fewest=st.integers(1, 6),
    more=st.integers(0, 4),
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 10**6 - 1),
)
def test_any_size_and_count_is_kept(glyphs, size, fewest, more, seed, index):
    scene = Scenes(glyphs, length=10**6, size=size, count=(fewest, fewest + more), seed=seed)[index]
    assert fewest <= len(scene.objects) <= fewest + more
    assert scene.picture.shape == (size, size, 3)
    assert scene.masks.any(axis=(1, 2)).all()
    assert (scene.boxes >= 0).all()
    assert (scene.boxes <= size).all()
    assert scene.captions


def test_counts_and_backgrounds_are_varied_evenly(many):
    counts = np.bincount([len(scene.objects) for scene in many])[1:] / len(many)
    assert len(counts) == 6
    assert counts.min() > 0.12  # a sixth is 0.167, and 1500 draws stray by 0.01
    kinds = [scene.background.kind for scene in many]
    assert all(kinds.count(kind) / len(kinds) > 0.12 for kind in set(kinds))
    assert len(set(kinds)) == 6


def test_concepts_without_a_countable_name_take_no_part(glyphs):
    code = glyphs.concept[0]
    bread = replace(glyphs.concepts[code], name_en="bread", name_zh="面包", subgroup="food-prepared")
    scenes = Scenes(replace(glyphs, concepts={**glyphs.concepts, code: bread}), length=200)
    assert all(one.concept.code != code for scene in scenes for one in scene.objects)


def _table(name: str, alpha: int) -> GlyphTable:
    pictures = np.full((1, 32, 32, 4), alpha, np.uint8)
    concept = Concept("x", "x", name, "东西", (), (), "objects", "tool", "none", "none")
    return GlyphTable(pictures=pictures, concept=("x",), style=("flat",), concepts={"x": concept})


@pytest.mark.parametrize(
    ("settings_", "sentence"),
    [
        ({"count": (0, 3)}, "from 1 to 12 objects"),
        ({"count": (4, 3)}, "from 1 to 12 objects"),
        ({"size": 8}, "a size of 24"),
        ({"overlap": 1.0}, "an overlap from 0"),
        ({"seed": -1}, "a seed from 0"),
        ({"split": "exam"}, "no split 'exam'"),
    ],
)
def test_settings_out_of_range_are_refused(glyphs, settings_, sentence):
    with pytest.raises(UsageError, match=sentence):
        Scenes(glyphs, **settings_)


def test_glyphs_that_make_no_scene_are_refused():
    with pytest.raises(UsageError, match="countable name"):
        Scenes(_table("bread", 255))


def test_a_glyph_that_cannot_be_seen_is_never_placed():
    with pytest.raises(VitrailError, match="cannot be placed"):
        Scenes(_table("hammer", 40))[0]
