"""What ships in the box: small, with a card and a licence, and it knows what its card says."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import vitrail
from vitrail.checkpoints.box import BOX, box_names

COLOURS = {"red": (221, 46, 68), "blue": (85, 172, 238), "green": (120, 177, 89)}
SHIPPED = [name for name in box_names() if name.startswith("emoji/")]


def circle(colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (72, 72), "white")
    ImageDraw.Draw(picture).ellipse((2, 2, 69, 69), fill=colour)
    return picture


def test_the_box_holds_what_the_readme_says():
    assert {"efficientnet-lite0", "emoji/vit-nano", "emoji/clip-nano", "emoji/talk-nano"} <= set(box_names())


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_small_and_has_a_card_and_a_licence(name):
    weights = BOX / f"{name}.safetensors"
    assert weights.stat().st_size <= 12_000_000
    card = weights.with_suffix(".md").read_text(encoding="utf-8")
    for row in ("network", "data", "recipe", "cost", "score", "licence"):
        assert f"| {row} |" in card
    assert vitrail.load(name).origin.licence == "Apache-2.0"


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_vit_nano_names_a_drawing_of_ours(colour):
    found = vitrail.classify(circle(COLOURS[colour]), model="emoji/vit-nano", top=1)
    assert found.labels[0].label == f"{colour} circle"


@pytest.mark.parametrize(
    "labels", [["a {} circle", COLOURS], ["{}圆", dict(zip("红蓝绿", COLOURS.values(), strict=True))]]
)
def test_clip_nano_tells_drawings_apart_in_both_languages(labels):
    wording, colours = labels
    words = [wording.format(colour) for colour in colours]
    for word, colour in zip(words, colours.values(), strict=True):
        assert vitrail.classify(circle(colour), labels=words, top=1).labels[0].label == word


def test_clip_nano_puts_translations_side_by_side():
    model = vitrail.load("emoji/clip-nano")
    english, chinese = (
        model.encode_text(words, normalize=True)
        for words in (["a frog", "a car", "an apple", "dog"], ["青蛙", "汽车", "苹果", "狗"])
    )
    assert (english @ chinese.T).argmax(1).tolist() == [0, 1, 2, 3]


def test_talk_nano_names_what_a_scene_shows_in_both_languages():
    scene = Path(__file__).parents[2] / "examples" / "scene.png"
    assert "mushroom" in vitrail.caption(scene).text
    assert "蘑菇" in vitrail.caption(scene, language="zh").text
    assert vitrail.ask(scene, "How many things are there?").text == "1"
    assert vitrail.ask(scene, "图中有几个东西？").text == "1"
