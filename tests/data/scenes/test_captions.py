"""Captions name what shows, all of it, and no more."""

import re

import numpy as np
import pytest

from vitrail.data.scenes.backgrounds import COLOURS
from vitrail.data.scenes.nouns import counted, style_name

NUMBERS = ("one", "two", "three", "four", "five", "six")


def of_kind(many, kind):
    return [(scene, caption) for scene in many for caption in scene.captions if caption.kind == kind]


@pytest.mark.parametrize(("kind", "language"), [("objects", "en"), ("objects", "zh"), ("count", "en"), ("count", "zh")])
def test_everything_that_shows_is_named_and_counted_and_nothing_else(many, kind, language):
    for scene, caption in of_kind(many, kind):
        text = getattr(caption, language)
        shown = [one.concept for one, mask in zip(scene.objects, scene.masks, strict=True) if mask.any()]
        assert len(shown) == len(scene.objects)
        for concept in sorted(set(shown), key=lambda concept: -len(concept.name_en)):
            said = counted(concept, shown.count(concept), language)
            assert said in text
            text = text.replace(said, "", 1)
        lead = r"(?:a picture of|there (?:is|are)|this shows|\w+ things?:|图中有|一幅画着|的图|这里有|\w+个东西：)"
        assert not re.sub(lead + "|,| and|、|和", "", text).strip()


def test_the_number_of_things_is_the_number_of_masks(many):
    for scene, caption in of_kind(many, "count"):
        assert caption.en.split()[0] == NUMBERS[len(scene.masks) - 1]


def test_relations_agree_with_the_pixels(many):
    relations = of_kind(many, "relation")
    assert len(relations) > 500
    directions = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    sides = {"left of": "左边", "right of": "右边", "above": "上面", "below": "下面"}
    for scene, caption in relations:
        words = re.fullmatch(r"an? (.*?)(?: is)?(?: to the)? (left of|right of|above|below) an? (.*)", caption.en)
        middles, names = [], [words[1], words[3]]
        for name in names:
            (number,) = (number for number, one in enumerate(scene.objects) if one.concept.name_en == name)
            middles.append(np.argwhere(scene.masks[number]).mean(axis=0)[::-1] / scene.size)
        assert (middles[0] - middles[1]) @ directions[words[2]] > 0.05
        assert sides[words[2]] in caption.zh


def test_styles_are_those_of_the_glyphs(many):
    for scene, caption in of_kind(many, "style"):
        styles = {style_name(one.style, "en") for one in scene.objects}
        said = re.search(r"in the (\w+) style$", caption.en)[1]
        assert said in styles
        if len(styles) > 1:
            names = [one.concept.name_en for one in scene.objects if style_name(one.style, "en") == said]
            assert any(name in caption.en for name in names)


def test_backgrounds_are_called_by_their_colours(many):
    for scene, caption in of_kind(many, "background"):
        assert f" on {scene.background}" in caption.en
        assert COLOURS[scene.background.first][0] in caption.zh
        if scene.background.kind == "plain":
            colour = scene.background.picture.reshape(-1, 3)
            assert np.abs(colour - np.array(COLOURS[scene.background.first][1])).max() <= 8


def test_phrasings_vary(many):
    english = {caption.en.split()[0] for _, caption in of_kind(many, "objects")}
    assert {"there", "this", "a", "two"} <= english
