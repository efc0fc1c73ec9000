"""`vitrail.save` writes a whole folder or none, and `convert` says what the other layout could not hold."""

import dataclasses
import json
import resource
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer

import vitrail
from tests.reading import tiny_clip
from vitrail.errors import CheckpointError, UsageError
from vitrail.imaging.preprocess import HALF, Crop, Preprocess, Resize, standard
from vitrail.models.clip import CLIP, CLIPConfig
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.vit import ViT, ViTConfig
from vitrail.text.train import train_tokenizer

SMALL = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 3, "mlp_width": 48}
PREPROCESS = standard(32, mean=HALF, std=HALF)


def network(kind=ViT, **config):
    configs = {ViT: ViTConfig, DeiT: DeiTConfig, DINOv2: DINOv2Config}
    model = kind(configs[kind](**{**SMALL, "classes": 5, **config})).eval()
    model.preprocess = PREPROCESS
    return model


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", ["transformers", "timm", "vitrail"])
@pytest.mark.parametrize(
    ("kind", "config"), [(ViT, {}), (DeiT, {}), (DINOv2, {"classes": 0}), (DINOv2, {"classes": 0, "registers": 4})]
)
@torch.inference_mode()
def test_a_network_built_in_python(kind, config, layout, tmp_path):
    model = network(kind, **config)
    assert vitrail.save(model, tmp_path / "saved", layout=layout) == tmp_path / "saved"
    assert leftovers(tmp_path) == ["saved"]
    again = vitrail.load(tmp_path / "saved")
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=1e-5)
    assert again.family == model.family
    assert again.origin.layout == layout


def test_the_layout_it_came_in_is_the_one_it_goes_out_in(tmp_path):
    vitrail.save(network(), tmp_path / "native")
    assert leftovers(tmp_path / "native") == ["model.safetensors"]
    vitrail.save(network(), tmp_path / "timm", layout="timm")
    vitrail.save(vitrail.load(tmp_path / "timm"), tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["architecture"] == "vit_tiny_patch16_224"
    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses files without


@pytest.mark.parametrize("layout", ["transformers", "timm", "vitrail"])
def test_labels_and_preprocessing_go_with_it(layout, tmp_path):
    model = network()
    model.labels = ("ant", "bee", "ant", "Käfer", "甲虫")
    vitrail.save(model, tmp_path / "saved", layout=layout)
    again = vitrail.load(tmp_path / "saved")
    assert again.labels == model.labels
    assert again.preprocess.output_size == (32, 32)
    assert again.preprocess.mean == HALF


@pytest.mark.parametrize("name", ["full", "file", "file/below"])
def test_what_is_there_is_left_alone(name, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for layout in ("transformers", "timm", "vitrail"):
        with pytest.raises(CheckpointError, match=name):
            vitrail.save(network(), tmp_path / name, layout=layout)
    assert (tmp_path / "full" / "diary.txt").read_text() == (tmp_path / "file").read_text() == "dear"
    assert leftovers(tmp_path) == ["file", "full"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    vitrail.save(network(), tmp_path / "empty", layout="timm")
    assert leftovers(tmp_path / "empty") == ["config.json", "model.safetensors"]
    vitrail.save(network(), tmp_path / "new" / "deep" / "folder", layout="timm")
    assert leftovers(tmp_path / "new" / "deep") == ["folder"]


def test_a_file_of_our_own_is_replaced_whole(tmp_path):
    path = tmp_path / "model.safetensors"
    model = network()
    vitrail.save(model, path)
    loaded = vitrail.load(path)
    with torch.no_grad():
        model.head.bias.fill_(3)
    vitrail.save(model, path)
    assert leftovers(tmp_path) == ["model.safetensors"]
    assert torch.equal(vitrail.load(path).head.bias, torch.full((5,), 3.0))
    assert torch.equal(loaded.head.bias, torch.zeros(5))  # what was mapped from the old file is still there
    vitrail.save(loaded, path)
    assert torch.equal(vitrail.load(path).head.bias, torch.zeros(5))


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the size of files stands for a full disk")
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_full_disk_leaves_nothing(name, tmp_path):
    model = network(width=192, mlp_width=768)
    size = sum(parameter.nbytes for parameter in model.parameters())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(CheckpointError, match=rf"{name} cannot be written \(.*too large"):
            vitrail.save(model, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(tmp_path) == []
    vitrail.save(model, tmp_path / name)
    assert vitrail.load(tmp_path / name).config == model.config


@pytest.mark.parametrize("name", ["null\0byte", "n" * 5000, "/proc/nothing/here"])
def test_a_path_that_cannot_be(name, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        vitrail.save(network(), tmp_path / name)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("layout", ["", "keras", "Timm"])
def test_a_layout_that_there_is_not(layout, tmp_path):
    vitrail.save(network(), tmp_path / "saved")
    with pytest.raises(UsageError, match=f"there is no layout '{layout}'"):
        vitrail.convert(tmp_path / "saved", tmp_path / "other", layout=layout)
    if layout:
        with pytest.raises(UsageError, match=f"there is no layout '{layout}'"):
            vitrail.save(network(), tmp_path / "other", layout=layout)
    assert leftovers(tmp_path) == ["saved"]


def test_a_network_without_preprocessing(tmp_path):
    model = ViT(ViTConfig(**SMALL))
    with pytest.raises(UsageError, match="set its `preprocess` first"):
        vitrail.save(model, tmp_path / "saved")


def test_half_precision_is_written_as_it_is(tmp_path):
    model = network().to(torch.bfloat16)
    vitrail.save(model, tmp_path / "saved", layout="transformers")
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_conversion_tells_what_changed(tmp_path):
    model = network(norm_eps=1e-3)
    vitrail.save(model, tmp_path / "ours")
    changed = vitrail.convert(tmp_path / "ours", tmp_path / "timm", layout="timm")
    assert changed["norm_eps"] == (1e-3, 1e-6)
    assert vitrail.convert(tmp_path / "ours", tmp_path / "same", layout="vitrail") == {}


def test_notes_go_into_the_header(tmp_path):
    notes = {"licence": "Apache-2.0", "card": "Trained on glyphs.", "vitrail": "not this"}
    again = vitrail.load(vitrail.save(network(), tmp_path / "model.safetensors", notes=notes))
    assert again.origin.licence == "Apache-2.0"
    vitrail.save(network(), tmp_path / "timm", layout="timm", notes={"licence": "MIT", "format": "not this"})
    with (
        safe_open(tmp_path / "model.safetensors", "pt") as ours,
        safe_open(tmp_path / "timm" / "model.safetensors", "pt") as theirs,
    ):
        assert ours.metadata()["card"] == "Trained on glyphs."
        assert theirs.metadata() == {"licence": "MIT", "format": "pt"}


def reader():
    """A small CLIP with a tokenizer of our own."""
    image, text = tiny_clip().config.image, tiny_clip().config.text
    model = CLIP(CLIPConfig(image, dataclasses.replace(text, vocabulary=300), width=24)).eval()
    model.preprocess = Preprocess(Resize(32, "shortest"), Crop((32, 32)), transparency="white")
    model.tokenizer = train_tokenizer(["a red cat", "一只狗", "a photo of a dog"] * 10, 300, text.context)
    return model


@pytest.mark.parametrize(
    ("layout", "files"),
    [
        ("transformers", ["config.json", "model.safetensors", "preprocessor_config.json"]),
        ("open_clip", ["open_clip_config.json", "open_clip_model.safetensors"]),
        ("vitrail", ["model.safetensors"]),
    ],
)
@torch.inference_mode()
def test_a_network_that_reads_goes_out_with_its_tokenizer(layout, files, tmp_path):
    model = reader()
    vitrail.save(model, tmp_path / "saved", layout=layout)
    beside = [] if layout == "vitrail" else ["tokenizer.json", "tokenizer_config.json"]
    assert leftovers(tmp_path / "saved") == sorted(files + beside)
    again = vitrail.load(tmp_path / "saved")
    images, texts = torch.rand(2, 3, 32, 32), ["a red cat", "dog", "a photo of a drawing of a green cat " * 3]
    torch.testing.assert_close(again(images, texts), model(images, texts))
    assert again.origin.layout == layout
    if layout == "transformers":
        theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")(texts, truncation=True, padding="longest")
        assert again.tokenizer(texts).tolist() == theirs["input_ids"]


def test_converting_names_the_tower_that_changed(tmp_path):
    model = tiny_clip()
    model.preprocess = reader().preprocess
    vitrail.save(model, tmp_path / "saved")
    changed = vitrail.convert(tmp_path / "saved", tmp_path / "other", layout="open_clip")
    assert changed.keys() <= {"image.antialias", "preprocess"}
    assert changed["image.antialias"] == (False, True)
