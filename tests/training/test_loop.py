"""A run learns, is scored, exported, and goes on where it was killed as if nothing had been."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import vitrail
from tests.training.small import interrupt, small
from vitrail.data.generated import generate_glyphs
from vitrail.errors import UsageError, VitrailError
from vitrail.training import checkpoint
from vitrail.training.loop import evaluate, train
from vitrail.training.recipe import Recipe, parse_recipe
from vitrail.training.run import RunFolder

WORKER = Path(__file__).parent / "worker.py"
EVERYTHING = {  # that draws random numbers or keeps state
    "accumulate": 2,
    "augmentation": {"rotate": 10.0, "colour": 0.2, "erase": 0.3, "mixup": 0.4, "cutmix": 1.0, "mix": 0.7},
    "steps": 30,
    "checkpoint": {"every": 4},
}


def losses(folder: Path) -> dict[int, float]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}


def start_worker(recipe: Recipe, folder: Path) -> subprocess.Popen[bytes]:
    file = folder.with_suffix(".yaml")
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    command = [sys.executable, str(WORKER), str(file), str(folder), str(torch.get_num_threads())]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_learns_and_what_it_exports_classifies(tmp_path):
    recipe = small(steps=150, evaluation={"every": 75}, schedule={"warmup": 10})
    run = train(recipe, output=tmp_path / "run")
    curve = losses(run.folder)
    assert curve[150] < 0.5 * curve[3]
    assert run.scores["accuracy"] >= 0.5  # chance is 1 in 12, and the style was never seen
    assert run.split == "unseen style shaded"
    assert evaluate(run.folder).scores["accuracy"] == pytest.approx(run.scores["accuracy"], abs=1 / 12)  # bfloat16
    assert {path.name for path in (run.folder / "samples").iterdir()} == {"step-00000075.png", "step-00000150.png"}
    with Image.open(run.folder / "samples" / "step-00000150.png") as sheet:
        assert min(sheet.size) > 200
    assert any((run.folder / "tensorboard").iterdir())

    table = generate_glyphs(12, size=24)
    model = vitrail.load(str(run.model))
    assert model.labels == tuple(concept.name_en for concept in table.concepts.values())
    shown = [Image.fromarray(picture) for picture in table.select(styles=["flat"]).pictures]
    with torch.inference_mode():
        right = model(model.preprocess(shown)).argmax(1) == torch.arange(12)
    assert right.float().mean() >= 0.75  # glyphs of its training, as RGBA pictures


def test_killed_at_any_moment_it_ends_in_the_same_numbers(tmp_path):
    recipe = small(**EVERYTHING)
    straight = train(recipe, output=tmp_path / "straight")
    folder = tmp_path / "killed"
    process = start_worker(recipe, folder)
    try:
        while not list(folder.glob("checkpoints/step-*8.safetensors")) and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "model.safetensors").exists()
    (folder / "checkpoints" / ".step-00000012.safetensors.99").write_bytes(b"half of one")
    resumed = train(recipe, output=folder)
    assert resumed.model.read_bytes() == straight.model.read_bytes()
    assert resumed.scores == straight.scores
    assert losses(folder) == losses(tmp_path / "straight")
    assert len(list((folder / "checkpoints").iterdir())) == 2
    last = "checkpoints/step-00000030.safetensors"
    assert (folder / last).read_bytes() == (tmp_path / "straight" / last).read_bytes()


@pytest.mark.parametrize("stopped", [1, 5, 6])
def test_stopped_between_checkpoints_it_ends_in_the_same_numbers(stopped, tmp_path):
    recipe = small(**{**EVERYTHING, "steps": 9})
    straight = train(recipe, output=tmp_path / "straight")
    interrupt(recipe, tmp_path / "stopped", before=stopped)
    resumed = train(recipe, output=tmp_path / "stopped")
    assert resumed.model.read_bytes() == straight.model.read_bytes()
    assert losses(resumed.folder) == losses(straight.folder)


def test_a_finished_run_is_not_run_again(tmp_path):
    first = train(small(steps=4), output=tmp_path / "run")
    written = first.model.stat().st_mtime_ns
    again = train(small(steps=4), output=tmp_path / "run")
    assert again.scores == first.scores
    assert again.model.stat().st_mtime_ns == written
    assert len(losses(tmp_path / "run")) == 2


def test_starting_over_forgets_the_run_and_keeps_other_files(tmp_path):
    train(small(steps=4), output=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run = train(small(steps=2), output=tmp_path / "run", resume=False)
    assert run.steps == 2
    assert list(losses(run.folder)) == [2]
    assert (tmp_path / "run" / "notes.txt").exists()


def test_another_recipe_or_another_folder_is_refused(tmp_path):
    train(small(steps=2), output=tmp_path / "run")
    with pytest.raises(UsageError, match=r"another recipe \(optimiser\.lr is 0\.003 there and 0\.1 here\)"):
        train(small(steps=2, optimiser={"lr": 0.1}), output=tmp_path / "run")
    train(small(steps=2, evaluation={"every": 1}, workers=1), output=tmp_path / "run")  # these change no number
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model.safetensors").write_text("precious")
    for resume in (True, False):
        with pytest.raises(UsageError, match="holds no run"):
            train(small(steps=2), output=tmp_path / "full", resume=resume)
    assert (tmp_path / "full" / "model.safetensors").read_text() == "precious"
    with pytest.raises(UsageError, match="holds no finished run"):
        evaluate(tmp_path / "nowhere")


def test_checkpoints_are_few_and_a_damaged_one_is_named(tmp_path):
    train(small(steps=10), output=tmp_path / "run")
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-00000008.safetensors", "step-00000010.safetensors"]
    kept[-1].write_bytes(kept[-1].read_bytes()[:1000])
    with pytest.raises(VitrailError, match=r"step-00000010\.safetensors is damaged"):
        train(small(steps=10), output=tmp_path / "run")
    kept[-1].unlink()
    assert train(small(steps=10), output=tmp_path / "run").steps == 10


def test_accumulating_parts_is_the_whole_batch(tmp_path):
    plain = {"precision": "fp32", "data": {"background": "white"}, "steps": 8, "log_every": 1}
    whole = train(small(**plain), output=tmp_path / "whole")
    parts = train(small(**plain, accumulate=4), output=tmp_path / "parts")
    assert losses(parts.folder) == pytest.approx(losses(whole.folder), abs=1e-4)


def test_starting_from_another_runs_weights(tmp_path):
    first = train(small(steps=40), output=tmp_path / "first")
    flat = {"steps": 1, "optimiser": {"lr": 1e-12}, "ema": 0.0, "precision": "fp32"}
    same = train(small(**flat, start_from=str(first.folder)), output=tmp_path / "same")
    assert same.scores == pytest.approx(evaluate(first.folder).scores)
    scenes = {"source": "scenes", "generated": 12, "length": 64, "test_length": 8}
    raw = small(**flat).model_dump(mode="json") | {"data": scenes, "objective": {"name": "presence"}, "name": "scenes"}
    other = train(parse_recipe({**raw, "start_from": str(first.model)}), output=tmp_path / "other")
    before, after = vitrail.load(str(first.model)).state_dict(), vitrail.load(str(other.model)).state_dict()
    torch.testing.assert_close(after["blocks.0.mlp.up.weight"], before["blocks.0.mlp.up.weight"])
    with pytest.raises(UsageError, match=r"start_from names .*whose 'patchify.*does not fit"):
        train(small(**flat, start_from=str(first.folder), model={"patch_size": 8}), output=tmp_path / "misfit")
    with pytest.raises(UsageError, match="of the family vit, not dinov2"):
        train(small(**flat, start_from=str(first.folder), model={"family": "dinov2"}), output=tmp_path / "misfit2")


def test_a_convolutional_network_trains_by_the_same_recipe(tmp_path):
    model = {"family": "efficientnet", "image_size": 24, "width": 0.25, "depth": 0.25, "drop_path": 0.0}
    raw = small(steps=60).model_dump(mode="json") | {"model": model}
    run = train(parse_recipe(raw), output=tmp_path / "run")
    assert run.scores["accuracy"] >= 0.5  # chance is 1 in 12, and so it is with lagging statistics
    assert evaluate(run.folder).scores["accuracy"] == pytest.approx(run.scores["accuracy"], abs=1 / 12)


def test_a_loss_that_explodes_ends_in_a_sentence(tmp_path):
    with pytest.raises(VitrailError, match=r"the loss is .* at step \d+: a lower optimiser\.lr"):
        train(small(optimiser={"lr": 1e30}, clip=0.0), output=tmp_path / "run")


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(VitrailError, match=r"cannot be written .*No space left"):
        train(small(steps=8), output=tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_cut_line_of_metrics_is_forgotten(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (2, 4, 6):
        folder.log({"step": step, "loss": 1.0})
    with folder.metrics.open("a") as file:
        file.write('{"step": 8, "lo')
    folder.forget_after(4)
    assert [entry["step"] for entry in folder.entries()] == [2, 4]


def test_nothing_is_written_on_standard_output(tmp_path, capsys):
    train(small(steps=2), output=tmp_path / "run")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "accuracy" in captured.err
