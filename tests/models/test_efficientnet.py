"""EfficientNet against its paper: Table 1, eq. 3, and what training needs."""

import math
from dataclasses import replace

import pytest
import torch

from vitrail.imaging.preprocess import standard
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig, Stage, odd_blocks, repadded, scale_width

SMALL = EfficientNetConfig(image_size=64, width=0.25, depth=0.5, classes=5)


def test_the_baseline_is_table_1():
    with torch.device("meta"):
        model = EfficientNet(EfficientNetConfig())
    sides, widths = [], []
    x = model.stem(torch.empty(1, 3, 224, 224, device="meta"))
    for stage in model.stages:
        sides.append(x.shape[2])  # the table's resolution is that of a stage's input
        x = stage(x)
        widths.append(x.shape[1])
    assert sides == [112, 112, 56, 28, 14, 14, 7]
    assert widths == [16, 24, 40, 80, 112, 192, 320]
    assert [len(stage) for stage in model.stages] == [1, 2, 2, 3, 3, 4, 1]
    assert model.top(x).shape == (1, 1280, 7, 7)


@pytest.mark.parametrize(
    ("width", "depth", "millions"),
    [
        (1.0, 1.0, 5.3),
        (1.0, 1.1, 7.8),
        (1.1, 1.2, 9.2),
        (1.2, 1.4, 12),
        (1.4, 1.8, 19),
        (1.6, 2.2, 30),
        (1.8, 2.6, 43),
        (2.0, 3.1, 66),
    ],
)
def test_scaled_networks_have_the_parameters_of_table_2(width, depth, millions):
    with torch.device("meta"):
        model = EfficientNet(EfficientNetConfig(width=width, depth=depth))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("coefficient", [0.25, 0.5, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0])
def test_widths_are_multiples_of_8_near_the_exact_ones(coefficient):
    for channels in (16, 24, 32, 40, 80, 112, 192, 320, 1280):
        width = scale_width(channels, coefficient)
        assert width % 8 == 0
        assert width >= 0.9 * channels * coefficient
        assert width <= max(8, channels * coefficient + 8)


def test_lite_networks_keep_their_ends():
    config = EfficientNetConfig(width=1.4, depth=1.8, scale_ends=False, squeeze=0)
    assert (config.stem_width, config.head_width) == (32, 1280)
    assert [stage.layers for stage in config.scaled_stages] == [1, 4, 4, 6, 6, 8, 1]


@pytest.mark.parametrize(
    ("padding", "size"),
    [(padding, size) for padding in ("same", "symmetric") for size in ((64, 64), (33, 70), (1, 1))]
    + [("fixed", (64, 96))],
)
@torch.inference_mode()
def test_shapes(padding, size):
    model = EfficientNet(replace(SMALL, padding=padding)).eval()
    images = torch.randn(2, 3, *size)
    features = model.features(images)
    assert features.shape == (2, 320, math.ceil(size[0] / 32), math.ceil(size[1] / 32))
    assert torch.equal(model(images), model.head(model.pool(features)))


def test_images_of_another_dtype_are_taken():
    model = EfficientNet(SMALL).eval().bfloat16()
    assert model(torch.randn(1, 3, 64, 64)).dtype == torch.bfloat16


@torch.inference_mode()
def test_a_new_network_neither_explodes_nor_vanishes():
    model = EfficientNet(replace(SMALL, width=0.5, depth=1.0))  # batch statistics, as at the first step of training
    features = model.features(torch.randn(8, 3, 64, 64))
    assert 0.1 < features.std() < 10
    stem = EfficientNet(EfficientNetConfig()).stem.convolution.weight
    assert stem.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.1)
    depthwise = EfficientNet(EfficientNetConfig()).stages[5][0].depthwise.convolution.weight
    assert depthwise.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.1)


def test_every_parameter_learns():
    model = EfficientNet(replace(SMALL, drop_path=0.0))
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_dropout_and_stochastic_depth_are_for_training():
    model = EfficientNet(replace(SMALL, dropout=0.5, drop_path=0.5, depth=1.0))
    assert [block.drop.drop for stage in model.stages for block in stage] == [0.5 * n / 16 for n in range(16)]
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    assert torch.equal(model(images), model(images))
    for norm in model.modules():
        if not isinstance(norm, torch.nn.BatchNorm2d):
            norm.training = True  # everything that is random, and no batch statistics
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize("size", [36, 44, 48, 60, 66, (64, 96), (66, 34)])
@torch.inference_mode()
def test_fixed_padding_is_same_padding_at_the_network_s_size(size):
    height, width = (size, size) if isinstance(size, int) else size
    model = EfficientNet(replace(SMALL, image_size=size)).eval()
    model.preprocess = standard(size)
    fixed = repadded(model, "fixed")
    images = torch.randn(1, 3, height, width)
    assert fixed.config.padding == "fixed"
    assert torch.equal(fixed(images), model(images))
    assert not torch.equal(fixed(images[..., 1:, 1:]), model(images[..., 1:, 1:]))
    assert repadded(fixed, "same").config == model.config


@pytest.mark.parametrize("size", [225, (64, 65), (64, 66)])
def test_sizes_that_no_fixed_padding_has_words_for(size):
    assert odd_blocks(replace(SMALL, image_size=size)) is None
    model = EfficientNet(replace(SMALL, image_size=size))
    assert repadded(model, "fixed") is model


def test_symmetric_padding_has_no_counterpart():
    model = EfficientNet(replace(SMALL, padding="symmetric"))
    assert repadded(model, "fixed") is model
    assert repadded(model, "same") is model


@pytest.mark.parametrize("stage", [(3, 1, 1, 16, 0), (3, 1, 1, 16, -1), (3, 1, "1", 16, 1), (3, 1, 1, 1.5, 1)])
def test_stages_of_anything_but_whole_numbers_are_refused(stage):
    with pytest.raises(ValueError, match="five whole numbers"):
        EfficientNetConfig(stages=(stage,))


def test_stages_come_back_from_json():
    config = EfficientNetConfig(stages=[[3, 2, 1, 16, 1]])
    assert config.stages == (Stage(3, 2, 1, 16, 1),)
    assert hash(config)
