"""Perceiver IO gives transformers' numbers from its files, in all five forms, and goes back into them."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    PerceiverConfig,
    PerceiverForImageClassificationConvProcessing,
    PerceiverForImageClassificationFourier,
    PerceiverForImageClassificationLearned,
    PerceiverForMaskedLM,
    PerceiverForMultimodalAutoencoding,
    PerceiverForOpticalFlow,
)
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.pictures import odd_pictures
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.perceiver_transformers import (
    PerceiverFlowTransformers,
    PerceiverMultimodalTransformers,
    PerceiverTransformers,
)
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers

SMALL = {
    "num_latents": 12,
    "d_latents": 32,
    "num_blocks": 3,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 1,
}
CLASSIFIERS = {
    "learned": PerceiverForImageClassificationLearned,
    "fourier": PerceiverForImageClassificationFourier,
    "convolution": PerceiverForImageClassificationConvProcessing,
}
VARIANTS = {
    "plain": {},
    "in the queries' width": {"cross_attention_shape_for_attention": "q", "num_cross_attention_heads": 2},
    "wide": {"self_attention_widening_factor": 2, "cross_attention_widening_factor": 3, "hidden_act": "relu"},
    "without what was asked": {"use_query_residual": False},
}
LABELS = {0: "glass", 1: "lead", 2: "light", 3: "stone", 4: "window"}
ODD = odd_pictures()


@torch.no_grad()
def classifier(pixels: str, **changes) -> nn.Module:
    config = PerceiverConfig(
        **{**SMALL, "image_size": 20, **changes},
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    reference = randomise(CLASSIFIERS[pixels](config))
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)
    return reference


def flow_reference(**changes) -> PerceiverForOpticalFlow:
    return randomise(PerceiverForOpticalFlow(PerceiverConfig(**{**SMALL, "train_size": [14, 18], **changes})))


def multimodal_reference(**changes) -> PerceiverForMultimodalAutoencoding:
    config = {
        **SMALL,
        "num_frames": 3,
        "image_size": 4,
        "output_shape": [1, 3, 16, 16],
        "audio_samples_per_frame": 32,
        "samples_per_patch": 8,
        "output_num_channels": 24,
        "num_labels": 9,
        **changes,
    }
    return randomise(PerceiverForMultimodalAutoencoding(PerceiverConfig(**config)))


# Classification


@pytest.mark.parametrize(
    ("pixels", "variant"),
    [("learned", "plain"), ("convolution", "plain"), *(("fourier", variant) for variant in VARIANTS)],
)
@torch.inference_mode()
def test_a_classifier(pixels, variant, tmp_path):
    reference = classifier(pixels, **VARIANTS[variant])
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs"))
    images = torch.randn(2, 3, 20, 20)
    expected = reference(inputs=images, output_hidden_states=True)
    assert (model.family, model.config.pixels, model.labels) == ("perceiver", pixels, tuple(LABELS.values()))
    assert_same(model(images), expected.logits)
    assert_same(model.features(images), expected.hidden_states[-1])

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(CLASSIFIERS[pixels], tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same_files(tmp_path / "theirs", tmp_path / "back")
    assert_same(back(inputs=images).logits, expected.logits)
    ours, theirs = back.config.to_dict(), reference.config.to_dict()
    different = {name for name in ours if ours[name] != theirs.get(name)}
    free = {"_name_or_path", "architectures", "dtype", "d_model"} | ({"image_size"} if pixels != "learned" else set())
    assert different <= free  # the reference's classifiers read neither d_model nor, but for "learned", image_size


@pytest.mark.parametrize(
    ("pixels", "form"), [("fourier", "sharded"), *((pixels, "in memory") for pixels in CLASSIFIERS)]
)
@torch.inference_mode()
def test_other_forms(pixels, form, tmp_path):
    reference = classifier(pixels)
    model = vitrail.load(save_transformers(reference, tmp_path, form))  # "in memory" names no architecture
    images = torch.randn(1, 3, 20, 20)
    assert model.config.pixels == pixels
    assert_same(model(images), reference(inputs=images).logits)


@pytest.mark.parametrize("pixels", CLASSIFIERS)
@torch.inference_mode()
def test_other_sizes_of_picture(pixels, tmp_path):
    reference = classifier(pixels)
    model = vitrail.load(save_transformers(reference, tmp_path))
    interpolating = {"interpolate_pos_encoding": True} if pixels == "learned" else {}
    for size in ((20, 31), (33, 12)):
        images = torch.randn(2, 3, *size)
        assert_same(model(images), reference(inputs=images, **interpolating).logits)


# Optical flow


def neighbourhoods(frames: torch.Tensor) -> torch.Tensor:
    """(B, 2, 3, H, W) -> (B, 2, 27, H, W), as DeepMind's `patches_for_flow`: row, column and channel of a neighbour."""
    height, width = frames.shape[3:]
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1))
    rows = [padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return torch.cat(rows, 2)


@pytest.mark.parametrize("variant", ["plain", "in the queries' width"])
@torch.inference_mode()
def test_optical_flow(variant, tmp_path):
    reference = flow_reference(**VARIANTS[variant])
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs"))
    frames = torch.rand(2, 2, 3, 14, 18) * 2 - 1
    expected = reference(inputs=neighbourhoods(frames)).logits
    assert model.family == "perceiver-flow"
    assert_same(model(frames), 20 * expected.permute(0, 3, 1, 2))

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(PerceiverForOpticalFlow, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same_files(tmp_path / "theirs", tmp_path / "back")
    assert vitrail.load(tmp_path / "back").preprocess == model.preprocess


@torch.inference_mode()
def test_optical_flow_that_names_no_architecture(tmp_path):
    reference = flow_reference()
    model = vitrail.load(save_transformers(reference, tmp_path, "in memory"))
    frames = torch.rand(1, 2, 3, 14, 18)
    assert_same(model(frames), 20 * reference(inputs=neighbourhoods(frames)).logits.permute(0, 3, 1, 2))


# Video, sound and label


@pytest.mark.parametrize("variant", ["plain", "wide"])
@torch.inference_mode()
def test_multimodal_autoencoding(variant, tmp_path):
    reference = multimodal_reference(**VARIANTS[variant])
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs"))
    videos, audio = torch.rand(2, 3, 3, 16, 16), torch.rand(2, 96, 1) * 2 - 1
    pixels, patches = torch.arange(5, 768, 7), torch.tensor([0, 3, 11])
    expected = reference(
        inputs={"image": videos.transpose(1, 2), "audio": audio, "label": torch.zeros(2, 9)},
        subsampled_output_points={"image": pixels, "audio": patches, "label": None},
    ).logits
    assert model.family == "perceiver-multimodal"
    assert_same(model(videos, audio), expected["label"])
    latents = model.features(videos, audio)
    assert_same(model.video_at(latents, pixels), expected["image"])
    assert_same(model.audio_at(latents, patches).flatten(1), expected["audio"])

    whole = model.autoencode(videos, audio)
    assert_same(whole.videos.flatten(2)[..., pixels].mT.contiguous(), expected["image"])
    assert_same(whole.audio[..., 0].unflatten(1, (-1, 8))[:, patches].flatten(1), expected["audio"])
    assert_same(whole.logits, expected["label"])

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(PerceiverForMultimodalAutoencoding, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same_files(tmp_path / "theirs", tmp_path / "back")


@torch.inference_mode()
def test_multimodal_autoencoding_that_names_no_architecture(tmp_path):
    reference = multimodal_reference()
    model = vitrail.load(save_transformers(reference, tmp_path, "in memory"))
    assert model.family == "perceiver-multimodal"
    assert model.config.classes == 9


# The published sizes


@pytest.mark.parametrize(
    ("layout", "name", "kind"),
    [
        (PerceiverTransformers, "deepmind/vision-perceiver-learned", PerceiverForImageClassificationLearned),
        (PerceiverTransformers, "deepmind/vision-perceiver-fourier", PerceiverForImageClassificationFourier),
        (PerceiverTransformers, "deepmind/vision-perceiver-conv", PerceiverForImageClassificationConvProcessing),
        (PerceiverFlowTransformers, "deepmind/optical-flow-perceiver", PerceiverForOpticalFlow),
        (PerceiverMultimodalTransformers, "deepmind/multimodal-perceiver", PerceiverForMultimodalAutoencoding),
    ],
)
def test_published_sizes_have_the_tensors_of_transformers(layout, name, kind):
    entry = layout.published[name]
    assert entry.hub == name
    with torch.device("meta"):
        model = layout.model(entry.config)
        config = layout().write_config(model)
        theirs = kind(PerceiverConfig(**config))
    assert config["architectures"] == [kind.__name__]
    assert {name: tensor.shape for name, tensor in to_theirs(layout(), model).items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }


# What is not known


def test_a_language_model_is_refused(tmp_path):
    save_transformers(PerceiverForMaskedLM(PerceiverConfig(**SMALL, d_model=32)), tmp_path)
    with pytest.raises(vitrail.CheckpointError, match=r"no family that Vitrail knows .*PerceiverForMaskedLM"):
        vitrail.load(tmp_path)


def test_widths_of_their_own_are_refused(tmp_path):
    save_transformers(classifier("fourier", qk_channels=16), tmp_path)
    with pytest.raises(vitrail.CheckpointError, match="qk_channels of its own"):
        vitrail.load(tmp_path)


def test_a_video_of_another_shape_is_refused(tmp_path):
    save_transformers(multimodal_reference(output_shape=[1, 3, 8, 16]), tmp_path)
    with pytest.raises(vitrail.CheckpointError, match="3 × 8 × 16 pixels from 3 frames of 4×4 patches"):
        vitrail.load(tmp_path)


# Preprocessing


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"height": 30, "width": 20}, "crop_size": {"height": 33, "width": 29}, "resample": 2},
        {"do_center_crop": False, "size": {"height": 12, "width": 17}},
        {"do_resize": False, "do_center_crop": False},
        {"crop_size": {"height": 200, "width": 256}},  # a crop that reaches past the picture
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", sorted(set(ODD) - {"1×1"}))  # of which nothing is left to resize in the reference
def test_preprocessing(settings, kind, tmp_path):
    picture = ODD[kind].convert("RGB")
    reference = PerceiverImageProcessorPil(**settings)
    reference.save_pretrained(tmp_path)
    preprocess = from_transformers(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    expected = reference(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(preprocess(picture).numpy(), expected)
    written = to_transformers(preprocess, "PerceiverImageProcessor")
    assert from_transformers(written) == preprocess
    again = PerceiverImageProcessorPil(**written)(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(again, expected)


def test_the_oldest_preprocessor_file():
    preprocess = from_transformers(
        {"feature_extractor_type": "PerceiverFeatureExtractor", "size": 224, "crop_size": 256}
    )
    picture = ODD["photograph"]
    expected = PerceiverImageProcessorPil()(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(preprocess(picture).numpy(), expected)


def test_a_checkpoint_without_a_preprocessor_file(tmp_path):
    model = vitrail.load(save_transformers(classifier("fourier"), tmp_path))
    assert model.preprocess == from_transformers({"image_processor_type": "PerceiverImageProcessor"})


@pytest.mark.parametrize("layout", [PerceiverFlowTransformers, PerceiverMultimodalTransformers])
def test_what_is_published_without_a_preprocessor_file(layout):
    for entry in layout.published.values():
        assert layout().read_preprocess(Description({}), entry.config) == entry.preprocess
