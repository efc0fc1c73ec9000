"""Half and double the side without weights and without aliasing: a picture is blurred where its grid changes.

Zhang 2019 (1904.11486), §3; Karras et al. 2020 (1912.04958), appendix B, whose kernel [1, 3, 3, 1] NCSN++ has from.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


class FIRDownsample(nn.Module):
    """Half the side: blur by [1, 3, 3, 1], keep every second pixel. Outside the picture is zero."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ⌊H / 2⌋, ⌊W / 2⌋)."""
        return F.conv2d(images, _kernel(images), stride=2, padding=1, groups=images.shape[1])


class FIRUpsample(nn.Module):
    """Double the side: a zero behind every pixel, then blur by 4 [1, 3, 3, 1]. Outside the picture is zero."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2 H, 2 W)."""
        return F.conv_transpose2d(images, 4 * _kernel(images), stride=2, padding=1, groups=images.shape[1])


def _kernel(images: Tensor) -> Tensor:
    """The blur for each channel of (B, C, H, W): (C, 1, 4, 4), of sum 1."""
    taps = torch.tensor(_TAPS, dtype=images.dtype, device=images.device)
    return torch.outer(taps, taps).expand(images.shape[1], 1, 4, 4)
