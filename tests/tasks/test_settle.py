"""Before much work the fastest engine is found, once; before little, or where an engine was named, nothing is."""

import sys

import pytest
import torch

import vitrail
from tests.engines.small import packable, small_vit
from tests.pictures import noise
from tests.test_cli import run
from vitrail.engines import machine
from vitrail.imaging.inputs import find_inputs
from vitrail.tasks import settle as module
from vitrail.tasks.models import forget
from vitrail.tasks.settle import COMPARED, settle

pytestmark = packable  # or there is but one engine that is not slow to make


@pytest.fixture(autouse=True)
def _empty(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MANY", COMPARED)
    monkeypatch.setattr(machine, "taken", lambda before, after: 0.0)  # other tests run beside
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    for package in ("openvino", "onnx"):  # which take their time, and are tuned elsewhere
        monkeypatch.setitem(sys.modules, package, None)
    forget()
    yield
    forget()


@pytest.fixture
def small(tmp_path) -> str:
    return str(vitrail.save(small_vit(), tmp_path / "small.safetensors"))


@pytest.fixture
def folder(tmp_path) -> str:
    (tmp_path / "pictures").mkdir()
    for number in range(COMPARED + 6):
        noise(20, 20, seed=number).save(tmp_path / "pictures" / f"{number}.png")
    (tmp_path / "pictures" / "2.png").write_bytes(b"broken")
    return str(tmp_path / "pictures")


def test_little_work_is_begun_at_once(small, folder):
    model = vitrail.load(small)
    assert model.guessed
    assert settle(model, find_inputs(folder)) is None
    assert model.origin.engine == "packed float32"
    assert model.guessed  # for there may be more to do


def test_much_work_is_measured_first_and_once(small, folder, monkeypatch):
    """Much is what would take a millionth of a second."""
    monkeypatch.setattr(module, "LONG", 1e-6)
    model = vitrail.load(small)
    tuning = settle(model, find_inputs(folder), 4)
    assert tuning.pictures == COMPARED - 1  # one is broken
    assert not tuning.drawn
    assert {row.batch for row in tuning.rows} == {1, 4}
    assert {row.engine for row in tuning.rows} == {
        f"{engine}:{precision}" for engine in ("eager", "packed") for precision in ("float32", "bfloat16")
    } - {"eager:bfloat16"}  # which nothing but a named one tries
    assert model.origin.engine == tuning.engine.replace(":", " ")
    assert not model.guessed
    assert settle(model, find_inputs(folder), 4) is None
    again = vitrail.load(small)
    assert not again.guessed
    assert again.origin.engine == model.origin.engine


@pytest.mark.parametrize("how", [{"engine": "eager"}, {"dtype": torch.float32}])
def test_what_was_asked_for_is_left_alone(small, folder, monkeypatch, how):
    monkeypatch.setattr(module, "LONG", 1e-6)
    model = vitrail.load(small, **how)
    assert settle(model, find_inputs(folder)) is None


def test_what_cannot_be_measured_is_done_as_guessed(small, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LONG", 1e-6)
    model = vitrail.load(small)
    assert settle(model, find_inputs(folder)[:10]) is None  # too few
    assert settle(model, find_inputs(folder), 0) is None  # which is said by who uses it
    with monkeypatch.context() as crowd:
        crowd.setattr(machine, "taken", lambda before, after: 0.9)
        assert settle(model, find_inputs(folder)) is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "file"))
    tuning = settle(model, find_inputs(folder))
    assert tuning.remembered is None
    assert model.origin.engine == "packed float32"


def test_the_verbs_measure_and_say_so(small, folder, monkeypatch):
    monkeypatch.setattr(module, "LONG", 1e-6)
    done = run("embed", folder, "--model", small, "--json")
    assert "Note: for 70 pictures engines were measured first, and auto is " in done.stderr
    assert done.exit_code == 1  # for the broken one
    assert len(done.stdout.splitlines()) == COMPARED + 6
    again = run("classify", folder, "--model", small, "--json")
    assert "Note" not in again.stderr
    assert again.exit_code == 1
