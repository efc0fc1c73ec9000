"""`vitrail.edit`: pictures made anew."""

import json

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.painter import Dreamer, PainterConfig, looks_like, painter
from tests.pictures import EXAMPLES, noise, odd_pictures
from vitrail.tasks.batches import Failure
from vitrail.tasks.edit import edit_again, edited_path, working_size
from vitrail.tasks.recipe import read_recipe

BLUE_DISC, YELLOW_DISC = 2, 3


@pytest.fixture(scope="module")
def red() -> Image.Image:
    return vitrail.generate("red disc", seed=1, model=painter()).image


def distance(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


def test_a_picture_becomes_what_was_said(red):
    edited = vitrail.edit(red, "blue disc", strength=0.95, seed=2, model=painter())
    assert looks_like(edited.image, BLUE_DISC)
    assert edited.input == "<image>"
    assert edited.recipe.start.strength == 0.95
    drawn = np.asarray(edited.draw())
    assert drawn.shape[1] > 2 * 128
    said = json.loads(json.dumps(edited.to_dict()))
    assert said["pictures"][0]["start"]["picture"] == "<image>"
    assert "way" not in said["pictures"][0]


def test_a_little_strength_changes_little(red):
    model = painter()
    assert max(distance(vitrail.edit(red, strength=0.2, seed=seed, model=model).image, red) for seed in range(6)) < 6
    assert distance(vitrail.edit(red, "green", strength=1.0, seed=1, model=model).image, red) > 40


def test_variations_without_a_prompt(red):
    edited = vitrail.edit(red, strength=0.9, count=6, seed=0, model=painter())
    assert [made.recipe.seed for made in edited.pictures] == list(range(6))
    assert len({made.image.tobytes() for made in edited.pictures}) == 6
    dreamed = vitrail.edit(red, strength=0.3, model=Dreamer(PainterConfig()))
    assert distance(dreamed.image, red) < 8


def test_under_a_mask_only_what_is_white_changes(red):
    mask = Image.new("L", red.size)
    mask.paste(255, (0, 0, 16, 32))
    edited = vitrail.edit(red, "yellow disc", mask=mask, seed=4, model=painter())
    before, after = np.asarray(red), np.asarray(edited.image)
    assert (after[:, 16:] == before[:, 16:]).all()
    assert not (after[8:24, 8:16] == before[8:24, 8:16]).all()
    assert edited.recipe.start.strength == 1.0
    see_through = red.convert("RGBA")
    see_through.putalpha(mask)
    see_through.paste((255, 255, 255, 255), (0, 0, 16, 32))
    again = vitrail.edit(red, "yellow disc", mask=see_through, seed=4, model=painter())
    assert again.image.tobytes() == edited.image.tobytes()


def test_masks_that_do_not_fit(red):
    with pytest.raises(vitrail.ImageError, match="<image> is 8×9 pixels and <image> 32×32: a mask is as large as"):
        vitrail.edit(red, "blue", mask=Image.new("L", (8, 9), 255), model=painter())
    with pytest.raises(vitrail.ImageError, match="black all over"):
        vitrail.edit(red, "blue", mask=Image.new("L", (32, 32)), model=painter())


def test_the_size_suits_network_and_picture(red):
    model = painter()
    assert working_size(model, (64, 64)) == (32, 32)
    assert working_size(model, (4000, 1000)) == (16, 64)
    assert vitrail.edit(noise(90, 30), "disc", model=model).image.size == (56, 16)
    assert vitrail.edit(red, "disc", size=(16, 40), model=model).image.size == (40, 16)

    class Square(type(model)):
        def latent_shape(self, size):
            if size != (32, 32):
                raise vitrail.UsageError("only 32×32")
            return 3, 32, 32

    assert vitrail.edit(noise(90, 30), "disc", model=Square(PainterConfig())).image.size == (32, 32)


def test_what_is_see_through_lies_on_white():
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.paste((255, 25, 25, 255), (10, 10, 22, 22))
    assert vitrail.edit(clear, "red", strength=0.1, model=painter()).before.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", odd_pictures())
def test_every_picture_can_be_edited(kind):
    assert vitrail.edit(odd_pictures()[kind], "blue", num_steps=2, model=painter()).image.mode == "RGB"


def test_many_and_a_broken_one(tmp_path, red):
    red.save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    one, broken, two = vitrail.edit([tmp_path / "1.png", tmp_path / "2.png", red], "blue", num_steps=2, model=painter())
    assert one.input == str(tmp_path / "1.png")
    assert isinstance(broken, Failure)
    assert two.input == "<image>"
    with pytest.raises(vitrail.ImageError, match="not a picture"):
        vitrail.edit(tmp_path / "2.png", "blue", model=painter())


def test_again_from_the_recipe(tmp_path, red):
    model = painter()
    red.save(tmp_path / "red.png")
    mask = Image.new("L", red.size)
    mask.paste(255, (4, 4, 20, 20))
    mask.save(tmp_path / "mask.png")
    edited = vitrail.edit(tmp_path / "red.png", "blue", mask=tmp_path / "mask.png", seed=9, model=model)
    edited.pictures[0].save(tmp_path / "blue.png")
    recipe = read_recipe(tmp_path / "blue.png")
    assert recipe == edited.recipe
    again, changed = edit_again(recipe, model)
    assert (again.image.tobytes(), changed) == (edited.image.tobytes(), [])
    noise(32, 32).save(tmp_path / "red.png")
    _, changed = edit_again(recipe, model)
    assert changed == [f"{tmp_path / 'red.png'} is not the picture it was"]
    (tmp_path / "mask.png").unlink()
    with pytest.raises(vitrail.ImageError, match=r"mask.png: there is no such file"):
        edit_again(recipe, model)
    with pytest.raises(vitrail.UsageError, match="it began from <image>, which is no file"):
        edit_again(vitrail.edit(red, "blue", model=model).recipe, model)
    with pytest.raises(vitrail.UsageError, match="use generate --again"):
        edit_again(vitrail.generate("blue", model=model).recipe, model)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strength": 0.0}, "above 0 and at most 1, not 0"),
        ({"strength": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"strength": float("nan")}, "above 0 and at most 1"),
        ({"count": 0}, "at least 1 picture"),
        ({"prompt": "frog"}, "knows no 'frog'"),
        ({"sampler": "magic"}, "no sampler 'magic'"),
        ({"size": 31}, "multiples of 8"),
    ],
)
def test_wrong_usage(wrong, said):
    with pytest.raises(vitrail.UsageError, match=said):
        vitrail.edit(EXAMPLES / "cat.jpg", **{"prompt": "blue", "model": painter(), **wrong})


def test_a_network_that_is_not_told_takes_no_prompt(red):
    with pytest.raises(vitrail.UsageError, match="leave the prompt out"):
        vitrail.edit(red, "blue", model=Dreamer(PainterConfig()))


def test_files_stand_beside_the_picture(tmp_path):
    assert edited_path("photos/cat.jpg").as_posix() == "photos/cat-edited.png"
    assert edited_path("https://example.org/cat.jpg").as_posix() == "cat-edited.png"
    assert edited_path("-").as_posix() == "stdin-edited.png"
