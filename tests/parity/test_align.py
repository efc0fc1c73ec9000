"""ALIGN gives the reference's numbers from the reference's files, and goes back into them."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AlignConfig, AlignModel
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.pictures import noise, photograph
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.align_transformers import ALIGNTransformers
from vitrail.checkpoints.preprocessors import from_transformers
from vitrail.models.align import ALIGN, ALIGNConfig

VOCABULARY, CONTEXT = 60, 13
SMALL = {
    "vision_config": {
        "kernel_sizes": [3, 3, 5],
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40],
        "strides": [1, 2, 2],
        "num_block_repeats": [1, 2, 1],
        "expand_ratios": [1, 6, 6],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "hidden_dim": 40,
        "image_size": 75,
    },
    "text_config": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    },
    "projection_dim": 40,
}
ODD: dict[str, dict] = {
    "plain": {},
    "one channel": {"vision_config": {"num_channels": 1, "depthwise_padding": [1, 3]}},
    "other numbers": {
        "vision_config": {"batch_norm_eps": 0.1, "hidden_act": "relu"},
        "text_config": {"layer_norm_eps": 0.1, "hidden_act": "gelu_new", "pad_token_id": 7, "type_vocab_size": 3},
    },
}


@torch.no_grad()
def reference_model(odd: str = "plain") -> AlignModel:
    """A small AlignModel with random weights, and batch statistics like those of random pictures."""
    config = {
        name: {**part, **ODD[odd].get(name, {})} if isinstance(part, dict) else part for name, part in SMALL.items()
    }
    reference = randomise(AlignModel(AlignConfig(**config)))
    norms = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    reference.vision_model(torch.randn(4, reference.config.vision_config.num_channels, 64, 64))
    for norm in norms:  # no variance near zero: a norm that divides by it would blow rounding errors up
        norm.running_mean += 0.2 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.5)
        norm.running_var += 0.5 * norm.running_var.mean()
    return reference.eval()


def pictures(channels: int = 3, height: int = 75, width: int = 75) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


def texts(pad: int = 0) -> torch.Tensor:
    """Three texts of different lengths, the first of them full."""
    ids = torch.randint(10, VOCABULARY, (3, CONTEXT))
    ids[1, 5:], ids[2, 1:] = pad, pad
    return ids


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@torch.inference_mode()
def test_a_model_of_transformers(odd, form, tmp_path):
    reference = reference_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    pad = reference.config.text_config.pad_token_id
    images, ids = pictures(reference.config.vision_config.num_channels), texts(pad)
    given = {"input_ids": ids, "attention_mask": (ids != pad).long()}
    expected = reference(pixel_values=images, **given)
    assert model.family == "align"
    assert not model.training
    assert_same(model.features(images), expected.vision_model_output.last_hidden_state)
    assert_same(model.encode_image(images), reference.get_image_features(images).pooler_output)
    assert_same(model.encode_text(ids), reference.get_text_features(**given).pooler_output)
    assert_same(model.encode_image(images, normalize=True), expected.image_embeds)
    assert_same(model.encode_text(ids, normalize=True), expected.text_embeds)
    assert_same(model(images, ids), expected.logits_per_image)
    assert_same(model.text.pool(model.text(ids)), expected.text_model_output.pooler_output)
    assert model.logit_scale.exp().item() == pytest.approx(1 / reference.temperature.item())

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(AlignModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(pixel_values=images, **given).logits_per_image, expected.logits_per_image)


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    save_transformers(reference_model(), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@pytest.mark.parametrize("size", [(64, 64), (97, 50)])
@torch.inference_mode()
def test_other_sizes(size, tmp_path):
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model.encode_image(images), reference.get_image_features(images).pooler_output)


@torch.inference_mode()
def test_the_buffers_of_old_are_left_out(tmp_path):
    reference = reference_model()
    save_transformers(reference, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(
        {**tensors, "text_model.embeddings.position_ids": torch.arange(CONTEXT)[None]}, tmp_path / "model.safetensors"
    )
    images, ids = pictures(), texts()
    expected = reference(input_ids=ids, pixel_values=images, attention_mask=(ids != 0).long()).logits_per_image
    assert_same(vitrail.load(tmp_path)(images, ids), expected)


@torch.inference_mode()
def test_a_text_tower_without_a_pooler_gets_one_that_changes_nothing(tmp_path):
    with_one = vitrail.load(save_transformers(reference_model(), tmp_path / "theirs"))
    model = ALIGN(replace(with_one.config, text=replace(with_one.config.text, pooler=False))).eval()
    model.load_state_dict({name: tensor for name, tensor in with_one.state_dict().items() if ".pooler." not in name})
    model.preprocess = with_one.preprocess
    vitrail.save(model, tmp_path / "back", layout="transformers")
    back = load_transformers(AlignModel, tmp_path / "back")
    images, ids = pictures(), texts()
    logits = back(input_ids=ids, pixel_values=images, attention_mask=(ids != 0).long()).logits_per_image
    assert_same(logits, with_one(images, ids))


@torch.inference_mode()
def test_through_vitrail_s_own_layout(tmp_path):
    reference = reference_model("one channel")
    save_transformers(reference, tmp_path / "theirs")
    assert vitrail.convert(tmp_path / "theirs", tmp_path / "ours.safetensors", layout="vitrail") == {}
    images, ids = pictures(1), texts()
    expected = reference(input_ids=ids, pixel_values=images, attention_mask=(ids != 0).long()).logits_per_image
    assert_same(vitrail.load(tmp_path / "ours.safetensors")(images, ids), expected)
    assert vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "theirs", tmp_path / "back")


def test_the_published_size_is_the_reference_s_own():
    layout = ALIGNTransformers()
    config = layout.published["kakaobrain/align-base"].config
    with torch.device("meta"):
        reference, model = AlignModel(AlignConfig()), ALIGN(config)
    theirs = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in to_theirs(layout, model).items()} == theirs
    assert layout.read_config(Description(AlignConfig().to_dict(), shapes=theirs)) == replace(
        config, image=replace(config.image, image_size=600)
    )  # the reference's default has EfficientNet-B7's size, the checkpoint 289
    assert ALIGNConfig() == replace(config, text=replace(config.text, pooler=False))
    with torch.device("meta"):
        again = AlignModel(AlignConfig(**layout.write_config(model)))
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == theirs


def test_texts_are_cut_to_what_it_was_trained_on():
    words = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "frog"])
    said = Description({}, tokenizer_files={"vocab.txt": words})
    tokenizer = ALIGNTransformers().read_tokenizer(said, ALIGNConfig())
    assert tokenizer("a frog").tolist() == [[2, 5, 6, 3]]
    assert tokenizer("a frog " * 100).shape == (1, 64)


# preprocessing


def as_published() -> EfficientNetImageProcessorPil:
    """The processor that kakaobrain/align-base was converted with."""
    return EfficientNetImageProcessorPil(
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=2,
    )


def assert_equal(preprocess, processor, picture) -> None:
    theirs = processor(picture, return_tensors="pt")["pixel_values"].float()
    assert torch.equal(preprocess(picture), theirs)


def test_the_preprocessing_of_a_folder(tmp_path):
    save_transformers(reference_model(), tmp_path / "theirs")
    silent = vitrail.load(tmp_path / "theirs").preprocess  # where no file says how
    as_published().save_pretrained(tmp_path / "theirs")
    said = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert said["rescale_offset"]
    model = vitrail.load(tmp_path / "theirs")
    assert silent == model.preprocess
    vitrail.save(model, tmp_path / "back")
    again = EfficientNetImageProcessorPil.from_pretrained(tmp_path / "back")
    for picture in (photograph(), noise(47, 61), noise(400, 90), noise(346, 346)):
        assert_equal(model.preprocess, as_published(), picture)
        assert_equal(model.preprocess, again, picture)


def test_preprocessing_reaches_from_minus_one_to_one():
    preprocess = from_transformers(as_published().to_dict(), "EfficientNetImageProcessor")
    pixels = preprocess(noise(346, 346))
    assert pixels.shape == (1, 3, 289, 289)
    assert pixels.min() == -1
    assert pixels.max() == 1
