"""What was measured is remembered for this network, on this machine, so installed, and for nothing else."""

import json

import pytest
import torch

from tests.engines.small import small_vit
from vitrail.engines import prepare, remembered
from vitrail.engines.remembered import Measured, ranked, recall, remember
from vitrail.engines.spec import Spec
from vitrail.errors import VitrailError

ROWS = [
    Measured("eager:float32", 1, 0.010, True),
    Measured("eager:float32", 8, 0.080, True),
    Measured("packed:float32", 1, 0.008, True),
    Measured("packed:float32", 8, 0.040, True),
    Measured("eager:bfloat16", 1, 0.002, True),
    Measured("eager:bfloat16", 8, 0.100, True),
    Measured("onnx:float32", 1, 0.001, False),
    Measured("onnx:float32", 8, 0.001, True),
    Measured("openvino:float32", 1, 0.001, True),
]


@pytest.fixture(autouse=True)
def _empty(monkeypatch, tmp_path):
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))


def test_the_fastest_over_all_batches_that_is_sound_at_each():
    """bfloat16: √(2 · 100) ms; packed: √(8 · 40). One strayed, one was not measured everywhere."""
    assert list(map(str, ranked(ROWS))) == ["eager:bfloat16", "packed:float32", "eager:float32"]
    assert list(map(str, ranked(ROWS, "float32"))) == ["packed:float32", "eager:float32"]


def test_it_is_what_auto_takes():
    assert recall(small_vit(), None) is None
    remember(small_vit(), ROWS)
    assert recall(small_vit(), None) == Spec("eager", "bfloat16")
    assert prepare(small_vit(), "auto") == "eager bfloat16"
    assert prepare(small_vit(), "auto", dtype=torch.float32).endswith("float32")  # as the user asked


def test_it_is_not_for_other_networks_machines_or_versions(monkeypatch):
    remember(small_vit(), ROWS)
    assert recall(small_vit(seed=1), None) is None
    assert recall(small_vit(classes=4), None) is None
    for name, other in (("machine", {"processor": "another"}), ("versions", {"torch": "99"})):
        with monkeypatch.context() as patched:
            patched.setattr(remembered, name, lambda other=other: other)
            assert recall(small_vit(), None) is None
    assert recall(small_vit(), None) is not None


def test_an_engine_that_is_gone_is_passed_over(monkeypatch):
    """The fastest was uninstalled: the next is taken."""
    remember(small_vit(), [*ROWS[:4], Measured("onnx:float32", 1, 1e-4, True), Measured("onnx:float32", 8, 1e-4, True)])
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert recall(small_vit(), "float32") in (Spec("packed", "float32"), Spec("eager", "float32"))


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{}",
        "[]",
        '{"measured": [{"engine": "warp", "batch": 1, "seconds": 1, "sound": true}]}',
        '{"measured": [3]}',
    ],
)
def test_a_file_that_is_none_of_ours_is_passed_over(broken):
    remember(small_vit(), ROWS).write_text(broken)
    assert recall(small_vit(), None) is None
    assert prepare(small_vit(), "auto").endswith("float32")


def test_the_file_says_what_it_is_about():
    said = json.loads(remember(small_vit(), ROWS).read_text())
    assert said["family"] == "vit"
    assert said["machine"]["threads"] == torch.get_num_threads()
    assert torch.__version__.startswith(said["versions"]["torch"])  # which need not say for what it was built
    assert len(said["measured"]) == len(ROWS)


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "file"))
    with pytest.raises(VitrailError, match="cannot be made"):
        remember(small_vit(), ROWS)
    assert recall(small_vit(), None) is None
