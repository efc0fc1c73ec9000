"""OpenVINO and ONNX Runtime say what eager says, and step aside for gradients, hooks and new weights."""

import copy
import os
import pickle
import shutil

import pytest
import torch
from PIL import Image
from torch import nn

import vitrail
from tests.engines.small import relative, small_vit
from tests.talkers import tiny_talker
from vitrail.engines import kept, prepare
from vitrail.engines.cache import cache_folder, fingerprint, looks
from vitrail.engines.entries import Entry
from vitrail.engines.exported import twin
from vitrail.errors import UsageError, VitrailError
from vitrail.models.vit import ViT
from vitrail.nn.attention import watch_attention

NEEDS = {"openvino": ("openvino",), "onnx": ("onnx", "onnxscript", "onnxruntime")}
PICTURES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["openvino", "onnx"])
def engine(request) -> str:
    for package in NEEDS[request.param]:
        pytest.importorskip(package)
    return request.param


@pytest.fixture(scope="module")
def prepared(engine) -> ViT:
    """A network that was converted, once for all tests that leave it as it is."""
    model = small_vit()
    assert prepare(model, engine) == f"{engine} float32"
    with torch.inference_mode():
        model(PICTURES)
    return model


def ran(model: ViT) -> bool:
    """Whether the engine was made for a size of pictures."""
    assert isinstance(model.features, Entry)
    return bool(model.features.runs)


def test_it_says_what_eager_says_for_any_batch(prepared):
    plain = small_vit()
    with torch.inference_mode():
        for pictures in (PICTURES, PICTURES[:1], PICTURES[:2].double(), PICTURES.flip(3).transpose(2, 3)):
            assert relative(prepared(pictures), plain(pictures.float())) < 1e-5
    assert ran(prepared)
    assert prepared.features(PICTURES[:0]).shape == (0, 5, 16)  # a batch of none


def test_gradients_flow_and_then_it_runs_again(prepared):
    prepared(PICTURES).sum().backward()
    assert all(parameter.grad is not None for parameter in prepared.parameters())
    prepared.zero_grad()
    seen = []
    entry = prepared.features
    (size,) = entry.runs
    run = entry.runs[size]
    entry.runs[size] = lambda images: seen.append(len(images)) or run(images)
    try:
        with torch.no_grad():
            prepared(PICTURES)
    finally:
        entry.runs[size] = run
    assert seen == [3]


def test_modules_can_be_watched(prepared):
    with torch.no_grad(), watch_attention(prepared) as weights:
        prepared(PICTURES)
    assert [tuple(layer.shape) for layer in weights] == [(3, 2, 5, 5)]


def test_a_second_process_converts_nothing(prepared, engine, monkeypatch):
    """The graph is read from the cache: converting fails here, as it would in a process that tried."""
    module = pytest.importorskip(f"vitrail.engines.{engine}")
    monkeypatch.setattr(module, "converted", lambda *given: pytest.fail("converted again"))
    again = small_vit()
    prepare(again, engine)
    with torch.inference_mode():
        assert relative(again(PICTURES), small_vit()(PICTURES)) < 1e-5
    other = small_vit(seed=1)  # other weights: another network
    prepare(other, engine)
    with pytest.raises(pytest.fail.Exception, match="converted again"), torch.no_grad():
        other(PICTURES)


def test_a_broken_file_in_the_cache_is_made_again(prepared, engine):
    (folder,) = (cache_folder() / "engines" / fingerprint(prepared)).glob(f"*/features-3x16x16-{engine}")
    sound = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    again = small_vit()
    prepare(again, engine)
    with torch.inference_mode():
        assert relative(again(PICTURES), small_vit()(PICTURES)) < 1e-5
    assert {path.name for path in folder.iterdir()} == set(sound)
    assert all(path.read_bytes() != b"broken" for path in folder.iterdir())


@pytest.mark.parametrize("change", ["in place", "replaced", "trained", "module"])
def test_changed_weights_are_heeded(prepared, engine, change):
    model = copy.deepcopy(prepared)
    with torch.no_grad():
        before = model(PICTURES)
        assert ran(model)
        if change == "in place":
            model.norm.weight.copy_(model.norm.weight * 2)
        elif change == "replaced":
            model.norm.weight = nn.Parameter(model.norm.weight * 2)
    if change == "trained":
        model(PICTURES).sum().backward()
        model.norm.weight.grad.neg_()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    if change == "module":
        model(PICTURES)  # with gradients, as where an adapter is trained
        model.norm = nn.Identity()
    plain = small_vit()
    plain.norm = copy.deepcopy(model.norm)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert relative(model(PICTURES), plain(PICTURES)) < 1e-5
        assert relative(before, plain(PICTURES)) > 1e-3


def test_a_network_goes_to_another_process_with_its_engine(prepared):
    sent = pickle.loads(pickle.dumps(prepared))
    assert sent.features.model is sent
    assert sent.head.forward.forward.module is sent.head
    assert not ran(sent)
    with torch.no_grad():
        assert relative(sent(PICTURES), prepared(PICTURES)) < 1e-5
    assert ran(sent)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [small_vit, tiny_talker])
def test_a_packed_network_goes_to_another_process(make, precision):
    model = make()
    prepare(model, f"packed:{precision}")
    pixels = model.preprocess(Image.new("RGB", (8, 8), "red")).to(next(model.parameters()).dtype)
    given = (pixels,) if make is small_vit else (pixels, torch.arange(4)[None])
    with torch.no_grad():
        said = model(*given)
        sent = pickle.loads(pickle.dumps(model))
        assert sent.head.forward.module is sent.head
        assert torch.equal(sent(*given), said)


def test_a_copy_has_an_engine_of_its_own(prepared):
    copied = copy.deepcopy(prepared)
    assert copied.features.model is copied
    assert not ran(copied)
    with torch.no_grad():
        assert relative(copied(PICTURES), prepared(PICTURES)) < 1e-5
    assert ran(copied)


def test_sizes_beyond_the_most_run_plainly(prepared, monkeypatch):
    monkeypatch.setattr(Entry, "most_sizes", 1)
    larger = torch.randn(2, 3, 24, 16)
    with torch.no_grad():
        assert relative(prepared(larger), small_vit()(larger)) < 1e-5
    assert len(prepared.features.runs) == 1


def test_an_engine_that_strays_is_refused(prepared, engine, monkeypatch):
    """A fault of the other program, injected: what it gives is a tenth too large."""
    module = pytest.importorskip(f"vitrail.engines.{engine}")
    right = module.running

    def wrong(*given):
        run = right(*given)
        return lambda images: 1.1 * run(images)

    monkeypatch.setattr(module, "running", wrong)
    model = small_vit()
    prepare(model, engine)
    with torch.no_grad(), pytest.raises(VitrailError, match=f"vit on {engine} float32 strays by 0.1"):
        model(PICTURES)


def test_a_cache_that_cannot_be_written_breaks_nothing(engine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "file"))
    model = small_vit()
    prepare(model, engine)
    with torch.no_grad():
        assert relative(model(PICTURES), small_vit()(PICTURES)) < 1e-5


def test_a_missing_package_is_one_sentence(engine, monkeypatch):
    package = NEEDS[engine][0]
    monkeypatch.setitem(__import__("sys").modules, package, None)  # as Python marks what cannot be imported
    if engine == "openvino":
        from vitrail.engines import openvino

        openvino._core.cache_clear()
    with pytest.raises(VitrailError, match=rf"needs the package {package}.*pip install 'vitrail\[{engine}\]'"):
        prepare(small_vit(), engine)


def test_what_they_cannot_run_is_said(engine):
    with pytest.raises(UsageError, match=f"'{engine}' runs networks that see pictures, and vit-gpt runs as eager"):
        prepare(tiny_talker(), engine)


def test_bfloat16_by_openvino():
    pytest.importorskip("openvino")
    from vitrail.engines.openvino import check_openvino

    try:
        check_openvino("bfloat16")
    except UsageError:
        pytest.skip("this processor has no bfloat16 instructions")
    model = small_vit()
    assert prepare(model, "openvino:bfloat16") == "openvino bfloat16"
    with torch.no_grad():
        said, exact = model(PICTURES), small_vit()(PICTURES)
    assert said.dtype == torch.float32
    assert 1e-6 < relative(said, exact) < 5e-2


def test_bfloat16_leaves_the_weights_and_answers_in_float32():
    model = small_vit()
    assert prepare(model, "eager:bfloat16") == "eager bfloat16"
    with torch.no_grad():
        said = model(PICTURES)
        assert model(torch.randn(1, 3, 24, 16)).shape == (1, 5)
    assert said.dtype == torch.float32
    assert 1e-6 < relative(said, small_vit()(PICTURES)) < 5e-2
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), small_vit().parameters(), strict=True))
    with torch.no_grad():
        model.norm.bias.add_(1)
        plain = small_vit()
        plain.norm.bias.add_(1)
        assert relative(model(PICTURES), plain(PICTURES)) < 1e-5  # in float32, and with the new weights


def test_bfloat16_of_what_has_no_entries_casts_the_weights():
    model, plain = tiny_talker(), tiny_talker()
    assert prepare(model, "eager:bfloat16") == "eager bfloat16"
    assert model.head.weight.dtype == torch.bfloat16
    ids = torch.arange(4)[None]
    with torch.no_grad():
        pixels = plain.preprocess(Image.new("RGB", (8, 8), "red"))
        said, exact = model(pixels.bfloat16(), ids), plain(pixels, ids)
    assert said.dtype == torch.float32
    assert relative(said, exact) < 0.1
    assert copy.deepcopy(model).forward.model is not model


def test_float_types_that_an_engine_does_not_know(engine):
    with pytest.raises(UsageError, match=f"'{engine}' computes in float32.*, not in float16"):
        prepare(small_vit().half(), engine)


def test_looks_are_cheap_and_tell_networks_apart():
    model = small_vit()
    assert looks(model) == looks(small_vit()) == looks(small_vit().bfloat16())
    assert looks(model) != looks(small_vit(seed=1))
    with torch.no_grad():
        model.blocks[0].mlp.up.weight.view(-1)[-1] += 1  # further back than looks goes
    assert looks(model) == looks(small_vit())
    assert fingerprint(model) != fingerprint(small_vit())


def test_a_twin_shares_its_weights():
    model = small_vit()
    copied = twin(model)
    assert copied.head.weight.data_ptr() == model.head.weight.data_ptr()
    copied.bfloat16()
    assert model.head.weight.dtype == torch.float32


def test_what_is_kept_is_written_whole_or_not_at_all(tmp_path):
    def fail(folder):
        (folder / "half").write_text("…")
        raise OSError("the disk is full")

    assert not kept.keep(tmp_path / "a" / "b", fail)
    assert not (tmp_path / "a" / "b").exists()
    for word in ("first", "second"):
        assert kept.keep(tmp_path / "a" / "b", lambda folder, word=word: (folder / "file").write_text(word))
        assert (tmp_path / "a" / "b" / "file").read_text() == word
    assert os.listdir(tmp_path / "a") == ["b"]


def test_the_environment_names_an_engine(monkeypatch, tmp_path):
    path = str(vitrail.save(small_vit(), tmp_path / "small.safetensors"))
    monkeypatch.setenv("VITRAIL_ENGINE", "eager:bfloat16")
    assert vitrail.load(path).origin.engine == "eager bfloat16"
    assert vitrail.load(path, engine="eager").origin.engine == "eager float32"
    with pytest.raises(UsageError, match="'eager:bfloat16' does not compute in float32"):
        vitrail.load(path, dtype=torch.float32)
    monkeypatch.setenv("VITRAIL_ENGINE", "warp")
    with pytest.raises(UsageError, match="no engine 'warp'"):
        vitrail.load(path)
    monkeypatch.setenv("VITRAIL_ENGINE", "auto")
    assert vitrail.load(path).origin.engine.endswith("float32")


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")
def test_compile_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(VitrailError, match="C\\+\\+ compiler, and 'no-such-compiler', which CXX names, is not there"):
        prepare(small_vit(), "compile")


def test_a_network_that_was_made_without_gradients_in_mind():
    with torch.inference_mode():
        model, plain = small_vit(), small_vit()
        prepare(model, "packed:bfloat16")
        assert relative(model(PICTURES), plain(PICTURES)) < 0.1
