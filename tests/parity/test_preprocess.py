"""Preprocessing equals the publishers', bit for bit: transformers' Pillow processors, timm's evaluation transform."""

import json
from itertools import product

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg, list_pretrained
from transformers import AutoImageProcessor
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.pictures import deep_grey, noise, odd_pictures, photograph
from vitrail.checkpoints.preprocessors import from_timm, from_transformers, to_timm, to_transformers
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess

PROCESSORS = {
    "ViTImageProcessor": ViTImageProcessorPil,
    "DeiTImageProcessor": DeiTImageProcessorPil,
    "BitImageProcessor": BitImageProcessorPil,
    "EfficientNetImageProcessor": EfficientNetImageProcessorPil,
}
ODD = odd_pictures()
FILTERS = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]  # in the order of Pillow's numbers

# Files as they are published on the hub, in the spellings of three generations of the library.
PUBLISHED = {
    "vit, first generation": {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": 224,
    },
    "deit, first generation": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DeiTFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": 256,
    },
    "dinov2": {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 256},
    },
    "efficientnet": {
        "crop_size": {"height": 289, "width": 289},
        "do_center_crop": False,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "EfficientNetImageProcessor",
        "image_std": [0.47853944, 0.4732864, 0.47434163],
        "include_top": True,
        "resample": 0,
        "rescale_factor": 0.00392156862745098,
        "rescale_offset": False,
        "size": {"height": 224, "width": 224},
    },
    "vit, fast": {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 96, "width": 128}, "resample": 3},
    "bit, a number as size": {"image_processor_type": "BitImageProcessor", "size": 70, "crop_size": [35, 70]},
    "nulls, as the first fast processors wrote them": {
        "crop_size": None,
        "data_format": "channels_first",
        "default_to_square": None,
        "device": None,
        "do_center_crop": None,
        "do_convert_rgb": None,
        "do_normalize": None,
        "do_rescale": True,
        "image_mean": None,
        "image_processor_type": "BitImageProcessorFast",
        "image_std": None,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 64, "width": 64},
    },
    "numbers as statistics": {"image_processor_type": "ViTImageProcessor", "image_mean": 0.4, "image_std": 0.3},
}


def by_transformers(processor, picture):
    return processor(picture, return_tensors="pt")["pixel_values"].float()


def by_timm(pretrained_cfg, picture):
    return create_transform(**resolve_data_config(pretrained_cfg=pretrained_cfg), is_training=False)(picture)[None]


def assert_same(ours, theirs):
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs), f"{tuple(ours.shape)}: they differ by up to {(ours - theirs).abs().max()}"


# transformers


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("kind", ODD)
def test_every_processor_on_every_picture(name, kind):
    reference = PROCESSORS[name](do_convert_rgb=True)
    preprocess = from_transformers(reference.to_dict())
    # The reference clips 16-bit greys at 255, and they come out white: it is given the same picture in 8 bits.
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else ODD[kind]
    assert_same(preprocess(ODD[kind]), by_transformers(reference, given_to_reference))


def test_a_16_bit_picture_is_not_white():
    preprocess = from_transformers({"image_processor_type": "ViTImageProcessor"})
    assert preprocess(deep_grey()).mean() < 0.5
    assert by_transformers(ViTImageProcessorPil(do_convert_rgb=True), deep_grey()).mean() > 0.9  # why we differ here


@pytest.mark.parametrize("resample", range(6), ids=FILTERS)
@pytest.mark.parametrize(
    "size",
    [
        {"height": 70, "width": 35},
        {"shortest_edge": 61},
        {"shortest_edge": 61, "longest_edge": 80},
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("crop_size", [{"height": 33, "width": 20}, {"height": 500, "width": 31}, None], ids=str)
def test_every_filter_with_every_resize_and_crop(resample, size, crop_size):
    config = {"do_resize": size is not None, "resample": resample, "do_center_crop": crop_size is not None}
    config |= {"size": size} if size else {}
    config |= {"crop_size": crop_size} if crop_size else {}
    reference = ViTImageProcessorPil(**config)
    preprocess = from_transformers({"image_processor_type": "ViTImageProcessor", **config})
    for picture in (photograph(), noise(1, 1), noise(47, 61), noise(300, 20), noise(151, 1)):
        assert_same(preprocess(picture), by_transformers(reference, picture))


@pytest.mark.parametrize(
    ("do_rescale", "rescale_offset", "do_normalize", "include_top"), list(product([True, False], repeat=4))
)
def test_efficientnet_arithmetic(do_rescale, rescale_offset, do_normalize, include_top):
    reference = EfficientNetImageProcessorPil(
        size={"height": 40, "width": 30},
        do_rescale=do_rescale,
        rescale_factor=1 / 127.5,
        rescale_offset=rescale_offset,
        do_normalize=do_normalize,
        include_top=include_top,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.47853944, 0.4732864, 0.47434163],
    )
    preprocess = from_transformers(reference.to_dict())
    assert_same(preprocess(photograph()), by_transformers(reference, photograph()))
    written = to_transformers(preprocess, "EfficientNetImageProcessor")
    assert from_transformers(written) == preprocess
    again = EfficientNetImageProcessorPil(**written)
    assert_same(preprocess(photograph()), by_transformers(again, photograph()))
    transform = create_transform(**resolve_data_config(pretrained_cfg=to_timm(preprocess)), is_training=False)
    torch.testing.assert_close(transform(photograph())[None], preprocess(photograph()), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_channel(channels):
    config = {"image_mean": [0.45] * channels, "image_std": [0.22] * channels}
    reference = ViTImageProcessorPil(**config)
    preprocess = from_transformers(reference.to_dict())
    picture = photograph().convert("L" if channels == 1 else "RGB")
    assert preprocess(picture).shape == (1, channels, 224, 224)
    assert_same(preprocess(picture), by_transformers(reference, picture))
    assert from_transformers(to_transformers(preprocess, "ViTImageProcessor")) == preprocess


def test_arrays_and_lists():
    reference = BitImageProcessorPil()
    preprocess = from_transformers(reference.to_dict())
    arrays = [np.asarray(noise(40, 50)), np.asarray(noise(70, 30)), np.asarray(noise(33, 44))[..., :1]]
    assert_same(preprocess(arrays), by_transformers(reference, arrays))
    assert_same(preprocess(arrays[2][..., 0]), by_transformers(reference, arrays[2]))


sizes = st.one_of(
    st.builds(lambda h, w: {"height": h, "width": w}, st.integers(1, 90), st.integers(1, 90)),
    st.builds(lambda edge: {"shortest_edge": edge}, st.integers(1, 90)),
    st.builds(lambda s, more: {"shortest_edge": s, "longest_edge": s + more}, st.integers(20, 90), st.integers(0, 60)),
)


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    size=sizes,
    crop=st.one_of(st.none(), st.tuples(st.integers(1, 120), st.integers(1, 120))),
    resample=st.integers(0, 5),
    factor=st.sampled_from([1 / 255, 1 / 127.5, 0.00392156862745098, 1.0]),
    mean=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    std=st.lists(st.floats(0.05, 2), min_size=3, max_size=3),
)
def test_any_picture_through_any_settings(width, height, size, crop, resample, factor, mean, std):
    if max(width, height) > 50 * min(width, height):
        width = height  # the reference itself fails where an edge comes out 0
    config = {"size": size, "resample": resample, "rescale_factor": factor, "image_mean": mean, "image_std": std}
    config |= {"do_center_crop": False} if crop is None else {"crop_size": {"height": crop[0], "width": crop[1]}}
    reference = DeiTImageProcessorPil(**config)
    picture = noise(width, height, seed=width)
    preprocess = from_transformers(reference.to_dict())
    assert_same(preprocess(picture), by_transformers(reference, picture))
    if preprocess.output_size is not None:
        assert preprocess(picture).shape[2:] == preprocess.output_size


@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
def test_published_files(config, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    reference = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    preprocess = from_transformers(config)
    assert_same(preprocess(photograph()), by_transformers(reference, photograph()))


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "efficientnet"])
def test_a_file_that_names_no_processor(model_type, tmp_path):
    config = {"do_normalize": True, "size": 50}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    reference = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    name = type(reference).__name__.removesuffix("Pil")
    preprocess = from_transformers(config, processor=name)
    assert_same(preprocess(photograph()), by_transformers(reference, photograph()))


def test_the_newer_processor_config(tmp_path):
    inner = PUBLISHED["dinov2"]
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    reference = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert from_transformers({"image_processor": inner}) == from_transformers(inner)
    assert_same(from_transformers({"image_processor": inner})(photograph()), by_transformers(reference, photograph()))


@pytest.mark.parametrize("config", PUBLISHED.values(), ids=PUBLISHED)
@pytest.mark.parametrize("name", PROCESSORS)
def test_saved_for_transformers_it_gives_the_same(config, name, tmp_path):
    preprocess = from_transformers(config)
    if preprocess.std_twice and name != "EfficientNetImageProcessor":
        with pytest.raises(CheckpointError, match=f"{name} has no words for"):
            to_transformers(preprocess, name)
        return
    written = to_transformers(preprocess, name)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    reference = PROCESSORS[name].from_pretrained(tmp_path)
    assert_same(preprocess(photograph()), by_transformers(reference, photograph()))
    assert from_transformers(json.loads(json.dumps(written))) == preprocess


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("resample", [2, 3], ids=["bilinear", "bicubic"])
def test_the_torchvision_backend_is_within_rounding(name, resample, tmp_path):
    """torchvision resizes tensors with fixed-point weights of its own: a level or two of 255 apart, on few pixels."""
    PROCESSORS[name](resample=resample).save_pretrained(tmp_path)
    reference = AutoImageProcessor.from_pretrained(tmp_path, backend="torchvision")
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    preprocess = from_transformers(config)
    level = 1 / 255 / min(config["image_std"]) ** (2 if preprocess.std_twice else 1)
    difference = (preprocess(photograph()) - by_transformers(reference, photograph())).abs() / level
    assert difference.max() < 2.01
    assert (difference > 0.01).float().mean() < 0.01


# timm

TIMM = {"input_size": (3, 64, 64), "mean": (0.48, 0.45, 0.41), "std": (0.27, 0.26, 0.28)}


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("kind", ODD)
def test_timm_on_every_picture(crop_mode, kind):
    cfg = {**TIMM, "crop_mode": crop_mode, "crop_pct": 0.9, "interpolation": "bicubic"}
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else ODD[kind]
    theirs = by_timm(cfg, given_to_reference.convert("RGB"))  # as timm's own data sets do on reading a file
    assert_same(from_timm(cfg)(ODD[kind]), theirs)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("input_size", [(3, 33, 33), (3, 35, 70), (1, 28, 20)], ids=str)
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.3])
def test_timm_every_filter_with_every_crop(crop_mode, interpolation, input_size, crop_pct):
    channels = input_size[0]
    cfg = {"input_size": input_size, "mean": TIMM["mean"][:channels], "std": TIMM["std"][:channels]}
    cfg |= {"crop_mode": crop_mode, "interpolation": interpolation, "crop_pct": crop_pct}
    preprocess = from_timm(cfg)
    for picture in (photograph(), noise(47, 61), noise(30, 90)):
        picture = picture.convert("RGB" if channels == 3 else "L")
        assert_same(preprocess(picture), by_timm(cfg, picture))
    assert from_timm(json.loads(json.dumps(to_timm(preprocess)))) == preprocess


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    input_size=st.tuples(st.just(3), st.integers(8, 90), st.integers(8, 90)),
    crop_pct=st.floats(0.3, 1.5),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
    interpolation=st.sampled_from(FILTERS),
)
def test_timm_any_picture_through_any_settings(width, height, input_size, crop_pct, crop_mode, interpolation):
    if max(width, height) > 10 * min(width, height):
        width = height  # the reference itself fails where an edge comes out 0
    cfg = {**TIMM, "input_size": input_size, "crop_pct": crop_pct, "crop_mode": crop_mode}
    cfg["interpolation"] = interpolation
    picture = noise(width, height, seed=width)
    preprocess = from_timm(cfg)
    assert_same(preprocess(picture), by_timm(cfg, picture))
    again = from_timm(to_timm(preprocess))
    assert (again.resize, again.crop) == (preprocess.resize, preprocess.crop)


def test_every_published_timm_configuration_goes_there_and_back():
    published = {}
    for name in list_pretrained():
        cfg = get_pretrained_cfg(name).to_dict()
        published.setdefault(json.dumps(resolve_data_config(pretrained_cfg=cfg), sort_keys=True), cfg)
    assert len(published) > 50
    for resolved, cfg in published.items():
        preprocess = from_timm(cfg)
        assert preprocess.output_size == tuple(json.loads(resolved)["input_size"][1:])
        assert from_timm(to_timm(preprocess)) == preprocess, resolved


def test_timm_hub_file_and_defaults():
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    cfg = {key: value for key, value in model.pretrained_cfg.items() if value is not None}
    hub = json.loads(json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}))
    assert from_timm(hub) == from_timm(cfg)
    assert from_timm({"architecture": "x", "input_size": [3, 40, 40]}) == from_timm({"input_size": (3, 40, 40)})
    assert_same(from_timm(hub)(photograph()), by_timm(model.pretrained_cfg, photograph()))
    tested_larger = {"input_size": (3, 64, 64), "test_input_size": (3, 96, 96), "test_crop_pct": 1.0, "crop_pct": 0}
    assert_same(from_timm(tested_larger)(photograph()), by_timm(tested_larger, photograph()))


# from one library to the other


@pytest.mark.parametrize("name", ["ViTImageProcessor", "DeiTImageProcessor", "EfficientNetImageProcessor"])
def test_from_transformers_to_timm(name):
    reference = PROCESSORS[name]()
    cfg = to_timm(from_transformers(reference.to_dict()))
    torch.testing.assert_close(
        by_timm(cfg, photograph()), by_transformers(reference, photograph()), rtol=1e-6, atol=1e-6
    )


def test_a_crop_rounded_otherwise_is_refused_unless_a_pixel_may_go():
    dino = from_transformers(PUBLISHED["dinov2"])
    with pytest.raises(CheckpointError, match="margins are rounded down"):
        to_timm(dino)
    cfg = to_timm(dino, exact=False)
    even, uneven = noise(300, 300), noise(300, 303)  # 256 + 2 = 258 rows to 224: 17 above; 303: 34 or 35 to spare
    assert_same(dino(even), by_timm(cfg, even))
    assert from_timm(cfg).crop.size == dino.crop.size
    assert from_timm(cfg)(uneven).shape == dino(uneven).shape

    centred = from_timm({"input_size": (3, 224, 224), "crop_pct": 0.9})
    with pytest.raises(CheckpointError, match="rounded to the nearest"):
        to_transformers(centred, "BitImageProcessor")
    written = to_transformers(centred, "BitImageProcessor", exact=False)
    assert_same(centred(even), by_transformers(BitImageProcessorPil(**written), even))


def test_the_white_paper_is_the_reference_s_where_it_converts():
    picture = ODD["RGBA"]
    white: Preprocess = from_transformers({"image_processor_type": "ViTImageProcessor", "do_convert_rgb": True})
    dropped: Preprocess = from_transformers({"image_processor_type": "ViTImageProcessor"})
    assert not torch.equal(white(picture), dropped(picture))
    assert torch.equal(dropped(picture), dropped(picture.convert("RGB")))
    assert isinstance(picture, Image.Image)
    assert picture.mode == "RGBA"  # and the picture itself was left alone
