"""Where a network is loaded where nobody says, and what stays on the CPU whatever the machine has."""

from pathlib import Path

import pytest
import torch

import vitrail
from tests.pictures import EXAMPLES
from tests.tiny import tiny_vit
from vitrail.bench import efficientnet_lite, imagine
from vitrail.checkpoints import load as loading
from vitrail.checkpoints.save import convert
from vitrail.engines.places import asked_for, has_cuda, place_for
from vitrail.errors import UsageError, VitrailError
from vitrail.tasks.export import export
from vitrail.tasks.models import get_any_model
from vitrail.training.loop import _load_run

NAME = "emoji/vit-nano"


@pytest.mark.parametrize(
    ("engine", "place"),
    [
        ("auto", "cuda"),
        ("eager", "cuda"),
        ("eager:bfloat16", "cuda"),
        ("compile", "cuda"),
        ("compile:bfloat16", "cuda"),
        ("packed", "cpu"),
        ("packed:bfloat16", "cpu"),
        ("openvino:int8", "cpu"),
        ("onnx", "cpu"),
        ("eagerly", "cpu"),  # which there is none of
    ],
)
def test_a_gpu_is_taken_where_the_engine_can_run_on_it(engine, place, monkeypatch):
    assert place_for(engine, cuda=True) == place
    assert place_for(engine, cuda=False) == "cpu"
    monkeypatch.setenv("VITRAIL_ENGINE", engine)
    assert place_for("auto", cuda=True) == place  # being named there is being asked for
    assert place_for("auto", cuda=False) == "cpu"
    assert place_for("packed", cuda=True) == "cpu"  # and what the user names wins over it
    assert place_for("eager", cuda=True) == "cuda"


def test_the_environment_speaks_for_auto_alone(monkeypatch):
    assert asked_for("auto") == "auto"
    monkeypatch.setenv("VITRAIL_ENGINE", "")
    assert asked_for("auto") == "auto"
    monkeypatch.setenv("VITRAIL_ENGINE", "onnx")
    assert (asked_for("auto"), asked_for("eager")) == ("onnx", "eager")


@pytest.mark.skipif(torch.version.cuda is not None, reason="here torch would look for a driver")
def test_a_gpu_that_takes_no_tensor_is_none(monkeypatch):
    assert not has_cuda()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # but this torch can put nothing there
    assert not has_cuda()
    assert vitrail.load(NAME).origin.engine == "packed float32"


@pytest.fixture
def with_gpu(monkeypatch):
    """`load` takes this machine for one with a GPU. Where it has none, what goes there is refused with a sentence."""
    monkeypatch.setattr(loading, "has_cuda", lambda: True)


def place_of(get=vitrail.load, **how):
    """Where it goes; a machine without that device is asked no more than to go there."""
    try:
        return get(NAME, **how).device.type
    except UsageError as error:
        return str(error).removeprefix("this machine has no device ").strip("'")


@pytest.mark.usefixtures("with_gpu")
def test_load_goes_where_it_should(monkeypatch):
    assert place_of() == place_of(engine="eager") == place_of(dtype=torch.bfloat16) == "cuda"
    assert place_of(device="cpu") == place_of(device=torch.device("cpu"), engine="eager") == "cpu"
    assert place_of(engine="packed") == place_of(engine="packed:bfloat16") == "cpu"
    monkeypatch.setenv("VITRAIL_ENGINE", "packed")
    assert place_of() == "cpu"
    assert place_of(engine="eager") == place_of(device="cuda", engine="eager") == "cuda"


@pytest.mark.usefixtures("with_gpu")
def test_verbs_go_where_load_does():
    assert place_of(get_any_model) == "cuda"
    assert place_of(get_any_model, device="cpu") == place_of(get_any_model, engine="packed") == "cpu"


@pytest.mark.usefixtures("with_gpu")
def test_what_stays_on_the_cpu(tmp_path: Path, monkeypatch):
    assert _load_run(NAME).device.type == "cpu"  # what a training run begins from
    convert(NAME, tmp_path / "timm", layout="timm")
    for contender in (imagine.ours(2, "auto"), efficientnet_lite.ours(EXAMPLES / "cat.jpg", "auto")):
        assert " on " not in contender.engine
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))  # what is measured is not to be remembered
    measured = vitrail.tune(NAME, engines=["packed:float32"], batch=[1], rounds=1, pictures=str(EXAMPLES))
    assert {row.engine for row in measured.rows} == {"eager:float32", "packed:float32"}
    pytest.importorskip("openvino")
    export(NAME, tmp_path / "exported", engine="openvino", pictures=str(EXAMPLES))


def test_a_network_that_is_too_large_is_a_sentence(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(loading, "_assign", full)
    with pytest.raises(VitrailError, match=r"'emoji/vit-nano' does not fit in the memory of cpu: run it on the CPU"):
        vitrail.load(NAME, device="cpu")


def test_only_a_network_on_the_cpu_is_exported(tmp_path: Path):
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match="exported from the CPU, and this one is on meta: load it with device='cpu'"):
        export(tiny_vit().to("meta"), tmp_path / "exported", engine="openvino")
