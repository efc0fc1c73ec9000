"""The convolutional tiles against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitrail.nn.convolution import Convolution, ConvolutionNorm, InvertedResidual, SqueezeExcite, StochasticDepth

SIDES = [1, 2, 5, 8, 13, 32]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@torch.inference_mode()
def test_same_padding_is_tensorflow_s(kernel, stride, side):
    convolution = Convolution(2, 3, kernel, stride=stride, padding="same")
    images = torch.randn(1, 2, side, side + 1)
    out = convolution(images)
    assert out.shape[2:] == (-(-side // stride), -(-(side + 1) // stride))
    margins = []
    for edge in (side + 1, side):
        zeros = max((-(-edge // stride) - 1) * stride + kernel - edge, 0)
        margins += [zeros // 2, zeros - zeros // 2]
    torch.testing.assert_close(out, F.conv2d(F.pad(images, margins), convolution.weight, stride=stride))


@pytest.mark.parametrize("kernel", [3, 5])
@torch.inference_mode()
def test_same_is_trailing_on_even_and_symmetric_on_odd_pictures(kernel):
    same, trailing, symmetric = (
        Convolution(1, 1, kernel, stride=2, padding=padding) for padding in ("same", "trailing", "symmetric")
    )
    trailing.load_state_dict(same.state_dict())
    symmetric.load_state_dict(same.state_dict())
    even, odd = torch.randn(1, 1, 12, 14), torch.randn(1, 1, 13, 15)
    assert torch.equal(same(even), trailing(even))
    assert torch.equal(same(odd), symmetric(odd))
    assert not torch.equal(same(even), symmetric(even))
    assert trailing(odd).shape[2:] == (6, 7)  # a row and a column are lost


@pytest.mark.parametrize("padding", ["same", "trailing", "symmetric"])
@torch.inference_mode()
def test_without_a_stride_the_paddings_are_one(padding):
    convolution = Convolution(2, 2, 5, padding=padding)
    images = torch.randn(1, 2, 6, 9)
    torch.testing.assert_close(convolution(images), F.conv2d(images, convolution.weight, padding=2))


@torch.inference_mode()
def test_a_norm_stands_between_convolution_and_activation():
    tile = ConvolutionNorm(3, 4, 3, act="relu6", norm_eps=0.1).eval()
    tile.norm.running_mean.normal_()
    tile.norm.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 8, 8) * 5
    mean, variance = tile.norm.running_mean.view(-1, 1, 1), tile.norm.running_var.view(-1, 1, 1)
    expected = ((tile.convolution(images) - mean) / (variance + 0.1).sqrt()).clamp(0, 6)
    assert (expected == 6).any()
    torch.testing.assert_close(tile(images), expected)


@torch.inference_mode()
def test_squeeze_and_excite_weighs_whole_channels():
    tile = SqueezeExcite(6, 2, act="relu")
    images = torch.randn(2, 6, 5, 3)
    hidden = F.linear(images.mean((2, 3)), tile.reduce.weight.flatten(1), tile.reduce.bias).relu()
    gates = F.linear(hidden, tile.expand.weight.flatten(1), tile.expand.bias).sigmoid()
    torch.testing.assert_close(tile(images), images * gates[:, :, None, None])


def test_stochastic_depth_drops_whole_pictures_and_keeps_the_mean():
    tile, branch = StochasticDepth(0.25), torch.ones(20000, 2, 1, 1)
    dropped = tile(branch)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert tile.eval()(branch) is branch


@torch.inference_mode()
def test_a_shortcut_adds_the_input():
    block = InvertedResidual(4, 4, 3, expansion=2, squeeze=1, shortcut=True).eval()
    images = torch.randn(1, 4, 7, 5)
    with_shortcut = block(images)
    block.shortcut = False
    torch.testing.assert_close(with_shortcut, images + block(images))
    assert block(images).abs().max() > 0


def test_without_expansion_there_is_no_first_convolution():
    block = InvertedResidual(4, 6, 3, stride=2, expansion=1)
    assert isinstance(block.expand, nn.Identity)
    assert isinstance(block.excite, nn.Identity)
    assert block(torch.randn(2, 4, 9, 6)).shape == (2, 6, 5, 3)


@pytest.mark.parametrize(("width", "stride"), [(5, 1), (4, 2)])
def test_a_shortcut_needs_equal_shapes(width, stride):
    with pytest.raises(ValueError, match="has no shortcut"):
        InvertedResidual(4, width, 3, stride=stride, shortcut=True)
