"""Recipes are read as they are meant, and refused by the key that is wrong."""

from pathlib import Path

import pytest
import yaml

from tests.training.small import SMALL, pairs, small
from vitrail.errors import UsageError
from vitrail.training.loop import open_data, train
from vitrail.training.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return file


def test_overrides_are_yaml_with_dotted_keys(path):
    recipe = load_recipe(
        path, ["steps=7", "model.depth=1", "optimiser.lr=2e-4", "schedule.warmup=3", "data.hold_out_style=null"]
    )
    assert recipe.steps == 7
    assert recipe.model.config().depth == 1
    assert recipe.optimiser.lr == 2e-4
    assert recipe.schedule.warmup == 3
    assert recipe.data.hold_out_style is None


def test_spelling_out_the_defaults_changes_nothing(path, tmp_path):
    recipe = load_recipe(path)
    (tmp_path / "resolved.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize("shipped", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_are_valid(shipped):
    assert load_recipe(shipped).name == shipped.stem


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stepz=7", r"no key 'stepz' \(is 'steps' meant\?\)"),
        ("model.dpeth=4", r"no key 'model\.dpeth' \(is 'depth' meant\?\)"),
        ("optimiser.rate=1", r"no key 'optimiser\.rate'"),
        ("data.hold_out=noto", r"no key 'data\.hold_out'"),
        ("steps=many", r"steps is 'many'"),
        ("steps='7'", r"steps is '7'"),
        ("steps=1.5", r"steps is 1\.5"),
        ("steps=true", r"steps is True"),
        ("model.depth=four", r"model\.depth is 'four'"),
        ("model.image_size=[24]", r"model\.image_size is \[24\]"),
        ("optimiser.betas=[0.9]", r"optimiser\.betas"),
        ("optimiser.lr=.nan", r"optimiser\.lr is nan"),
        ("optimiser=3", r"optimiser is 3"),
        ("steps=0", r"steps is 0"),
        ("optimiser.lr=-1", r"optimiser\.lr is -1"),
        ("optimiser.betas=[0.9, 1.0]", r"optimiser\.betas\.1 is 1\.0"),
        ("ema=1.0", r"ema is 1\.0"),
        ("augmentation.flip=2", r"augmentation\.flip is 2"),
        ("augmentation.scale=[2, 1]", r"augmentation: scale goes from the smallest"),
        ("precision=fp8", r"precision is 'fp8'.*'bf16' or 'fp32'"),
        ("name=../up", r"name is '\.\./up'"),
        ("data.source=moon", r"data\.source is 'moon', and can be .*'glyphs'"),
        ("objective={}", r"'objective\.name' is missing"),
        ("model.family=resnext", r"model\.family is 'resnext', and can be .*vit"),
        ("model.heads=5", r"'model'.*48.*5 heads"),
        ("model.image_size=25", r"'model'.*25×25.*6×6"),
        ("model.patch_size=0", r"'model'"),
        ("model.depth=-1", r"model\.depth is -1"),
        ("model.activation=sine", r"'model'.*'sine'"),
        ("model.channels=1", r"model\.channels is 1"),
        ("accumulate=5", r"batch_size 16.*accumulate 5"),
        ("schedule.warmup=99", r"schedule\.warmup 99.*steps 24"),
        ("steps", r"'steps' changes nothing"),
        ("steps.more=1", r"inside 'steps'"),
        ("steps=[1", r"'steps=\[1' is not YAML"),
    ],
)
def test_a_bad_key_is_refused_by_name(path, override, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        load_recipe(path, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"image": {"dpeth": 4}}, r"no key 'model\.image\.dpeth' \(is 'depth' meant\?\)"),
        ({"image": {"colours": 3}}, r"no key 'model\.image\.colours': model\.image has image_size, patch_size"),
        ({"image": {"depth": "two"}}, r"model\.image\.depth is 'two'"),
        ({"text": {"width": -1}}, r"model\.text\.width is -1"),
        ({"text": 7}, r"model\.text is 7, where there should be keys with values"),
        ({"width": "wide"}, r"model\.width is 'wide'"),
        ({"image": {"image_size": 25, "patch_size": 6}}, r"'model'.*25×25.*6×6"),
    ],
)
def test_a_bad_key_of_a_tower_is_refused_by_its_dotted_name(model, sentence):
    with pytest.raises(UsageError, match=sentence):
        pairs(model=model)


def test_keys_tell_which_of_several_towers_is_meant():
    bert = {"context": 24, "width": 48, "depth": 1, "heads": 3, "mlp_width": 96, "pad": 0}
    assert type(pairs(model={"text": bert}).model.config().text).__name__ == "BERTConfig"
    config = pairs().model.config()
    assert (type(config.text).__name__, type(config.image).__name__) == ("CLIPTextConfig", "CLIPImageConfig")
    assert (config.image.image_size, config.text.context) == (24, 24)


@pytest.mark.parametrize("key", ["name", "model", "data", "objective", "steps", "batch_size"])
def test_a_missing_key_is_named(key):
    with pytest.raises(UsageError, match=f"'{key}' is missing"):
        parse_recipe({name: value for name, value in SMALL.items() if name != key})


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(UsageError, match=r"there is no recipe .*absent\.yaml"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path)
    for content, sentence in [
        (b"a: [1\nb: 2", "is not YAML, line 2"),
        (b"- a\n- b\n", "holds no keys"),
        (b"", "holds no keys"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"steps: !!python/object/apply:os.system ['true']", "is not YAML"),
        (b"a: &a [*a]", "refers to itself"),
    ]:
        (tmp_path / "bad.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=sentence):
            load_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"classes": 10}}, r"model\.classes is 10, but the data has 12"),
        ({"objective": {"name": "presence"}}, r"objective\.name is 'presence', but"),
        ({"data": {"hold_out_style": "cubist"}}, r"data\.hold_out_style names 'cubist'"),
        ({"data": {"styles": ["shaded"]}}, r"data\.styles names 'shaded'"),
        ({"data": {"groups": ["cars"]}}, r"data\.groups names 'cars'"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_a_run_begins(changes, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        train(small(**changes), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_data_decides_how_many_classes():
    recipe = small()
    assert recipe.model.config(len(open_data(recipe).labels)).classes == 12
