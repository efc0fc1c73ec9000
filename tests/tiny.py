"""A network of a few thousand numbers, for tests of what happens around a network."""

import os
from pathlib import Path

import torch

import vitrail
from vitrail.imaging.preprocess import Preprocess, standard
from vitrail.models.vit import ViT, ViTConfig


def tiny_vit(*, classes: int = 10, preprocess: Preprocess | None = None, seed: int = 0) -> ViT:
    """A ViT with random weights that sees pictures of 32×32 pixels in patches of 8×8."""
    torch.manual_seed(seed)
    model = ViT(
        ViTConfig(image_size=32, patch_size=8, width=32, depth=2, heads=2, mlp_width=64, classes=classes)
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that different pictures get different answers
    model.preprocess = preprocess or standard(32)
    return model


def saved_tiny_vit(folder: Path, *, classes: int = 10, seed: int = 0) -> str:
    """The same in a `.safetensors` file; its name."""
    path = folder / f"tiny-{classes}-{seed}.safetensors"
    return os.fspath(vitrail.save(tiny_vit(classes=classes, seed=seed), path))
