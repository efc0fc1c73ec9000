"""`emoji/imagine-nano`, in the box: what it draws is what was asked for, to the box's own reader."""

from pathlib import Path

import pytest

import vitrail

ASKED = {
    "a red heart": "red heart",
    "扁平风格的红心": "red heart",
    "a cactus, 3D style": "cactus",
    "grinning face": "grinning face",
    "a butterfly, Twemoji style": "butterfly",
    "an umbrella": "umbrella",
}


@pytest.fixture(scope="module")
def drawn():
    return dict(zip(ASKED, vitrail.generate(list(ASKED), seed=5), strict=True))


def test_pictures_are_of_what_was_asked_for(drawn):
    labels = list(dict.fromkeys(ASKED.values()))
    for prompt, name in ASKED.items():
        named = vitrail.classify(drawn[prompt].image, labels=labels, model="emoji/clip-nano")
        assert named.labels[0].label == name, prompt


def test_the_file_holds_what_it_takes_to_make_it_again(drawn, tmp_path: Path):
    made = drawn["an umbrella"]
    assert made.image.size == (64, 64)
    again = vitrail.generate("an umbrella", seed=made.recipe.seed, model="emoji/imagine-nano")
    assert again.image.tobytes() == made.image.tobytes()
