"""ViT gives the references' numbers from the references' files, and goes back into them."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTModel

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
ODD = {
    "plain": {},
    "one channel": {"num_channels": 1},
    "five channels": {"num_channels": 5},
    "no qkv bias": {"qkv_bias": False},
    "oblong patches": {"patch_size": (7, 5)},
    "large epsilon": {"layer_norm_eps": 1e-2},
    "tanh gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "new gelu": {"hidden_act": "gelu_new"},
    "quick gelu": {"hidden_act": "quick_gelu"},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "mlp narrower than a token": {"intermediate_size": 40},
}
ODD_TIMM = {
    "plain": {},
    "one channel": {"in_chans": 1},
    "no qkv bias": {"qkv_bias": False},
    "oblong patches": {"patch_size": (7, 5)},
    "mlp ratio": {"mlp_ratio": 2.5},
    "mean of patches": {"global_pool": "avg"},
    "quick gelu": {"act_layer": "quick_gelu"},
    "tanh gelu": {"act_layer": "gelu_tanh"},
    "no head": {"num_classes": 0},
    "mean of patches, no head": {"num_classes": 0, "global_pool": "avg"},
}


def pictures(channels: int = 3, height: int = 70, width: int = 35) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@torch.inference_mode()
def test_a_classifier_of_transformers(odd, form, tmp_path):
    reference = randomise(ViTForImageClassification(ViTConfig(**{**SMALL, **ODD[odd]}, num_labels=5)))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures(reference.config.num_channels)
    assert model.family == "vit"
    assert not model.training
    assert_same(model(images), reference(images).logits)
    assert_same(model.features(images), reference.vit(images).last_hidden_state)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(ViTForImageClassification, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(
        back(images).logits, reference(images).logits
    )  # gelu_new goes back as gelu_pytorch_tanh, its equal but for rounding


@pytest.mark.parametrize("form", TRANSFORMERS_FORMS)
@pytest.mark.parametrize("pooler", [True, False])
@torch.inference_mode()
def test_a_backbone_of_transformers(pooler, form, tmp_path):
    reference = randomise(ViTModel(ViTConfig(**SMALL), add_pooling_layer=pooler))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures()
    expected = reference(images)
    assert_same(model.features(images), expected.last_hidden_state)
    assert_same(model(images), expected.pooler_output if pooler else expected.last_hidden_state[:, 0])

    vitrail.save(model, tmp_path / "back")
    assert_same_tensors(load_transformers(ViTModel, tmp_path / "back", add_pooling_layer=pooler), reference)


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    reference = randomise(ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)))
    save_transformers(reference, tmp_path / "new", "in memory")
    save_transformers(reference, tmp_path / "published")
    assert "vit.layers.0.attention.q_proj.weight" in reference.state_dict()  # or "in memory" proves nothing
    vitrail.save(vitrail.load(tmp_path / "new"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@pytest.mark.parametrize("size", [(70, 70), (84, 84), (35, 105), (140, 21), (7, 7), (49, 49)])
@torch.inference_mode()
def test_other_sizes_in_transformers(size, tmp_path):
    config = ViTConfig(**{**SMALL, "image_size": 70}, num_labels=5)
    reference = randomise(ViTForImageClassification(config))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model(images), reference(images, interpolate_pos_encoding=True).logits)
    features = reference.vit(images, interpolate_pos_encoding=True).last_hidden_state
    assert_same(model.features(images), features)


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "safetensors") for odd in ODD_TIMM), ("plain", "bin"), ("plain", "flat config")]
)
@torch.inference_mode()
def test_timm(odd, form, tmp_path):
    arguments = {**SMALL_TIMM, "num_classes": 7, **ODD_TIMM[odd]}
    reference = randomise(timm.create_model("vit_base_patch16_224", **arguments))
    model = vitrail.load(save_timm(reference, tmp_path / "theirs", form))
    images = pictures(arguments.get("in_chans", 3))
    assert_same(model(images), reference(images))
    assert_same(model.features(images), reference.forward_features(images))

    vitrail.save(model, tmp_path / "back")
    back = load_timm(tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images), reference(images))


@pytest.mark.parametrize("size", [(70, 35), (70, 70), (140, 105), (35, 70), (21, 7)])
@torch.inference_mode()
def test_other_sizes_in_timm(size, tmp_path):
    reference = timm.create_model("vit_base_patch16_224", **SMALL_TIMM, dynamic_img_size=True, num_classes=7)
    model = vitrail.load(save_timm(randomise(reference), tmp_path))
    images = pictures(3, *size)
    assert_same(model(images), reference(images))


@pytest.mark.parametrize(
    ("file", "wrapper"),
    [("weights.safetensors", None), ("weights.pth", None), ("weights.pth", "model"), ("old.pth", "state_dict")],
)
@torch.inference_mode()
def test_a_bare_state_dict(file, wrapper, tmp_path):
    reference = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=3))
    path, state = tmp_path / file, reference.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        wrapped = {wrapper: state, "epoch": 3} if wrapper else state
        torch.save(wrapped, path, _use_new_zipfile_serialization=file != "old.pth")
    model = vitrail.load(path, architecture="vit_tiny_patch16_224")
    images = pictures(3, 224, 224)
    assert_same(model(images), reference(images))


@torch.inference_mode()
def test_a_bare_state_dict_that_pools_the_patches(tmp_path):
    reference = randomise(timm.create_model("vit_tiny_patch16_224", num_classes=3, global_pool="avg"))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    model = vitrail.load(tmp_path / "weights.pth", architecture="vit_tiny_patch16_224")
    images = pictures(3, 224, 224)
    assert_same(model(images), reference(images))


@torch.inference_mode()
def test_a_published_size(tmp_path):
    reference = randomise(ViTForImageClassification(ViTConfig(num_labels=1000)))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = torch.randn(1, 3, 224, 224)
    assert_same(model(images), reference(images).logits)


@pytest.mark.parametrize("classes", [0, 5])
@torch.inference_mode()
def test_from_transformers_to_timm_and_back(classes, tmp_path):
    config = ViTConfig(**SMALL, num_labels=classes, layer_norm_eps=1e-6)
    reference = randomise(ViTForImageClassification(config) if classes else ViTModel(config, add_pooling_layer=False))
    save_transformers(reference, tmp_path / "transformers")
    changed = vitrail.convert(tmp_path / "transformers", tmp_path / "timm", layout="timm")
    assert changed.pop("antialias") == (False, True)  # how positions are interpolated, should they be
    assert changed.keys() <= {"preprocess"}  # timm always crops, be it to the size that is there
    images = pictures()
    expected = reference(images).logits if classes else reference(images).last_hidden_state[:, 0]
    assert_same(load_timm(tmp_path / "timm")(images), expected)
    vitrail.convert(tmp_path / "timm", tmp_path / "back", layout="transformers")
    assert_same_files(tmp_path / "transformers", tmp_path / "back")
    how = {} if classes else {"add_pooling_layer": False}
    assert_same_tensors(load_transformers(type(reference), tmp_path / "back", **how), reference)


@torch.inference_mode()
def test_from_timm_to_transformers(tmp_path):
    arguments = {**SMALL_TIMM, "img_size": 70, "num_classes": 7, "act_layer": "quick_gelu"}
    reference = randomise(timm.create_model("vit_base_patch16_224", **arguments))
    save_timm(reference, tmp_path / "timm")
    changed = vitrail.convert(tmp_path / "timm", tmp_path / "transformers", layout="transformers")
    assert changed.keys() <= {"antialias", "preprocess"}
    images = pictures(3, 70, 70)
    assert_same(
        load_transformers(ViTForImageClassification, tmp_path / "transformers")(images).logits, reference(images)
    )


def test_conversion_tells_what_the_other_layout_cannot_say(tmp_path):
    save_transformers(ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)), tmp_path / "transformers")
    changed = vitrail.convert(tmp_path / "transformers", tmp_path / "timm", layout="timm")
    assert changed["norm_eps"] == (1e-12, 1e-6)
    assert vitrail.convert(tmp_path / "transformers", tmp_path / "same", layout="transformers") == {}


@pytest.mark.parametrize("name", ["ours", "ours.safetensors"])
@torch.inference_mode()
def test_through_vitrail_s_own_layout(name, tmp_path):
    reference = randomise(ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)))
    save_transformers(reference, tmp_path / "transformers")
    assert vitrail.convert(tmp_path / "transformers", tmp_path / name, layout="vitrail") == {}
    images = pictures()
    assert_same(vitrail.load(tmp_path / name)(images), reference(images).logits)
    assert vitrail.convert(tmp_path / name, tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "transformers", tmp_path / "back")


@pytest.mark.parametrize(
    ("odd", "layout", "reason"),
    [
        ("mean of patches", "transformers", "pools by the class token only"),
        ("plain", "transformers", "no words for the resize rule 'cover'"),  # timm's preprocessing of oblong pictures
        ("pooler", "timm", "has no pooler"),
    ],
)
def test_what_the_other_layout_has_no_words_for(odd, layout, reason, tmp_path):
    if layout == "timm":
        save_transformers(ViTModel(ViTConfig(**SMALL)), tmp_path / "theirs")
    else:
        save_timm(timm.create_model("vit_base_patch16_224", **SMALL_TIMM, **ODD_TIMM[odd]), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.convert(tmp_path / "theirs", tmp_path / "other", layout=layout)
    assert not (tmp_path / "other").exists()
