"""Chinese CLIP gives the reference's numbers from the reference's files, and goes back into them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.pictures import noise, odd_pictures, photograph
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.chinese_clip_transformers import ChineseCLIPTransformers
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.models.bert import BERTConfig
from vitrail.models.clip import CLIP

CHARACTERS = "一只青蛙在红色的苹果上杰尼龟"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS), "a", "cat", "##s", "!", "，"]
TEXTS = ["一只青蛙", "杰尼龟，在红色的苹果上！", "a Cats cat!", "", "🐸 青 蛙"]
SMALL = {
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 80,
        "image_size": 35,
        "patch_size": 7,
    },
    "text_config": {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 13,
    },
    "projection_dim": 24,
}
ODD: dict[str, dict] = {
    "plain": {},
    "one channel": {"vision_config": {"num_channels": 1}},
    "other numbers": {
        "vision_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-2},
        "text_config": {"hidden_act": "relu", "layer_norm_eps": 1e-1, "type_vocab_size": 3},
    },
}


def reference_model(odd: str = "plain") -> ChineseCLIPModel:
    """A small ChineseCLIPModel with random weights."""
    config = {
        name: {**part, **ODD[odd].get(name, {})} if isinstance(part, dict) else part for name, part in SMALL.items()
    }
    reference = randomise(ChineseCLIPModel(ChineseCLIPConfig(**config)))
    with torch.no_grad():
        reference.text_model.embeddings.word_embeddings.weight[0] = (
            0  # what fills up: the reference's loading zeroes it
        )
    return reference


def write_vocabulary(folder: Path) -> BertTokenizer:
    """Put a vocab.txt into a folder, as the publishers did, and open it in the reference."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return BertTokenizer.from_pretrained(folder)


def pictures(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 35, 35)


def texts() -> dict[str, Tensor]:
    """Three texts of different lengths, the first of them full, and their mask."""
    ids = torch.randint(5, len(WORDS), (3, 13))
    ids[1, 5:], ids[2, 1:] = 0, 0
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@torch.inference_mode()
def test_a_model_of_transformers(odd, form, tmp_path):
    reference = reference_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images, given = pictures(reference.config.vision_config.num_channels), texts()
    ids = given["input_ids"]
    expected = reference(pixel_values=images, **given)
    assert model.family == "clip"
    assert isinstance(model.config.text, BERTConfig)
    assert not model.training
    assert_same(model.encode_image(images), reference.get_image_features(images).pooler_output)
    assert_same(model.encode_text(ids), reference.get_text_features(**given).pooler_output)
    assert_same(model.encode_image(images, normalize=True), expected.image_embeds)
    assert_same(model.encode_text(ids, normalize=True), expected.text_embeds)
    assert_same(model(images, ids), expected.logits_per_image)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(ChineseCLIPModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(pixel_values=images, **given).logits_per_image, expected.logits_per_image)


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    save_transformers(reference_model(), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_the_buffers_of_old_are_left_out(tmp_path):
    reference = reference_model()
    save_transformers(reference, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for tower, count in (("vision", 26), ("text", 13)):
        tensors[f"{tower}_model.embeddings.position_ids"] = torch.arange(count)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    images, given = pictures(), texts()
    expected = reference(pixel_values=images, **given).logits_per_image
    assert_same(vitrail.load(tmp_path)(images, given["input_ids"]), expected)


@pytest.mark.parametrize("name", ["ours", "ours.safetensors"])
@torch.inference_mode()
def test_through_vitrail_s_own_layout(name, tmp_path):
    save_transformers(reference_model(), tmp_path / "theirs")
    assert vitrail.convert(tmp_path / "theirs", tmp_path / name, layout="vitrail") == {}
    assert isinstance(vitrail.load(tmp_path / name).config.text, BERTConfig)
    assert vitrail.convert(tmp_path / name, tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "theirs", tmp_path / "back")


@torch.inference_mode()
def test_texts(tmp_path):
    reference = reference_model()
    save_transformers(reference, tmp_path / "theirs")
    tokenizer = write_vocabulary(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    given = tokenizer(TEXTS, padding=True, truncation=True, max_length=13, return_tensors="pt")
    assert torch.equal(model.tokenizer(TEXTS), given["input_ids"])
    assert_same(model.encode_text(TEXTS), reference.get_text_features(**given).pooler_output)
    assert_same(model.encode_text(TEXTS)[:1], model.encode_text(TEXTS[0]))  # whatever texts are beside it

    vitrail.save(model, tmp_path / "back")
    assert torch.equal(vitrail.load(tmp_path / "back").tokenizer(TEXTS), given["input_ids"])
    vitrail.save(model, tmp_path / "ours.safetensors", layout="vitrail")
    assert torch.equal(vitrail.load(tmp_path / "ours.safetensors").tokenizer(TEXTS), given["input_ids"])


# what is published


@pytest.mark.parametrize(
    ("name", "millions"),  # as the authors' README counts them
    [("base-patch16", 188), ("large-patch14", 406), ("large-patch14-336px", 407), ("huge-patch14", 958)],
)
def test_published_sizes(name, millions):
    layout = ChineseCLIPTransformers()
    assert len(layout.published) == 4
    with torch.device("meta"):
        model = CLIP(layout.published[f"OFA-Sys/chinese-clip-vit-{name}"].config)
        reference = ChineseCLIPModel(ChineseCLIPConfig(**layout.write_config(model)))
    assert {name: tensor.shape for name, tensor in to_theirs(layout, model).items()} == {
        name: tensor.shape for name, tensor in reference.state_dict().items()
    }
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_the_defaults_of_transformers_are_ours():
    layout = ChineseCLIPTransformers()
    silent = layout.read_config(Description({"model_type": "chinese_clip"}))
    assert silent == layout.read_config(Description(ChineseCLIPConfig().to_dict()))


# preprocessing


def assert_equal(preprocess, processor, picture, given_to_reference=None) -> None:
    theirs = processor(picture if given_to_reference is None else given_to_reference, return_tensors="pt")
    assert torch.equal(preprocess(picture), theirs["pixel_values"].float())


@pytest.mark.parametrize("kind", odd_pictures())
def test_the_processor_on_every_picture(kind):
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else None
    preprocess = from_transformers({}, "ChineseCLIPImageProcessor")
    assert_equal(preprocess, ChineseCLIPImageProcessorPil(), odd_pictures()[kind], given_to_reference)


@pytest.mark.parametrize(
    "said",
    [
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": False,
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "ChineseCLIPImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": {"height": 224, "width": 224},
        },
        {"feature_extractor_type": "ChineseCLIPFeatureExtractor", "size": 40, "crop_size": 33},
    ],
)
def test_files(said, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    processor = ChineseCLIPImageProcessorPil.from_pretrained(tmp_path)
    preprocess = from_transformers(said)
    again = ChineseCLIPImageProcessorPil(**to_transformers(preprocess, "ChineseCLIPImageProcessor"))
    for picture in (photograph(), noise(47, 61), noise(30, 90)):
        assert_equal(preprocess, processor, picture)
        assert_equal(preprocess, again, picture)


def test_the_preprocessing_of_a_folder(tmp_path):
    save_transformers(reference_model(), tmp_path / "theirs")
    plain = ChineseCLIPImageProcessorPil(size={"shortest_edge": 35}, crop_size=35)
    assert_equal(vitrail.load(tmp_path / "theirs").preprocess, plain, photograph())  # where no file says how
    reference = ChineseCLIPImageProcessorPil(size={"height": 40, "width": 35}, do_center_crop=False)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    assert_equal(model.preprocess, reference, photograph())
    assert_equal(model.preprocess, ChineseCLIPImageProcessorPil.from_pretrained(tmp_path / "back"), photograph())
