"""DiT as a network."""

from dataclasses import replace

import pytest
import torch

from vitrail.models.dit import DiT, DiTConfig

SMALL = DiTConfig(image_size=8, width=24, depth=2, heads=3, classes=5)


def lively(config: DiTConfig) -> DiT:
    model = DiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.mark.parametrize("variance", [True, False])
def test_it_starts_at_zero_and_every_parameter_learns(variance):
    config = replace(SMALL, variance=variance)
    images, times, labels = torch.randn(3, 4, 8, 12), torch.tensor([0, 10, 999]), torch.tensor([0, 4, 5])
    assert not DiT(config)(images, times, labels).any()
    model = lively(config)
    said = model(images, times, labels)
    assert said.shape == (3, 8 if variance else 4, 8, 12)
    said.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.inference_mode()
def test_time_and_class_matter_and_rows_do_not_mix():
    model = lively(SMALL)
    images = torch.randn(1, 4, 8, 8).repeat(3, 1, 1, 1)
    said = model(images, torch.tensor([10, 900, 10]), torch.tensor([2, 2, model.no_class]))
    assert not torch.allclose(said[0], said[1], atol=1e-2)
    assert not torch.allclose(said[0], said[2], atol=1e-2)
    torch.testing.assert_close(model(images[:1], torch.tensor([900]), torch.tensor([2])), said[1:2])


@torch.inference_mode()
def test_rows_of_patches_are_told_from_columns():
    model, image = lively(SMALL), torch.randn(1, 4, 8, 8)
    time, label = torch.tensor([5]), torch.tensor([1])
    patches = image.unflatten(3, (4, 2)).unflatten(2, (4, 2))
    turned = patches.transpose(2, 4).flatten(4, 5).flatten(2, 3)  # patches change places, and stay as they are
    said = model(image, time, label).unflatten(3, (4, 2)).unflatten(2, (4, 2)).transpose(2, 4)
    assert not torch.allclose(model(turned, time, label), said.flatten(4, 5).flatten(2, 3), atol=1e-2)


def test_pictures_it_does_not_take():
    with pytest.raises(ValueError, match="4 channels, not 3"):
        DiT(SMALL)(torch.randn(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="8×7 pixels"):
        DiT(SMALL)(torch.randn(1, 4, 8, 7), torch.zeros(1), torch.zeros(1, dtype=torch.long))
