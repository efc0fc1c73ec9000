"""The way from one prompt to another."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.painter import Dreamer, PainterConfig, looks_like, painter
from vitrail.tasks.morph import mixed, morph_again, turned
from vitrail.tasks.recipe import read_recipe

RED_DISC, GREEN_SQUARE = 0, 5


def test_the_ends_are_the_pictures_of_the_prompts():
    model = painter()
    for sampler in ("heun", "euler-ancestral"):
        way = vitrail.morph("red disc", "green square", model=model, sampler=sampler, frames=4, seed=1, towards_seed=8)
        assert looks_like(way.frames[0], RED_DISC)
        assert looks_like(way.frames[3], GREEN_SQUARE)
        first = vitrail.generate("red disc", seed=1, sampler=sampler, model=model)
        assert way.frames[0].tobytes() == first.image.tobytes()
    last = vitrail.generate("green square", seed=8, model=model)
    heun = vitrail.morph("red disc", "green square", model=model, frames=4, seed=1, towards_seed=8)
    assert heun.frames[3].tobytes() == last.image.tobytes()


def test_with_one_seed_the_noise_stays():
    model = painter()
    way = vitrail.morph("red disc", "red square", model=model, frames=3, seed=6)
    assert way.way.seed == 6
    assert way.frames[2].tobytes() == vitrail.generate("red square", seed=6, model=model).image.tobytes()
    assert str(way) == "red disc → red square\n  3 pictures, seed 6"


def test_strip_film_and_again(tmp_path):
    model = painter()
    way = vitrail.morph("red disc", "blue disc", model=model, num_steps=4, frames=5, seed=1, towards_seed=2)
    assert way.draw().size == (5 * 32, 32)
    assert json.loads(json.dumps(way.to_dict()))["towards"] == "blue disc"
    way.save(tmp_path / "way.png")
    recipe = read_recipe(tmp_path / "way.png")
    assert recipe == way.recipe
    so_far = []
    assert morph_again(recipe, model, keep=so_far.append).draw().tobytes() == way.draw().tobytes()
    assert [len(way.frames) for way in so_far] == [1, 2, 3, 4, 5]
    way.save(tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as film:
        assert film.n_frames == 2 * 5 - 2
        film.seek(4)
        shown = np.asarray(film.convert("RGB"), dtype=float)
        assert np.abs(shown - np.asarray(way.frames[4], dtype=float)).mean() < 12
    with pytest.raises(vitrail.UsageError, match=r"written to a \.png"):
        way.save(tmp_path / "way.mp4")


def test_noise_is_turned_on_the_sphere():
    first, second = torch.randn(2, 1, 3, 32, 32)
    assert turned(first, second, 0) is first
    assert turned(first, second, 1) is second
    half = turned(first, second, 0.5)
    assert abs(float(half.std()) - 1) < 0.03
    assert float((first + second).std() / 2) < 0.8  # what mixing would have made of it
    torch.testing.assert_close(turned(first, first.clone(), 0.3), first)
    right = turned(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 1 / 3)
    torch.testing.assert_close(right, torch.tensor([np.cos(np.pi / 6), np.sin(np.pi / 6)], dtype=torch.float32))


def test_conditions_are_mixed_whatever_their_form():
    text, other = torch.zeros(1, 4, 2), torch.ones(1, 4, 2)
    mask = torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]])
    size = torch.tensor([[64]])
    vector, known, either, same = mixed((text, None, mask[0], size), (other, None, mask[1], size), 0.25)
    assert (vector == 0.25).all()
    assert known is None
    assert either.tolist() == [[True, True, False]]
    assert same.tolist() == [[64]]
    assert mixed({"a": text}, {"a": other}, 0.5)["a"].mean() == 0.5
    with pytest.raises(vitrail.UsageError, match="nothing lies between"):
        mixed(torch.tensor([3]), torch.tensor([7]), 0.5)
    with pytest.raises(vitrail.UsageError, match="nothing lies between"):
        mixed(text, torch.zeros(1, 5, 2), 0.5)


def test_wrong_usage():
    with pytest.raises(vitrail.UsageError, match="at least 2 pictures, not 1"):
        vitrail.morph("red", "blue", model=painter(), frames=1)
    with pytest.raises(vitrail.UsageError, match="knows no 'frog'"):
        vitrail.morph("red", "frog", model=painter())
    with pytest.raises(vitrail.UsageError, match="a seed is"):
        vitrail.morph("red", "blue", model=painter(), towards_seed=-1)
    with pytest.raises(vitrail.UsageError, match="told what to make"):
        vitrail.morph("", "", model=Dreamer(PainterConfig()))
