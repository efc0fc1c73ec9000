"""What is held out of training is never in it, and always in the test."""

from itertools import permutations, product

import numpy as np
import pytest

from vitrail.data.generated import generate_glyphs
from vitrail.data.scenes import Scene, Scenes
from vitrail.data.scenes.combinations import relation_side, style_side
from vitrail.errors import UsageError


def held_out_styles(scene: Scene, styles: tuple[str, ...]) -> set[str]:
    return {style_side(one.concept.code, one.style, styles) for one in scene.objects} - {"train"}


def clear_relations(scene: Scene, least: float = 0.1) -> set[str]:
    """The sides of what the pixels show: whose mean is left of or above whose by `least` of the picture's side."""
    sides = set()
    for (a, mask_a), (b, mask_b) in permutations(zip(scene.objects, scene.masks, strict=True), 2):
        down, right = (np.argwhere(mask_b).mean(axis=0) - np.argwhere(mask_a).mean(axis=0)) / scene.size
        for relation, distance in (("left", right), ("above", down)):
            if distance > least:
                sides.add(relation_side(a.concept.code, relation, b.concept.code))
    return sides - {"train"}


def test_training_never_shows_a_held_out_combination(glyphs):
    for scene in Scenes(glyphs, length=1000, split="train", seed=2):
        assert not held_out_styles(scene, glyphs.styles)
        assert not clear_relations(scene)
        for a, b in permutations(scene.objects, 2):  # not even barely
            if a.centre[0] < b.centre[0]:
                assert relation_side(a.concept.code, "left", b.concept.code) == "train"
            if a.centre[1] < b.centre[1]:
                assert relation_side(a.concept.code, "above", b.concept.code) == "train"


def test_no_frame_of_a_training_video_shows_one(glyphs):
    scenes = Scenes(glyphs, length=200, split="train", seed=2)
    for index in range(len(scenes)):
        video = scenes.video(index, 5)
        middle = (video.boxes[..., :2] + video.boxes[..., 2:]) / 2
        for (a, one), (b, other) in permutations(enumerate(video.objects), 2):
            assert style_side(one.concept.code, one.style, glyphs.styles) == "train"
            right, down = (middle[:, b] - middle[:, a]).T
            for relation, distance in (("left", right), ("above", down)):
                if (distance > 0.1 * 64).any():
                    assert relation_side(one.concept.code, relation, other.concept.code) == "train"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_test_always_shows_one(glyphs, split):
    by_style = 0
    for scene in Scenes(glyphs, length=400, split=split, seed=2):
        styles = held_out_styles(scene, glyphs.styles)
        by_style += split in styles
        assert split in styles | clear_relations(scene, least=0.04)
    assert 100 < by_style < 395  # both kinds


def test_training_shows_every_concept_and_most_pairs(glyphs):
    concepts, pairs = set(), set()
    for scene in Scenes(glyphs, length=1200, size=32, split="train", count=(5, 6)):
        codes = {one.concept.code for one in scene.objects}
        concepts |= codes
        pairs |= set(permutations(codes, 2))
    assert concepts == set(glyphs.concepts)
    assert len(pairs) > 0.7 * 60 * 59


def test_a_tenth_of_relations_is_held_out_and_none_of_a_concept_to_itself(glyphs):
    codes = list(glyphs.concepts)
    sides = [relation_side(a, relation, b) for a, b in permutations(codes, 2) for relation in ("left", "above")]
    assert abs(sides.count("test") / len(sides) - 0.05) < 0.01
    assert abs(sides.count("validation") / len(sides) - 0.05) < 0.01
    assert all(relation_side(code, "left", code) == "train" for code in codes)


def test_right_of_is_left_of_said_backwards(glyphs):
    for a, b in product(list(glyphs.concepts)[:20], repeat=2):
        assert relation_side(a, "right", b) == relation_side(b, "left", a)
        assert relation_side(a, "below", b) == relation_side(b, "above", a)


def test_another_combination_seed_holds_out_others(glyphs):
    pairs = list(permutations(glyphs.concepts, 2))
    held_out = [{pair for pair in pairs if relation_side(pair[0], "left", pair[1], seed) == "test"} for seed in (0, 1)]
    assert held_out[0]
    assert len(held_out[0] & held_out[1]) < 0.5 * len(held_out[0])


def test_one_object_in_one_style_combines_nothing():
    flat = generate_glyphs(24, styles=("flat",), size=24)
    with pytest.raises(UsageError, match="shows no combination"):
        Scenes(flat, count=(1, 1), split="test")
    assert all(clear_relations(scene) for scene in Scenes(flat, length=50, split="test"))
