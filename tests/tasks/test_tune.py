"""`vitrail tune`: a table, a memory, and nothing that strays."""

import json
from pathlib import Path

import pytest
import torch

import vitrail
from tests.engines.small import packable, small_vit
from tests.pictures import noise
from tests.talkers import tiny_talker
from tests.test_cli import run
from vitrail.engines import machine
from vitrail.engines.guard import LIMITS, Limit
from vitrail.engines.remembered import told
from vitrail.errors import UsageError
from vitrail.models.ddpm import DDPMConfig
from vitrail.models.ddpm_pipeline import DDPMPipeline, DDPMPipelineConfig


@pytest.fixture(autouse=True)
def _empty(monkeypatch, tmp_path):
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(tmp_path) -> str:
    return str(vitrail.save(small_vit(), tmp_path / "small.safetensors"))


def test_what_is_measured_is_what_auto_takes(small):
    tuning = vitrail.tune(small, batch=(1, 2), engines=["eager:bfloat16"], rounds=2)
    assert [(row.engine, row.batch) for row in tuning.rows] == [
        ("eager:float32", 1),
        ("eager:float32", 2),
        ("eager:bfloat16", 1),
        ("eager:bfloat16", 2),
    ]
    plain, tried = tuning.rows[0], tuning.rows[3]
    assert plain.ratio == 1
    assert plain.error == 0
    assert plain.agreement == 1
    assert tried.ratio == pytest.approx(tuning.rows[1].milliseconds / tried.milliseconds)
    assert tried.pictures_per_second == pytest.approx(2000 / tried.milliseconds)
    assert 1e-6 < tried.error < 0.1
    assert tuning.pictures == 200
    assert tuning.drawn
    if all(row.verdict.startswith("kept out") for row in tuning.rows[2:]):
        assert tuning.engine == "eager:float32"
    else:
        assert told({row.batch: row.engine for row in tuning.rows if row.verdict == "fastest"}) == tuning.engine
    assert tuning.remembered is not None
    assert tuning.remembered.is_file()
    assert vitrail.load(small).origin.engine == tuning.engine.replace(":", " ")


def test_one_that_strays_is_kept_out_and_the_table_says_so(small, monkeypatch):
    """However fast: bfloat16 is held to what only float32 can do."""
    monkeypatch.setitem(LIMITS["classes"], "bfloat16", Limit(1e-7, 1.0))
    tuning = vitrail.tune(small, batch=(1,), engines=["eager:bfloat16"], rounds=1)
    assert tuning.engine == "eager:float32"
    assert tuning.rows[1].verdict.startswith("kept out: ")
    assert "kept out: " in str(tuning)
    assert tuning.rows[1].milliseconds is not None
    assert vitrail.load(small).origin.engine == "eager float32"


@packable
def test_the_users_pictures(small, tmp_path):
    for number in range(3):
        noise(20, 20, seed=number).save(tmp_path / f"{number}.png")
    tuning = vitrail.tune(small, batch=(3,), engines=["packed:float32"], pictures=str(tmp_path), rounds=1)
    assert (tuning.pictures, tuning.drawn) == (3, False)
    assert tuning.rows[1].agreement == 1
    with pytest.raises(UsageError, match="batches of 4, and there are 3 pictures"):
        vitrail.tune(small, batch=(4,), engines=["packed"], pictures=str(tmp_path), rounds=1)


def small_generator() -> DDPMPipeline:
    network = DDPMConfig(image_size=8, widths=(8, 16), depth=1, attention=(False, False), groups=4)
    model = DDPMPipeline(DDPMPipelineConfig(network)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@packable
def test_networks_of_several_parts_are_tried_on_what_they_can():
    for model, agrees in ((tiny_talker(), "tokens"), (small_generator(), "")):
        tuning = vitrail.tune(model, batch=(1,), rounds=1)
        assert {row.engine.partition(":")[0] for row in tuning.rows} == {"eager", "packed"}
        assert f"{model.family} is several networks" in tuning.left_out[0]
        assert tuning.agrees == agrees
        assert tuning.rows[1].error < 1e-3
        with pytest.raises(UsageError, match="int8 is for networks that see pictures"):
            vitrail.tune(model, int8=True)
        with pytest.raises(UsageError, match="'onnx' runs networks that see pictures"):
            vitrail.tune(model, engines=["onnx"])


def test_a_missing_extra_is_left_out_with_a_word(small, monkeypatch):
    from vitrail.engines import openvino

    modules = __import__("sys").modules
    for package in ("openvino", "onnx"):
        monkeypatch.setitem(modules, package, None)
    openvino._core.cache_clear()
    tuning = vitrail.tune(small, batch=(1,), rounds=1)
    assert any("openvino:float32 was not tried" in said and "pip install" in said for said in tuning.left_out)
    assert any("onnx:float32 was not tried" in said for said in tuning.left_out)
    assert any("compile was not tried" in said for said in tuning.left_out)


def test_a_busy_machine_is_said(small, monkeypatch):
    for share, said in ((0.1, False), (0.9, True)):
        monkeypatch.setattr(machine, "taken", lambda before, after, share=share: share)
        tuning = vitrail.tune(small, batch=(1,), engines=["eager:bfloat16"], rounds=1)
        assert any("other programs took 90% of the machine" in sentence for sentence in tuning.left_out) == said


def test_how_busy_a_machine_is():
    idle, busy = [100, 0, 50, 1000, 10, 0, 0, 0, 0, 0], [130, 0, 60, 1050, 20, 0, 0, 0, 0, 0]
    assert machine.taken(idle, busy) == pytest.approx(0.4)  # 40 of 100, 60 of which were idle or waited for a disk
    assert machine.taken([], []) == 0
    assert machine.taken(idle, idle) == 0
    assert not Path("/proc/stat").exists() or len(machine._jiffies()) > 4


def test_on_the_command_line(small, tmp_path, monkeypatch):
    done = run("tune", small, "--batch", "1", "--engine", "eager:bfloat16", "--rounds", 1)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{small} on ")
    assert lines[1].split() == ["engine", "batch", "ms", "pictures/s", "ratio", "error", "top-1"]
    assert lines[-1].startswith("engine auto is now ")
    done = run("tune", small, "--batch", "1", "--engine", "eager:bfloat16", "--rounds", 1, "--json")
    assert json.loads(done.stdout)["rows"][0]["engine"] == "eager:float32"
    assert done.stderr == ""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "file"))
    done = run("tune", small, "--batch", "1", "--engine", "eager:bfloat16", "--rounds", 1)
    assert done.exit_code == 1
    assert "engine auto is now" not in done.stdout
    assert done.stderr.startswith("Error: what was measured is not remembered: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--batch", "0"],
        ["--batch", "one"],
        ["--batch", ""],
        ["--rounds", "0"],
        ["--engine", "warp"],
        ["--engine", "packed:int8"],
    ],
)
def test_wrong_usage_is_2(small, arguments):
    done = run("tune", small, *arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
