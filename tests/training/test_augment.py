"""What augmentation does to pictures and targets."""

import pytest
import torch

from vitrail.training.augment import Augmentation, change_colours, change_light, cutmix, mixup
from vitrail.training.recipe import AugmentationSection

IMAGES, TARGETS = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3

EVERY = {
    "rotate": 20.0,
    "translate": 0.1,
    "scale": (0.8, 1.2),
    "shear": 5.0,
    "flip": 0.5,
    "colour": 0.4,
    "grey": 0.3,
    "light": 0.5,
    "erase": 0.5,
    "policy": "trivial",
    "mixup": 0.4,
    "cutmix": 1.0,
}


def test_off_it_changes_nothing():
    images, targets = Augmentation(AugmentationSection(), 3)(IMAGES, TARGETS)
    assert images is IMAGES
    assert targets is TARGETS


@pytest.mark.parametrize("key", [*EVERY, "everything"])
def test_each_changes_pictures_keeps_their_range_and_follows_the_seed(key):
    augmentation = Augmentation(AugmentationSection(**(EVERY if key == "everything" else {key: EVERY[key]})), 3)
    torch.manual_seed(2)
    images, targets = augmentation(IMAGES, TARGETS)
    assert images.shape == IMAGES.shape
    assert not torch.equal(images, IMAGES)
    assert 0 <= images.min() <= images.max() <= 1
    torch.manual_seed(2)
    again, again_targets = augmentation(IMAGES, TARGETS)
    assert torch.equal(again, images)
    assert torch.equal(again_targets, targets)


def test_mixup_mixes_targets_as_it_mixes_pictures():
    shares = torch.eye(8)
    flat = shares[:, :3, None, None].expand(8, 3, 4, 4)  # pictures whose colour is their target's beginning
    images, mixed = mixup(flat, shares, 1.0)
    torch.testing.assert_close(images[:, :, 0, 0], mixed[:, :3])
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))


def test_cutmix_mixes_targets_by_area():
    torch.manual_seed(1)
    shares = torch.eye(8)
    flat = shares[:, :3, None, None].expand(8, 3, 16, 16)
    for _ in range(20):
        images, mixed = cutmix(flat, shares, 1.0)
        torch.testing.assert_close(images.mean((2, 3)), mixed[:, :3])


def test_colours_turn_about_the_greys():
    grey = torch.full((4, 3, 2, 2), 0.5)
    changed = change_colours(grey, 0.5)
    torch.testing.assert_close(changed, changed.mean(1, keepdim=True).expand_as(changed))  # a grey stays some grey
    assert torch.equal(change_colours(IMAGES, 0.0).round(decimals=4), IMAGES.round(decimals=4))


def test_light_keeps_hue_and_the_middle():
    dim = torch.full((4, 3, 5, 5), 0.3)
    changed = change_light(dim, 0.8)
    torch.testing.assert_close(changed[:, :, 2, 2], dim[:, :, 2, 2])
    assert changed.std() > 0.01
