"""Two processes make the updates of one, where each picture has its loss and where all of a batch have it together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.small import pairs, small
from tests.training.test_loop import WORKER, losses
from vitrail.training.loop import evaluate, train
from vitrail.training.recipe import Recipe

PLAIN = {"precision": "fp32", "data": {"background": "white"}, "steps": 12, "log_every": 1, "checkpoint": {"every": 6}}


LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1"]
WAYS = {
    "ddp": ["--multi_gpu"],  # the launcher's word for several processes a machine
    "fsdp2": ["--use_fsdp", "--fsdp_version=2", "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
              "--fsdp_transformer_layer_cls_to_wrap=Block"],
}  # fmt: skip


def launch(recipe: Recipe, folder: Path, way: str) -> None:
    file = folder.with_suffix(".yaml")
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = f"--main_process_port={free.getsockname()[1]}"
    precision = ["--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1"]
    done = subprocess.run(
        [*LAUNCH, *WAYS[way], *precision, port, str(WORKER), str(file), str(folder), "1", way],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(**PLAIN), output=tmp_path_factory.mktemp("runs") / "alone").folder


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_give_the_curve_of_one(way, alone, tmp_path):
    launch(small(**PLAIN), tmp_path / "two", way)
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), abs=1e-4)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "two", alone))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] - theirs[name]).abs().max() < 1e-3 for name in ours)
    # What two processes have written, one goes on with.
    last = tmp_path / "two" / "checkpoints" / "step-00000012.safetensors"
    assert load_file(last).keys() == load_file(alone / "checkpoints" / last.name).keys()
    last.unlink()
    (tmp_path / "two" / "model.safetensors").unlink()
    assert train(small(**PLAIN), output=tmp_path / "two").scores == train(small(**PLAIN), output=alone).scores
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), abs=1e-4)


ALIKE = {  # whichever process looks at a picture
    "data": {"background": "white", "languages": ["zh"], "wordings": "name"},
    "steps": 8,
    "log_every": 1,
    "ema": 0.0,
}


def test_two_processes_compare_the_pairs_of_both(tmp_path):
    alone = train(pairs(**ALIKE), output=tmp_path / "alone")
    launch(pairs(**ALIKE, objective={"chunk": 10}), tmp_path / "two", "ddp")  # of 24: 10, 10 and 4
    assert losses(tmp_path / "two") == pytest.approx(losses(alone.folder), abs=1e-4)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "two", alone.folder))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-3 for name in theirs)
    scores = evaluate(tmp_path / "two").scores
    entries = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert {name: entries[-1][name] for name in scores} == pytest.approx(scores)  # gathered from both
