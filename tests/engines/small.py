"""A network that is converted and compiled in seconds."""

import pytest
import torch

from vitrail.engines.packed import can_pack
from vitrail.imaging.preprocess import Preprocess, Resize
from vitrail.models.vit import ViT, ViTConfig

packable = pytest.mark.skipif(not can_pack(torch.zeros(1, 1)), reason="this build of torch has no oneDNN for CPUs")


def small_vit(*, classes: int = 5, seed: int = 0) -> ViT:
    """A ViT of one block with random weights that sees pictures of 16×16 pixels in patches of 8×8."""
    torch.manual_seed(seed)
    model = ViT(ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2, mlp_width=32, classes=classes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.preprocess = Preprocess(Resize((16, 16)))
    return model.eval()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """|a - b| / |b|."""
    return ((ours - theirs).norm() / theirs.norm()).item()
