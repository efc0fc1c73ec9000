"""Our own layout keeps configs with towers, and what reads the texts, in one file's header."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vitrail
from tests.reading import tiny_clip
from tests.tiny import tiny_vit
from vitrail.checkpoints.layout import Description
from vitrail.checkpoints.native import NativeLayout
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Crop, Preprocess, Resize
from vitrail.models.bert import BERTConfig
from vitrail.models.clip import CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.clip_resnet import CLIPResNetConfig
from vitrail.models.efficientnet import EfficientNetConfig

CONFIGS = [
    CLIPConfig(),
    CLIPConfig(CLIPImageConfig((32, 48), (8, 16)), CLIPTextConfig(context=12, end=2), width=24),
    CLIPConfig(CLIPResNetConfig(depths=(1, 2, 1, 1)), BERTConfig(vocabulary=300)),
    EfficientNetConfig(),
]


def header(config, family):
    """What a file of our own says, as it is read again."""
    return json.loads(json.dumps({"family": family, "config": dataclasses.asdict(config)}))


def read(said):
    return NativeLayout(said["family"]).read_config(Description({"vitrail": said}))


@pytest.mark.parametrize("config", CONFIGS, ids=["ViT-B/32", "oblong", "ResNet and BERT", "EfficientNet"])
def test_configs_come_back(config):
    family = "efficientnet" if isinstance(config, EfficientNetConfig) else "clip"
    again = read(header(config, family))
    assert again == config
    assert type(again) is type(config)
    if family == "clip":
        assert (type(again.image), type(again.text)) == (type(config.image), type(config.text))


def test_a_file_from_before_a_field_is_read_with_its_default():
    said = header(CONFIGS[1], "clip")
    del said["config"]["image"]["antialias"], said["config"]["text"]["end"]
    assert read(said) == dataclasses.replace(CONFIGS[1], text=dataclasses.replace(CONFIGS[1].text, end=None))


PREPROCESS = [
    Preprocess(Resize(40, "shortest", longest=90), Crop((32, 32)), mean=None, std=None),
    Preprocess(Resize((32, 48)), mode="L", mean=(0.5,), std=(0.25,), rescale=None),
    Preprocess(None, Crop((8, 8), fill=(1, 2, 3))),
]


@pytest.mark.parametrize("preprocess", PREPROCESS, ids=["shortest", "grey", "no resize"])
def test_preprocessing_comes_back(preprocess):
    said = json.loads(json.dumps(NativeLayout("vit").write_config(tiny_vit(preprocess=preprocess))))
    assert NativeLayout("vit").read_preprocess(Description({"vitrail": said}), None) == preprocess


@torch.inference_mode()
@pytest.mark.parametrize("name", ["clip.safetensors", "clip"])
def test_a_network_that_reads(name, tmp_path):
    model = tiny_clip()
    again = vitrail.load(vitrail.save(model, tmp_path / name))
    assert again.config == model.config
    assert again.tokenizer.to_json() == model.tokenizer.to_json()
    images, texts = torch.rand(2, 3, 32, 32), ["a red cat", "a photo of a blue dog", ""]
    assert torch.equal(again.tokenizer(texts), model.tokenizer(texts))
    torch.testing.assert_close(again(images, texts), model(images, texts))


def test_a_network_without_a_tokenizer_says_so(tmp_path):
    model = tiny_clip()
    model.tokenizer = None
    again = vitrail.load(vitrail.save(model, tmp_path / "clip.safetensors"))
    assert again.tokenizer is None
    with pytest.raises(vitrail.errors.UsageError, match="this network has no tokenizer"):
        again.encode_text("a cat")
    assert again.encode_text(torch.tensor([[11, 5, 12]])).shape == (1, 24)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": {"nonsense": 3}}, "there is no place for the fields nonsense"),
        ({"image": 3}, "3 stands where there should be named fields"),
        ({"image": []}, "stands where there should be named fields"),
        ({"image": None}, "image is None"),
        ({"text": {"depth": -1}}, "text.depth is -1"),
        ({"text": {"depth": "two"}}, "text.depth is 'two'"),
        ({"text": {"depth": 2**30}}, "blocks of a checkpoint with"),
        ({"image": {"depths": [1, 1, 1, 2**30]}}, "blocks of a checkpoint with"),
        ({"width": {"text": 3}}, "there is no place for the fields text"),
        ({"height": 3}, "there is no place for the fields"),
    ],
)
def test_headers_that_make_no_sense(changes, said, tmp_path):
    path = vitrail.save(tiny_clip(), tmp_path / "clip.safetensors")
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    ours = json.loads(kept["vitrail"])
    ours["config"] |= changes
    save_file(load_file(path), tmp_path / "odd.safetensors", {**kept, "vitrail": json.dumps(ours)})
    with pytest.raises(CheckpointError, match=said) as caught:
        vitrail.load(tmp_path / "odd.safetensors")
    assert "odd.safetensors" in str(caught.value)


@pytest.mark.parametrize("tokenizer", ["", "{", "[]", '{"model": {}}'])
def test_a_tokenizer_that_makes_no_sense(tokenizer, tmp_path):
    path = vitrail.save(tiny_clip(), tmp_path / "clip.safetensors")
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    save_file(load_file(path), tmp_path / "odd.safetensors", {**kept, "tokenizer": tokenizer})
    with pytest.raises(CheckpointError, match=r"the tokenizer of .*odd.safetensors' makes no sense: its tokeni"):
        vitrail.load(tmp_path / "odd.safetensors")
