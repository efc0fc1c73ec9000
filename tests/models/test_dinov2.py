"""What DINOv2 promises in Python, besides the references' numbers."""

from dataclasses import replace

import pytest
import torch

from vitrail.imaging.preprocess import HALF, standard
from vitrail.models.dinov2 import DINOv2, DINOv2Config, rearranged

SMALL = DINOv2Config(image_size=32, patch_size=8, width=24, depth=2, heads=3, mlp_width=48, layer_scale=0.5)
VARIANTS = {
    "plain": SMALL,
    "registers": replace(SMALL, registers=4, antialias=True),
    "gated": replace(SMALL, mlp="swiglu", mlp_width=32),
    "head": replace(SMALL, registers=2, classes=5, pooling="class+mean"),
    "no class position": replace(SMALL, registers=4, class_position=False, mask_token=False),
}


def network(config):
    model = DINOv2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.preprocess = standard(32, mean=HALF, std=HALF)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_shapes(variant):
    config = VARIANTS[variant]
    model, images = network(config), torch.randn(2, 3, 16, 40)
    features = model.features(images)
    assert model.prefix_tokens == 1 + config.registers
    assert features.shape == (2, 1 + config.registers + 2 * 5, 24)
    assert model.pool(features).shape == (2, 48 if config.pooling == "class+mean" else 24)
    assert model(images).shape == (2, config.classes or 24)


@torch.inference_mode()
def test_the_mean_is_of_the_patches_alone():
    model = network(VARIANTS["head"])
    features = model.features(torch.randn(2, 3, 32, 32))
    pooled = model.pool(features)
    assert torch.equal(pooled[:, :24], features[:, 0])
    torch.testing.assert_close(pooled[:, 24:], features[:, 3:].mean(1))


@pytest.mark.parametrize("variant", ["plain", "registers"])
@torch.inference_mode()
def test_what_is_masked_is_not_seen(variant):
    model = network(VARIANTS[variant])
    images = torch.randn(2, 3, 32, 32)
    masked = torch.zeros(2, 16, dtype=torch.bool)
    torch.testing.assert_close(model.features(images, masked), model.features(images))
    masked[0, 5] = True  # second row, second column
    changed = images.clone()
    changed[0, :, 8:16, 8:16] = 7
    torch.testing.assert_close(model.features(images, masked), model.features(changed, masked))
    torch.testing.assert_close(model.features(images, masked)[1], model.features(images)[1])
    assert not torch.allclose(model.features(images)[0], model.features(changed)[0], atol=1e-3)


@pytest.mark.parametrize("registers", [0, 4])
@torch.inference_mode()
def test_rearranged_is_the_same_function(registers):
    model = network(replace(SMALL, registers=registers))
    images = torch.randn(2, 3, 24, 40)
    folded = rearranged(model, class_position=False, mask_token=False)
    assert folded.positions.shape[1] == 16
    assert "mask_token" not in folded.state_dict()
    torch.testing.assert_close(folded.features(images), model.features(images), rtol=0, atol=1e-5)
    again = rearranged(folded, class_position=True, mask_token=True)
    assert again.config == model.config
    torch.testing.assert_close(again.features(images), model.features(images), rtol=0, atol=1e-5)
    assert not again.mask_token.any()
    assert torch.equal(model.positions, rearranged(model, class_position=True, mask_token=True).positions)
    assert (again.preprocess, again.labels, again.training) == (model.preprocess, model.labels, model.training)


def test_every_parameter_learns():
    for config in VARIANTS.values():
        model = network(config).train()
        masked = torch.rand(2, 16) < 0.5 if config.mask_token else None
        model.head(model.pool(model.features(torch.randn(2, 3, 32, 32), masked))).square().sum().backward()
        still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == [], config


def test_it_starts_near_the_identity():
    model = DINOv2(replace(SMALL, layer_scale=1e-5))
    tokens = torch.randn(2, 17, 24)
    torch.testing.assert_close(model.blocks(tokens), tokens, rtol=0, atol=1e-3)
