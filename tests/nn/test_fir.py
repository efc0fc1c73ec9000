"""Resampling without aliasing."""

import torch

from vitrail.nn.fir import FIRDownsample, FIRUpsample


def test_a_flat_picture_stays_flat_but_at_the_border():
    flat = torch.full((1, 2, 8, 8), 3.0)
    halved, doubled = FIRDownsample()(flat), FIRUpsample()(flat)
    assert halved.shape == (1, 2, 4, 4)
    assert doubled.shape == (1, 2, 16, 16)
    torch.testing.assert_close(halved[..., 1:-1, 1:-1], torch.full((1, 2, 2, 2), 3.0))
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], torch.full((1, 2, 14, 14), 3.0))
    assert (halved[..., 0] < 3).all()  # outside is zero


def test_the_highest_frequency_is_gone():
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert FIRDownsample()(checks[None, None])[..., 1:-1, 1:-1].abs().max() < 1e-6


def test_one_bright_pixel_becomes_the_kernel():
    dot = torch.zeros(1, 1, 4, 4)
    dot[0, 0, 1, 1] = 1
    taps = torch.tensor([1.0, 3, 3, 1]) / 4
    torch.testing.assert_close(FIRUpsample()(dot)[0, 0, 1:5, 1:5], torch.outer(taps, taps))


def test_down_is_up_s_transpose():
    small, large = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 10, 12)
    torch.testing.assert_close((FIRUpsample()(small) * large).sum(), 4 * (small * FIRDownsample()(large)).sum())
