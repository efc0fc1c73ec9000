"""The verbs that learn, on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import vitrail
from tests.pictures import noise
from tests.tiny import saved_tiny_vit
from tests.training.small import SMALL
from vitrail.cli import app


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    for name, tint in (("dark", 60), ("light", 160)):
        (root / name).mkdir()
        for number in range(6):
            noise(32, 32, seed=number).point(lambda value, tint=tint: value // 4 + tint).save(
                root / name / f"{number}.png"
            )
    return root


def test_train_then_evaluate(recipe, tmp_path):
    done = run("train", recipe, "steps=6", "model.depth=1", "-o", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    trained = json.loads(done.stdout)
    assert trained["steps"] == 6
    assert vitrail.load(trained["model"]).config.depth == 1
    again = run("evaluate", tmp_path / "run", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["scores"].keys() == trained["scores"].keys()
    assert "accuracy" in run("evaluate", tmp_path / "run").stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["steps=two"], "steps is 'two'"),
        (["model.dept=2"], "no key 'model.dept' (is 'depth' meant?)"),
        (["steps"], "write key=value"),
        (["optimiser.lr=-1"], "optimiser.lr"),
    ],
)
def test_a_bad_key_is_one_sentence_and_2(recipe, tmp_path, changes, said):
    done = run("train", recipe, *changes, "-o", tmp_path / "run")
    assert done.exit_code == 2
    (sentence,) = done.stderr.splitlines()
    assert said in sentence
    assert not (tmp_path / "run").exists()


def test_what_is_no_recipe_and_no_run(tmp_path):
    assert run("train", tmp_path / "no.yaml").exit_code == 2
    assert "holds no finished run" in run("evaluate", tmp_path).stderr


def test_finetune_then_classify(folder, tmp_path):
    model = saved_tiny_vit(tmp_path)
    done = run("finetune", folder, "-m", model, "-o", tmp_path / "out", "--validation", 0.5, "--json")
    assert done.exit_code == 0, done.stderr
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert (said["trained"], said["tested"], said["method"]) == (6, 6, "probe")
    assert Path(said["report"]).is_file()
    done = run("classify", folder / "dark", "-m", tmp_path / "out", "--json")
    assert done.exit_code == 0
    assert {label["label"] for label in json.loads(done.stdout.splitlines()[0])["labels"]} == {"dark", "light"}


def test_finetune_reports_what_is_broken_and_leaves_with_1(folder, tmp_path):
    (folder / "dark" / "broken.png").write_bytes(b"")
    done = run("finetune", folder, "-m", saved_tiny_vit(tmp_path), "-o", tmp_path / "out")
    (folder / "dark" / "broken.png").unlink()
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert "left out: 1" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "arguments", [["--method", "magic"], ["--epochs", "3"], ["--validation", "2"], ["--seed", "-1"], []]
)
def test_wrong_usage_of_finetune_is_2(folder, tmp_path, arguments):
    output = ["-o", tmp_path / "out"] if arguments else []
    done = run("finetune", folder, "-m", saved_tiny_vit(tmp_path), *output, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_probe_needs_nothing_but_the_installation_itself(folder, tmp_path):
    """And what needs more says what."""
    model = saved_tiny_vit(tmp_path)
    code = f"""
import sys
for name in ("yaml", "accelerate", "peft", "kornia", "torchmetrics", "tensorboard"):
    sys.modules[name] = None
from typer.testing import CliRunner
from vitrail.cli import app
start = ["finetune", {str(folder)!r}, "-m", {model!r}]
print(CliRunner().invoke(app, [*start, "-o", {str(tmp_path / "probe")!r}]).exit_code)
for command in ([*start, "-o", {str(tmp_path / "full")!r}, "--method", "full"], ["train", "x.yaml"], ["evaluate", "x"]):
    done = CliRunner().invoke(app, command)
    print(done.exit_code, "pip install 'vitrail[train]'" in done.stderr, len(done.stderr.splitlines()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["0", *["1 True 1"] * 3], done.stdout + done.stderr
