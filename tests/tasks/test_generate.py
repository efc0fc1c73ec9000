"""`vitrail.generate`, and the recipe that every picture carries."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

import vitrail
from tests.painter import Dreamer, Painter, PainterConfig, looks_like, painter
from tests.parrot import parrot
from tests.tiny import tiny_vit
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.tasks import generate as task
from vitrail.tasks.batches import Failure
from vitrail.tasks.generate import Generated, Settings, file_stem, generate_each, get_generator, make_again
from vitrail.tasks.recipe import KEY, fingerprint, read_recipe

RED_DISC, GREEN_SQUARE = 0, 5


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and first.tobytes() == second.tobytes()


def test_a_picture_of_what_was_asked_for():
    model = painter()
    made = vitrail.generate("a red disc", seed=3, model=model)
    assert looks_like(made.image, RED_DISC)
    assert same(made.draw(), made.image)
    assert same(made.image, model.generate("a red disc", seed=3)[0])
    assert str(made) == "a red disc\n  1 × 32×32 pixels, 8 steps of heun, seed 3"
    said = json.loads(json.dumps(made.to_dict()))
    assert said["input"] == "a red disc"
    (recipe,) = said["pictures"]
    assert recipe["size"] == [32, 32]
    assert (recipe["model"], recipe["engine"], recipe["device"]) == ("painter", "eager float32", "cpu")
    assert (recipe["seed"], recipe["num_steps"], recipe["sampler"], recipe["guidance_scale"]) == (3, 8, "heun", 1.5)
    assert recipe["versions"] == {"vitrail": vitrail.__version__, "torch": torch.__version__}


def test_picture_k_is_the_same_whatever_the_count():
    model = painter()
    many = vitrail.generate("disc", seed=5, count=4, model=model)
    assert [made.recipe.seed for made in many.pictures] == [5, 6, 7, 8]
    assert same(many.pictures[2].image, vitrail.generate("disc", seed=7, model=model).image)
    assert len({made.image.tobytes() for made in many.pictures}) == 4
    drawn = np.asarray(many.draw())
    assert drawn.shape[0] > 2 * 32
    assert drawn.shape[1] > 2 * 32


def test_without_a_seed_one_is_drawn_and_said():
    model = painter()
    first, second = (vitrail.generate("disc", model=model) for _ in range(2))
    assert first.recipe.seed != second.recipe.seed
    assert same(vitrail.generate("disc", model=model, seed=first.recipe.seed).image, first.image)


def test_settings_reach_the_network():
    model = painter()
    assert vitrail.generate("disc", model=model, size=(16, 24)).image.size == (24, 16)
    assert vitrail.generate("disc", model=model, size=40).image.size == (40, 40)
    counted = []
    model_steps = vitrail.generate("disc", model=model, num_steps=3, watch=lambda step: counted.append(step.number))
    assert (counted, model_steps.recipe.num_steps) == ([1, 2, 3], 3)
    drawn = {name: vitrail.generate("disc", seed=1, model=model, sampler=name, num_steps=6).image for name in SAMPLERS}
    assert len({image.tobytes() for image in drawn.values()}) > 6
    guided = {
        (scale, negative): vitrail.generate("disc", seed=1, model=model, guidance_scale=scale, negative=negative).image
        for scale in (1.0, 4.0)
        for negative in ("red", "yellow")
    }
    assert same(guided[1.0, "red"], guided[1.0, "yellow"])
    assert len({image.tobytes() for image in guided.values()}) == 3


def test_what_is_watched_becomes_the_picture():
    steps = []
    made = vitrail.generate("blue disc", seed=2, count=2, model=painter(), watch=steps.append)
    assert [(step.number, step.total) for step in steps] == [(number, 8) for number in range(1, 9)] * 2
    assert same(steps[7].picture(), made.pictures[0].image)
    errors = [
        np.abs(np.asarray(step.picture(), dtype=float) - np.asarray(made.image, dtype=float)).mean()
        for step in steps[:8]
    ]
    assert errors[0] > 2 * errors[5]


def test_many_prompts_and_one_the_network_does_not_know():
    model = painter()
    red, wrong, empty, square = vitrail.generate(["red disc", "一只青蛙", " ", "green square"], seed=1, model=model)
    assert looks_like(red.image, RED_DISC)
    assert looks_like(square.image, GREEN_SQUARE)
    assert isinstance(wrong, Failure)
    assert str(wrong) == "this network knows no '一只青蛙'"
    assert "the prompt is empty" in str(empty)
    assert vitrail.generate(["red disc"], model=model)[0].input == "red disc"


def test_a_network_that_is_not_told_what_to_make():
    model = Dreamer(PainterConfig())
    seen = {vitrail.generate(model=model, seed=seed).image.tobytes() for seed in range(3)}
    assert len(seen) == 3
    with pytest.raises(vitrail.UsageError, match="'dreamer' is not told what to make: leave the prompt out"):
        vitrail.generate("red disc", model=model)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": ""}, "the prompt is empty: say what to make"),
        ({"prompt": "a red disc and a blue square"}, "too long"),
        ({"prompt": "жаба"}, "knows no 'жаба'"),
        ({"count": 0}, "at least 1 picture"),
        ({"seed": -1}, "a seed is a whole number from 0"),
        ({"num_steps": 0}, "at least 1 step"),
        ({"sampler": "magic"}, "no sampler 'magic'; there are ddpm, ddim, euler"),
        ({"guidance_scale": float("nan")}, "guidance scale is a number"),
        ({"size": 30}, "multiples of 8 pixels, not 30×30"),
        ({"size": (0, 8)}, "at least 1 pixel a side, not 8×0"),
        ({"negative": "frog"}, "knows no 'frog'"),
    ],
)
def test_wrong_usage(wrong, said):
    with pytest.raises(vitrail.UsageError, match=said):
        vitrail.generate(**{"prompt": "disc", "model": painter(), **wrong})


def test_a_picture_that_does_not_fit_in_memory():
    with pytest.raises(
        vitrail.VitrailError, match="'painter' cannot make a picture of 8000000×8000000 pixels here: it does not fit"
    ):
        vitrail.generate("disc", model=painter(), size=8_000_000)


@pytest.mark.parametrize("model", [tiny_vit(), parrot()])
def test_networks_that_make_no_pictures_say_so(model):
    with pytest.raises(vitrail.UsageError, match=f"'{model.family}' makes no pictures"):
        vitrail.generate("disc", model=model)


def test_networks_that_make_pictures_do_not_see_and_do_not_talk():
    grey = Image.new("RGB", (8, 8), "grey")
    for verb in (vitrail.classify, vitrail.embed):
        with pytest.raises(vitrail.UsageError, match=r"'painter' makes pictures.*use generate or edit"):
            verb(grey, model=painter())
    with pytest.raises(vitrail.UsageError, match=r"'painter' makes pictures \(generate, edit\) and writes nothing"):
        vitrail.caption(grey, model=painter())


def test_one_in_training_mode_is_refused():
    with pytest.raises(vitrail.UsageError, match="training mode"):
        vitrail.generate("disc", model=painter().train())


def test_without_a_name_it_is_the_one_in_the_box(monkeypatch):
    monkeypatch.setattr(task, "box_names", lambda: ("efficientnet-lite0",))
    with pytest.raises(vitrail.UsageError, match="name a network that makes pictures"):
        get_generator()


def test_each_picture_is_handed_over_as_soon_as_it_is_there():
    kept = []
    stream = generate_each(["red", "blue"], painter(), Settings(num_steps=2), count=2, keep=kept.append)
    first = next(stream)
    assert isinstance(first, Generated)
    assert tuple(kept) == first.pictures
    next(stream)
    assert len(kept) == 4


def test_the_recipe_in_the_file_makes_the_picture_again(tmp_path):
    model = painter()
    made = vitrail.generate(
        "red disc", negative="blue", seed=11, num_steps=5, sampler="euler-ancestral", size=(24, 32), model=model
    ).pictures[0]
    made.save(tmp_path / "red.png")
    with Image.open(tmp_path / "red.png") as written:
        assert same(written, made.image)
    recipe = read_recipe(tmp_path / "red.png")
    assert recipe == made.recipe
    assert recipe.differences(model) == []
    assert same(make_again(recipe, model).image, made.image)
    made.save(tmp_path / "red.webp")
    with Image.open(tmp_path / "red.webp") as written:
        assert written.size == (32, 24)


def test_a_recipe_says_what_is_different_now(tmp_path):
    model = painter()
    recipe = vitrail.generate("red disc", model=model).recipe
    other = painter()
    with torch.no_grad():
        other.colours[0, 0] += 1e-3
    assert recipe.weights == fingerprint(painter()) != fingerprint(other)
    (said,) = recipe.differences(other)
    assert "other weights" in said
    half = painter().bfloat16()
    assert any("bfloat16" in one for one in recipe.differences(half))
    old = type(recipe)(**{**vars(recipe), "versions": {"vitrail": "0.0.1", "torch": torch.__version__}})
    assert old.differences(model) == [f"it was made with vitrail 0.0.1, and this is vitrail {vitrail.__version__}"]


def noted(path, text: str | None) -> str:
    notes = PngImagePlugin.PngInfo()
    if text is not None:
        notes.add_itxt(KEY, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=notes)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "holds no recipe: it was not made by generate or edit"),
        ("{", "makes no sense"),
        ("[]", "where there should be named fields"),
        ("{}", "model is missing"),
        ("[" * 100_000, "makes no sense"),
    ],
)
def test_files_without_a_recipe(tmp_path, text, said):
    with pytest.raises(vitrail.UsageError, match=said):
        read_recipe(noted(tmp_path / "x.png", text))


def test_a_recipe_with_a_wrong_field(tmp_path):
    good = vitrail.generate("red", model=painter()).recipe.to_dict()
    for name, wrong in (("seed", "1"), ("size", [8]), ("prompt", None), ("versions", []), ("start", 3), ("way", {})):
        with pytest.raises(vitrail.UsageError, match="makes no sense"):
            read_recipe(noted(tmp_path / "x.png", json.dumps({**good, name: wrong})))
    later = read_recipe(noted(tmp_path / "x.png", json.dumps({**good, "mood": "blue"})))
    assert later.to_dict() == good


def test_files_that_are_no_pictures(tmp_path):
    with pytest.raises(vitrail.ImageError, match="no such file"):
        read_recipe(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(vitrail.ImageError, match="is no PNG file"):
        read_recipe(tmp_path / "text.png")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(vitrail.ImageError, match=r"no PNG file|cannot be read"):
        read_recipe(tmp_path / "cut.png")
    with pytest.raises(vitrail.ImageError, match="cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("A green frog!", "a-green-frog"),
        ("一只青蛙", "一只青蛙"),
        ("../../etc/passwd", "etc-passwd"),
        ("...", "picture"),
        ("", "picture"),
        ("x" * 300, "x" * 60),
        ("café", "café"),
    ],
)
def test_files_are_called_after_the_prompt(prompt, stem):
    assert file_stem(prompt) == stem


def test_a_network_that_fails_is_a_sentence():
    class Broken(Painter):
        def decode(self, latents):
            raise RuntimeError("no\nway")

    with pytest.raises(vitrail.VitrailError, match=r"'painter' cannot make a picture of 32×32 pixels here \(no\)"):
        vitrail.generate("disc", model=Broken(PainterConfig()))
