"""`vitrail export`: other programs read what is written, and the README's few lines say what `vitrail` says."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests import exporting
from tests.engines.small import small_vit
from tests.models.test_latent_diffusion import tiny as latent_diffusion
from tests.pictures import EXAMPLES, noise, see_through
from tests.reading import saved_tiny_clip
from tests.talkers import tiny_talker
from tests.test_cli import run
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.preprocess import Crop, Preprocess, Resize
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.tasks.exports.readme import prepared

CAT = EXAMPLES / "cat.jpg"


@pytest.fixture(params=["onnx", "openvino"])
def engine(request) -> str:
    exporting.need(request.param)
    return request.param


def run_readme(folder) -> list[str]:
    """Run the program in README.md as it is written, on the cat; what it prints."""
    with Image.open(CAT) as cat:
        cat.save(folder / "picture.jpg", quality=95)
    return exporting.run_program(exporting.program(folder), folder).splitlines()


def test_a_classifier(engine, tmp_path):
    model = small_vit()
    model.labels = ("a cat", "a dog", "a\nbird", "Katze 猫", "x")
    model.preprocess = Preprocess(Resize(20, "shortest"), Crop((16, 16)))
    exported = vitrail.export(model, tmp_path / "out", engine=engine)
    network = ("model.onnx",) if engine == "onnx" else ("model.bin", "model.xml")
    assert exported.files == tuple(sorted(("README.md", "labels.txt", "preprocess.json", *network)))
    assert exported.error < 1e-5
    assert exported.agreement == 1
    said = json.loads((tmp_path / "out" / "preprocess.json").read_text())
    assert said["size"] == [16, 16]
    assert said["resize"] == {"size": 20, "rule": "shortest", "resample": "bicubic", "longest": None}
    printed = run_readme(tmp_path / "out")
    found = vitrail.classify(str(tmp_path / "out" / "picture.jpg"), model=model)
    assert printed == [f"{label.score:.4f} {' '.join(label.label.split())}" for label in found.labels]


def test_two_towers(engine, tmp_path):
    path = saved_tiny_clip(tmp_path)
    exported = vitrail.export(path, tmp_path / "out", engine=engine)
    suffixes = (".onnx",) if engine == "onnx" else (".bin", ".xml")
    networks = {f"{tower}{suffix}" for tower in ("image", "text") for suffix in suffixes}
    assert set(exported.files) == {"README.md", "preprocess.json", "tokenizer.json", *networks}
    printed = run_readme(tmp_path / "out")
    found = vitrail.classify(str(tmp_path / "out" / "picture.jpg"), labels=["a red apple", "a dog"], model=path)
    scores = {label.label: label.score for label in found.labels}
    for line in printed:
        score, _, text = line.partition(" ")
        assert float(score) == pytest.approx(scores[text], abs=2e-4)


def test_one_that_writes_and_one_that_makes_pictures(tmp_path):
    exporting.need("onnx")
    exporting.need("openvino")
    exported = vitrail.export(tiny_talker(), tmp_path / "talk")
    assert exported.files == ("README.md", "preprocess.json", "prompt.onnx", "token.onnx", "tokenizer.json")
    assert (exported.error, exported.agreement) == (0, 1)
    assert run_readme(tmp_path / "talk") == [
        vitrail.caption(tmp_path / "talk" / "picture.jpg", model=tiny_talker()).text
    ]
    path = vitrail.save(latent_diffusion(), tmp_path / "tiny.safetensors")
    done = run("export", path, tmp_path / "imagine", "--engine", "openvino", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    networks = {f"{name}.{ending}" for name in ("text", "denoiser", "decoder") for ending in ("xml", "bin")}
    assert set(said["files"]) == {"README.md", "sigmas.txt", "tokenizer.json", *networks}
    assert said["error"] < 1e-4
    assert said["agreement"] is None
    exporting.run_program(exporting.program(tmp_path / "imagine"), tmp_path / "imagine")
    with Image.open(tmp_path / "imagine" / "picture.png") as picture:
        assert picture.size == (16, 16)
    done = run("export", path, tmp_path / "out", "--engine", "openvino", "--precision", "int8")
    assert done.exit_code == 2
    assert "int8 is calibrated on pictures" in done.stderr


def test_vectors_for_any_batch_on_the_command_line(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = small_vit(classes=0)
    path = vitrail.save(model, tmp_path / "small.safetensors")
    done = run("export", path, tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["folder"] == str(tmp_path / "out")
    assert set(said["files"]) == set(os.listdir(tmp_path / "out")) == {"README.md", "model.onnx", "preprocess.json"}
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    assert [given.name for given in session.get_inputs()] == ["images"]
    assert [made.name for made in session.get_outputs()] == ["vectors"]
    for batch in (1, 2, 5):
        images = torch.randn(batch, 3, 16, 16)
        (vectors,) = session.run(["vectors"], {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(vectors, model(images).numpy(), rtol=1e-4, atol=1e-5)


def test_halves_and_integers_by_openvino(tmp_path):
    pytest.importorskip("nncf")
    model = small_vit(classes=0)
    for precision, furthest in (("float16", 1e-2), ("int8", 0.3)):
        exported = vitrail.export(model, tmp_path / precision, engine="openvino", precision=precision)
        assert 0 < exported.error < furthest
        assert exported.agreement > 0.95
    assert "i8" in (tmp_path / "int8" / "model.xml").read_text()


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(Resize((20, 30), resample=Image.Resampling.BILINEAR), mean=None, std=None),
        Preprocess(Resize(21, "shortest"), Crop((16, 18), "floor"), rescale_offset=True, std_twice=True),
        Preprocess(Resize((19, 27), "cover"), Crop((19, 27)), transparency="white"),
        Preprocess(Resize((24, 24), "contain"), Crop((24, 24))),
        Preprocess(Resize((16, 16)), mode="L", mean=(0.5,), std=(0.25,), rescale=None),
        Preprocess(Resize((16, 16)), middle=(0.8, 0.7)),
        Preprocess(None, Crop((40, 40))),
    ],
)
def test_the_lines_that_prepare_a_picture(preprocess, tmp_path, monkeypatch):
    """They do, to the last bits of float32, what the checkpoint's preprocessing does."""
    import PIL.ImageOps

    monkeypatch.chdir(tmp_path)
    for picture in (noise(61, 47), noise(33, 90), see_through().resize((50, 41)), noise(20, 20, "L")):
        picture.save("picture.png")
        held = {"np": np, "Image": Image, "ImageOps": PIL.ImageOps}
        exec("\n".join(prepared(preprocess)).replace("picture.jpg", "picture.png"), held)
        expected = preprocess(picture).numpy()
        assert held["images"].shape == expected.shape
        np.testing.assert_allclose(held["images"], expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported(tmp_path):
    pytest.importorskip("onnxscript")
    with pytest.raises(UsageError, match="that see, write or make pictures, and autoencoder-kl is none"):
        vitrail.export(AutoencoderKL(AutoencoderKLConfig(widths=(8,), groups=4)).eval(), tmp_path / "out")
    with pytest.raises(UsageError, match="for onnx or openvino, not for 'packed'"):
        vitrail.export(small_vit(), tmp_path / "out", engine="packed")
    with pytest.raises(UsageError, match="onnx is written in float32, not in 'int8'"):
        vitrail.export(small_vit(), tmp_path / "out", precision="int8")
    model = small_vit()
    model.preprocess = Preprocess(Resize(16, "shortest"))
    with pytest.raises(VitrailError, match="takes pictures of any size"):
        vitrail.export(model, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(VitrailError, match="is there already"):
        vitrail.export(small_vit(), tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(VitrailError, match=r"cannot be written|is there already"):
        vitrail.export(small_vit(), tmp_path / "file" / "out")
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]


def test_what_says_something_else_is_not_written(tmp_path, monkeypatch):
    """A fault of the exporter, injected: the written network's answers are a tenth too large."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from vitrail.engines import onnx

    right = onnx.running

    def wrong(path):
        session = right(path)
        return lambda images: 1.1 * session(images)

    monkeypatch.setattr(onnx, "running", wrong)
    with pytest.raises(VitrailError, match=r"does not say what PyTorch says: error 0\.1, above 0\.001"):
        vitrail.export(small_vit(), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_wrong_usage_and_a_missing_package(tmp_path, monkeypatch):
    path = str(vitrail.save(small_vit(), tmp_path / "small.safetensors"))
    assert run("export", path, tmp_path / "out", "--engine", "tflite").exit_code == 2
    assert run("export", path).exit_code == 2
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("export", path, tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: the engine 'onnx' needs the package onnx, which is not installed: pip install 'vitrail[onnx]'\n"
    )
    assert not (tmp_path / "out").exists()
