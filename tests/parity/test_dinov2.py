"""DINOv2, with and without registers, gives the references' numbers from their files, and goes back into them."""

import pytest
import timm
import torch
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
)

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
    "mlp_ratio": 2,
    "image_size": 70,
    "patch_size": 7,
}
SMALL_TIMM = {"img_size": (70, 35), "patch_size": 7, "embed_dim": 96, "num_heads": 3, "depth": 2}
KINDS = {
    "plain": (Dinov2Config, Dinov2Model, Dinov2ForImageClassification),
    "registers": (Dinov2WithRegistersConfig, Dinov2WithRegistersModel, Dinov2WithRegistersForImageClassification),
}
ODD = {
    "plain": {},
    "gated mlp": {"use_swiglu_ffn": True},
    "gated mlp of the giant's ratio": {"use_swiglu_ffn": True, "mlp_ratio": 4},
    "one channel": {"num_channels": 1},
    "no qkv bias": {"qkv_bias": False},
    "ten blocks and more": {"num_hidden_layers": 11},
}
FORMS = [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory"), ("gated mlp", "in memory")]
SIZES = [(70, 70), (84, 84), (35, 105), (140, 35), (7, 7), (21, 49)]
TIMM = {
    "small": ("vit_small_patch14_dinov2", {}),
    "registers": ("vit_small_patch14_reg4_dinov2", {}),
    "six registers": ("vit_small_patch14_reg4_dinov2", {"reg_tokens": 6}),
    "one channel": ("vit_small_patch14_dinov2", {"in_chans": 1}),
    "no qkv bias": ("vit_small_patch14_dinov2", {"qkv_bias": False}),
    "head": ("vit_small_patch14_dinov2", {"num_classes": 7}),
    "giant": ("vit_giant_patch14_dinov2", {}),
    "giant with registers": ("vit_giant_patch14_reg4_dinov2", {"num_classes": 7}),
    "giant of another ratio": ("vit_giant_patch14_dinov2", {"mlp_ratio": 4}),
}


def pictures(channels: int = 3, height: int = 70, width: int = 70) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


@pytest.mark.parametrize(("odd", "form"), FORMS)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_backbone_of_transformers(kind, odd, form, tmp_path):
    config, backbone, _ = KINDS[kind]
    reference = randomise(backbone(config(**{**SMALL, **ODD[odd]})))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures(reference.config.num_channels)
    expected = reference(images)
    assert model.family == "dinov2"
    assert model.prefix_tokens == (5 if kind == "registers" else 1)
    assert_same(model.features(images), expected.last_hidden_state)
    assert_same(model(images), expected.pooler_output)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(backbone, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images).last_hidden_state, expected.last_hidden_state)


@pytest.mark.parametrize("form", TRANSFORMERS_FORMS)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_classifier_of_transformers(kind, form, tmp_path):
    config, _, classifier = KINDS[kind]
    reference = randomise(classifier(config(**SMALL, num_labels=5)))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures()
    assert_same(model(images), reference(images).logits)

    vitrail.save(model, tmp_path / "back")
    assert_same_tensors(load_transformers(classifier, tmp_path / "back"), reference)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_other_sizes_in_transformers(kind, size, tmp_path):
    config, backbone, _ = KINDS[kind]
    reference = randomise(backbone(config(**SMALL)))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model.features(images), reference(images).last_hidden_state)


@pytest.mark.parametrize("size", [(70, 70), (35, 49)])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_masked_patches(kind, size, tmp_path):
    config, backbone, _ = KINDS[kind]
    reference = randomise(backbone(config(**SMALL)))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    masked = torch.rand(2, size[0] * size[1] // 49) < 0.4
    features = model.features(images, masked)
    assert_same(features, reference(images, bool_masked_pos=masked).last_hidden_state)
    assert not torch.allclose(features, model.features(images), atol=1e-2)


@pytest.mark.parametrize("case", TIMM)
@torch.inference_mode()
def test_timm(case, tmp_path):
    name, odd = TIMM[case]
    reference = randomise(timm.create_model(name, **{**SMALL_TIMM, **odd}))
    model = vitrail.load(save_timm(reference, tmp_path / "theirs"))
    images = pictures(odd.get("in_chans", 3), 70, 35)
    assert model.family == "dinov2"
    assert_same(model(images), reference(images))
    assert_same(model.features(images), reference.forward_features(images))

    vitrail.save(model, tmp_path / "back")
    back = load_timm(tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images), reference(images))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
@torch.inference_mode()
def test_other_sizes_in_timm(name, size, tmp_path):
    reference = randomise(timm.create_model(name, **SMALL_TIMM, dynamic_img_size=True))
    model = vitrail.load(save_timm(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model.features(images), reference.forward_features(images))


@torch.inference_mode()
def test_a_published_size(tmp_path):
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518)
    reference = randomise(Dinov2Model(config))
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = torch.randn(1, 3, 224, 224)
    assert_same(model.features(images), reference(images).last_hidden_state)


@pytest.mark.parametrize("gated", [False, True])
@torch.inference_mode()
def test_from_transformers_to_timm_and_back(gated, tmp_path):
    reference = randomise(Dinov2Model(Dinov2Config(**SMALL, use_swiglu_ffn=gated)))
    with torch.no_grad():
        reference.embeddings.mask_token.zero_()  # timm does not keep it
    save_transformers(reference, tmp_path / "transformers")
    changed = vitrail.convert(tmp_path / "transformers", tmp_path / "timm", layout="timm")
    assert changed["mask_token"] == (True, False)
    images = pictures()
    assert_same(load_timm(tmp_path / "timm").forward_features(images), reference(images).last_hidden_state)
    vitrail.convert(tmp_path / "timm", tmp_path / "back", layout="transformers")
    back = load_transformers(Dinov2Model, tmp_path / "back")
    assert_same(back(images).last_hidden_state, reference(images).last_hidden_state)


@torch.inference_mode()
def test_the_class_token_s_position_is_folded_into_it_where_there_are_registers(tmp_path):
    reference = randomise(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)))
    save_transformers(reference, tmp_path / "transformers")
    changed = vitrail.convert(tmp_path / "transformers", tmp_path / "timm", layout="timm")
    assert changed["class_position"] == (True, False)
    images = pictures()
    assert_same(load_timm(tmp_path / "timm").forward_features(images), reference(images).last_hidden_state)
    vitrail.convert(tmp_path / "timm", tmp_path / "back", layout="transformers")
    back = load_transformers(Dinov2WithRegistersModel, tmp_path / "back")
    assert_same(back(images).last_hidden_state, reference(images).last_hidden_state)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
@torch.inference_mode()
def test_from_timm_to_transformers_and_back(name, tmp_path):
    reference = randomise(timm.create_model(name, **{**SMALL_TIMM, "img_size": 70}))
    save_timm(reference, tmp_path / "timm")
    vitrail.convert(tmp_path / "timm", tmp_path / "transformers", layout="transformers")
    kind = Dinov2WithRegistersModel if "reg4" in name else Dinov2Model
    images = pictures()
    again = load_transformers(kind, tmp_path / "transformers")
    assert_same(again(images).last_hidden_state, reference.forward_features(images))
    vitrail.convert(tmp_path / "transformers", tmp_path / "back", layout="timm")
    assert_same_files(tmp_path / "timm", tmp_path / "back")
    assert_same_tensors(load_timm(tmp_path / "back"), reference)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_through_vitrail_s_own_layout(kind, tmp_path):
    config, _, classifier = KINDS[kind]
    reference = randomise(classifier(config(**SMALL, num_labels=5)))
    save_transformers(reference, tmp_path / "transformers")
    assert vitrail.convert(tmp_path / "transformers", tmp_path / "ours", layout="vitrail") == {}
    images = pictures()
    assert_same(vitrail.load(tmp_path / "ours")(images), reference(images).logits)
    assert vitrail.convert(tmp_path / "ours", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "transformers", tmp_path / "back")


@pytest.mark.parametrize(
    ("source", "layout", "reason"),
    [
        ("transformers", "timm", "reads the class token only"),
        ("timm", "transformers", "reads the class token and the patches' mean"),
    ],
)
def test_the_other_library_s_head_reads_another_vector(source, layout, reason, tmp_path):
    if source == "timm":
        save_timm(timm.create_model("vit_small_patch14_dinov2", **SMALL_TIMM, num_classes=7), tmp_path / "theirs")
    else:
        save_transformers(Dinov2ForImageClassification(Dinov2Config(**SMALL, num_labels=5)), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.convert(tmp_path / "theirs", tmp_path / "other", layout=layout)
