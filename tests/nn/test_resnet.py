"""The tiles of pictures that are made: what they do at odd sizes, with a time, and while they learn."""

import pytest
import torch
from torch import nn

from vitrail.nn.resnet import Downsample, ResidualBlock, SpatialAttention, Upsample


def block(**how) -> ResidualBlock:
    return ResidualBlock(4, 8, groups=2, **how)


def test_a_time_added_shifts_what_the_second_norm_sees():
    told = block(time_width=3)
    seen = []
    told.norm2.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    images, time = torch.randn(2, 4, 5, 6), torch.randn(2, 3)
    told(images, time)
    told(images, torch.zeros(2, 3))
    said = nn.functional.silu(time) @ told.time.weight.T
    torch.testing.assert_close(seen[0] - seen[1], said[:, :, None, None].expand_as(seen[0]), rtol=1e-4, atol=1e-5)


def test_a_time_that_scales_and_shifts():
    told = block(time_width=3, scale_shift=True)
    nn.init.zeros_(told.time.weight)
    told.time.bias.data = torch.cat([torch.ones(8), torch.full((8,), 0.5)])
    seen = []
    told.dropout.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    plain = block()
    plain.load_state_dict({name: tensor for name, tensor in told.state_dict().items() if "time" not in name})
    plain.norm2.weight.data.fill_(2)  # (1 + s) and b
    plain.norm2.bias.data.fill_(0.5)
    images = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(told(images, torch.randn(2, 3)), plain(images))
    assert len(seen) == 1


def test_the_sum_is_divided_and_both_ways_are_resized():
    torch.manual_seed(1)
    halved = block(resize=nn.AvgPool2d(2), output_scale=2**0.5)
    images = torch.randn(1, 4, 6, 8)
    for part in (halved.conv2.weight, halved.conv2.bias):
        nn.init.zeros_(part)
    torch.testing.assert_close(halved(images), halved.shortcut(nn.functional.avg_pool2d(images, 2)) / 2**0.5)


def test_a_shortcut_where_the_channels_change_or_where_it_is_wanted():
    assert isinstance(ResidualBlock(4, 4, groups=2).shortcut, nn.Identity)
    assert isinstance(ResidualBlock(4, 4, groups=2, shortcut=True).shortcut, nn.Conv2d)
    assert isinstance(block().shortcut, nn.Conv2d)


@pytest.mark.parametrize(("side", "symmetric", "trailing"), [(8, 4, 4), (7, 4, 3)])
def test_half_the_side(side, symmetric, trailing):
    images = torch.randn(1, 4, side, side)
    assert Downsample(4)(images).shape == (1, 4, symmetric, symmetric)
    assert Downsample(4, 6, padding="trailing")(images).shape == (1, 6, trailing, trailing)


def test_where_the_zeros_stand():
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 1
    for padding, seen_by in (("symmetric", (1, 1)), ("trailing", (0, 0))):
        down = Downsample(1, padding=padding)
        made = down(corner)[0, 0, 0, 0] - down.convolution.bias[0]
        torch.testing.assert_close(made, down.convolution.weight[0, 0][seen_by])


def test_twice_the_side_or_what_is_wanted():
    images = torch.randn(1, 4, 3, 5)
    up = Upsample(4, 6)
    assert up(images).shape == (1, 6, 6, 10)
    assert up(images, (5, 9)).shape == (1, 6, 5, 9)
    torch.testing.assert_close(
        up(images), up.convolution(images.repeat_interleave(2, 2).repeat_interleave(2, 3)), rtol=1e-4, atol=1e-6
    )


def test_attention_knows_no_places():
    attention = SpatialAttention(8, 2, groups=2)
    images = torch.randn(2, 8, 3, 4)
    order = torch.randperm(12)
    turned = images.flatten(2)[:, :, order].unflatten(2, (3, 4))
    expected = attention(images).flatten(2)[:, :, order].unflatten(2, (3, 4))
    torch.testing.assert_close(attention(turned), expected, rtol=1e-4, atol=1e-5)


def test_learning_and_looking_give_the_same():
    """Where nothing is learned the activations are computed in place."""
    tower = nn.Sequential(block(), SpatialAttention(8, groups=2), ResidualBlock(8, 8, groups=2))
    images = torch.randn(2, 4, 5, 5)
    kept = images.clone()
    learning = tower(images)
    with torch.inference_mode():
        torch.testing.assert_close(tower(images), learning.detach())
    assert torch.equal(images, kept)
    learning.sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())
