"""DeiT, with its distillation token, gives the references' numbers from their files, and goes back into them."""

import pytest
import timm
import torch
from transformers import DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher, DeiTModel

import vitrail
from tests.parity.references import (
    TRANSFORMERS_FORMS,
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_timm,
    load_transformers,
    randomise,
    save_timm,
    save_transformers,
)

SMALL = {
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 192,
    "image_size": (70, 35),
    "patch_size": 7,
}
SMALL_TIMM = {"img_size": (70, 35), "patch_size": 7, "embed_dim": 96, "num_heads": 3, "depth": 2}
HEADS = {"one head": DeiTForImageClassification, "two heads": DeiTForImageClassificationWithTeacher}
ODD = {
    "plain": {},
    "one channel": {"num_channels": 1},
    "no qkv bias": {"qkv_bias": False},
    "quick gelu": {"hidden_act": "quick_gelu"},
}


def pictures(channels: int = 3, height: int = 70, width: int = 35) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@pytest.mark.parametrize("heads", HEADS)
@torch.inference_mode()
def test_a_classifier_of_transformers(heads, odd, form, tmp_path):
    reference = randomise(HEADS[heads](DeiTConfig(**{**SMALL, **ODD[odd]}, num_labels=5)))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures(reference.config.num_channels)
    assert model.family == "deit"
    assert_same(model(images), reference(images).logits)
    assert_same(model.features(images), reference.deit(images).last_hidden_state)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(HEADS[heads], tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images).logits, reference(images).logits)


@torch.inference_mode()
def test_each_of_two_heads(tmp_path):
    reference = randomise(DeiTForImageClassificationWithTeacher(DeiTConfig(**SMALL, num_labels=5)))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures()
    features = model.features(images)
    assert_same(model.head(features[:, 0]), reference(images).cls_logits)
    assert_same(model.distillation_head(features[:, 1]), reference(images).distillation_logits)


@pytest.mark.parametrize("form", TRANSFORMERS_FORMS)
@pytest.mark.parametrize("pooler", [True, False])
@torch.inference_mode()
def test_a_backbone_of_transformers(pooler, form, tmp_path):
    reference = randomise(DeiTModel(DeiTConfig(**SMALL), add_pooling_layer=pooler))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures()
    expected = reference(images)
    assert_same(model.features(images), expected.last_hidden_state)
    assert_same(model(images), expected.pooler_output if pooler else expected.last_hidden_state[:, 0])

    vitrail.save(model, tmp_path / "back")
    assert_same_tensors(load_transformers(DeiTModel, tmp_path / "back", add_pooling_layer=pooler), reference)


@pytest.mark.parametrize("size", [(70, 70), (84, 84), (35, 105), (140, 21), (7, 7)])
@torch.inference_mode()
def test_other_sizes_in_transformers(size, tmp_path):
    reference = randomise(
        DeiTForImageClassificationWithTeacher(DeiTConfig(**{**SMALL, "image_size": 70}, num_labels=5))
    )
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model(images), reference(images, interpolate_pos_encoding=True).logits)


@pytest.mark.parametrize("odd", [{}, {"in_chans": 1}, {"qkv_bias": False}, {"mlp_ratio": 2.5}, {"num_classes": 0}])
@torch.inference_mode()
def test_timm(odd, tmp_path):
    arguments = {**SMALL_TIMM, "num_classes": 7, **odd}
    reference = randomise(timm.create_model("deit_tiny_distilled_patch16_224", **arguments))
    model = vitrail.load(save_timm(reference, tmp_path / "theirs"))
    images = pictures(arguments.get("in_chans", 3))
    assert model.family == "deit"
    assert_same(model.features(images), reference.forward_features(images))
    assert_same(model(images), reference(images))  # without classes, the mean of both tokens

    vitrail.save(model, tmp_path / "back")
    back = load_timm(tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images), reference(images))


@pytest.mark.parametrize("size", [(70, 70), (140, 105), (21, 7)])
@torch.inference_mode()
def test_other_sizes_in_timm(size, tmp_path):
    arguments = {**SMALL_TIMM, "dynamic_img_size": True, "num_classes": 7}
    reference = randomise(timm.create_model("deit_tiny_distilled_patch16_224", **arguments))
    model = vitrail.load(save_timm(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model(images), reference(images))


@torch.inference_mode()
def test_a_published_size(tmp_path):
    reference = randomise(timm.create_model("deit_tiny_distilled_patch16_224"))
    torch.save({"model": reference.state_dict()}, tmp_path / "deit.pth")  # as the authors published theirs
    model = vitrail.load(tmp_path / "deit.pth", architecture="deit_tiny_distilled_patch16_224")
    images = torch.randn(1, 3, 224, 224)
    assert_same(model(images), reference(images))
    assert model.labels is not None
    assert len(model.labels) == 1000


@torch.inference_mode()
def test_from_transformers_to_timm_and_back(tmp_path):
    config = DeiTConfig(**{**SMALL, "image_size": 70}, num_labels=5, layer_norm_eps=1e-6)
    reference = randomise(DeiTForImageClassificationWithTeacher(config))
    save_transformers(reference, tmp_path / "transformers")
    vitrail.convert(tmp_path / "transformers", tmp_path / "timm", layout="timm")
    images = pictures(3, 70, 70)
    assert_same(load_timm(tmp_path / "timm")(images), reference(images).logits)
    vitrail.convert(tmp_path / "timm", tmp_path / "back", layout="transformers")
    assert_same_files(tmp_path / "transformers", tmp_path / "back")
    assert_same_tensors(load_transformers(DeiTForImageClassificationWithTeacher, tmp_path / "back"), reference)


@pytest.mark.parametrize("heads", HEADS)
@torch.inference_mode()
def test_through_vitrail_s_own_layout(heads, tmp_path):
    reference = randomise(HEADS[heads](DeiTConfig(**SMALL, num_labels=5)))
    save_transformers(reference, tmp_path / "transformers")
    assert vitrail.convert(tmp_path / "transformers", tmp_path / "ours.safetensors", layout="vitrail") == {}
    images = pictures()
    assert_same(vitrail.load(tmp_path / "ours.safetensors")(images), reference(images).logits)
    assert vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "transformers", tmp_path / "back")


def test_timm_has_no_words_for_one_head_only(tmp_path):
    save_transformers(DeiTForImageClassification(DeiTConfig(**SMALL, num_labels=5)), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match="a head for the distillation token, and this network none"):
        vitrail.convert(tmp_path / "theirs", tmp_path / "timm", layout="timm")
