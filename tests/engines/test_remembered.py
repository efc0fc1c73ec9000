"""What was measured is remembered for this network, on this machine, so installed, and for nothing else."""

import copy
import json
import pickle

import pytest
import torch

import vitrail
from tests.engines.small import packable, relative, small_vit
from tests.pictures import noise
from vitrail.engines import prepare, remembered, running
from vitrail.engines.remembered import Measured, fastest, nearest, ranked, recall, remember
from vitrail.engines.spec import Spec
from vitrail.errors import VitrailError
from vitrail.tasks.models import forget

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


def test_each_size_has_its_own_where_that_is_worth_it():
    choice = fastest(ROWS)
    assert choice.by_batch == {1: Spec("eager", "bfloat16"), 8: Spec("packed", "float32")}
    assert str(choice) == "eager:bfloat16 for 1, packed:float32 for 8"
    assert str(fastest(ROWS, each=False)) == "eager:bfloat16"
    assert str(fastest(ROWS, "float32")) == "packed:float32"
    a_little = [*ROWS[:4], Measured("eager:bfloat16", 1, 0.0078, True), Measured("eager:bfloat16", 8, 0.041, True)]
    assert str(fastest(a_little)) == "eager:bfloat16"  # over both; 2.5 % are not worth a second copy of the weights
    assert fastest([]) is None
    assert fastest(ROWS, "int8") is None


def test_a_size_that_was_not_measured_is_run_as_the_one_most_like_it():
    assert [nearest((1, 8), batch) for batch in (1, 2, 3, 8, 100)] == [1, 1, 8, 8, 8]
    assert nearest((4, 1), 2) == 1


def test_it_is_what_auto_takes():
    assert recall(small_vit(), None) is None
    remember(small_vit(), ROWS)
    assert recall(small_vit(), None) == fastest(ROWS)
    assert prepare(small_vit(), "auto") == "eager bfloat16 for 1, packed float32 for 8"
    assert prepare(small_vit(), "auto", dtype=torch.float32).endswith("float32")  # as the user asked
    assert prepare(small_vit(), "auto", dtype=torch.bfloat16) == "eager bfloat16"


@packable
def test_few_pictures_run_on_one_engine_and_many_on_another(tmp_path):
    """Which one ran shows in the numbers: bfloat16's are not float32's."""
    model, plain = small_vit(), small_vit()
    remember(model, ROWS)
    prepare(model, "auto")
    images = torch.randn(8, 3, 16, 16)
    copies = (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    for network in copies:
        with torch.no_grad():
            assert 1e-4 < relative(network(images[:1]), plain(images[:1])) < 0.1
            assert relative(network(images), plain(images)) < 1e-5
    assert [running(model, batch) for batch in (1, 2, 3)] == ["eager bfloat16", "eager bfloat16", "packed float32"]
    assert running(plain, 1) is None


@packable
def test_results_say_what_ran(tmp_path):
    path = str(vitrail.save(small_vit(), tmp_path / "small.safetensors"))
    remember(small_vit(), ROWS)
    forget()
    one, both = noise(20, 20), "eager bfloat16 for 1, packed float32 for 8"
    assert vitrail.classify(one, model=path).engine == "eager bfloat16"
    assert [result.engine for result in vitrail.classify([one, one], model=path)] == [both, both]


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
    assert str(recall(small_vit(), "float32")) in ("packed:float32", "eager:float32")


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
