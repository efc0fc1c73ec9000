"""From pictures to tokens: patches and their positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as two."""
    return (size, size) if isinstance(size, int) else size


def patch_grid(image_size: int | tuple[int, int], patch_size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of whole patches in a picture, both sizes in pixels."""
    (height, width), (patch_height, patch_width) = pair(image_size), pair(patch_size)
    return height // patch_height, width // patch_width


class PatchEmbedding(nn.Module):
    """Cut a picture into patches and project each to a token: x_p E. Dosovitskiy et al. 2021 (2010.11929), eq. 1.

    Args:
        patch_size: (height, width) of a patch, in pixels.
        channels: channels of the pictures.
        width: D, the width of a token.
        bias: whether the projection has one.
    """

    def __init__(self, patch_size: tuple[int, int], channels: int, width: int, *, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch_size, stride=patch_size, bias=bias)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches in pictures (B, C, H, W).

        Raises:
            ValueError: the channels are not the network's, or a side is not a multiple of the patch's.
        """
        _, channels, height, width = images.shape
        patch_height, patch_width = self.projection.kernel_size
        if channels != self.projection.in_channels:
            raise ValueError(f"the network takes pictures of {self.projection.in_channels} channels, not {channels}")
        if not height or not width or height % patch_height or width % patch_width:
            raise ValueError(
                f"a picture of {height}×{width} pixels cannot be cut into {patch_height}×{patch_width} patches"
            )
        return height // patch_height, width // patch_width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in any float dtype -> (B, N, D) in the weights', row by row."""
        return self.projection(images.to(self.projection.weight.dtype)).flatten(2).transpose(1, 2)


def resize_positions(positions: Tensor, grid: tuple[int, int], to: tuple[int, int], *, antialias: bool) -> Tensor:
    """Interpolate learned position embeddings to another grid of patches, in float32.

    Bicubic, as in Dosovitskiy et al. 2021, §3.2 ("Fine-tuning and higher resolution") and the references.

    Args:
        positions: (1, rows × columns, D).
        grid: rows and columns they were learned for.
        to: rows and columns wanted.
        antialias: widen the kernel when the grid shrinks.

    Returns:
        (1, to rows × to columns, D), in the dtype of `positions`; `positions` itself when the grids are equal.
    """
    if grid == to:
        return positions
    picture = positions.float().unflatten(1, grid).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, size=to, mode="bicubic", align_corners=False, antialias=antialias)
    return picture.flatten(2).transpose(1, 2).to(positions.dtype)


def prepend(tokens: Tensor, *first: Tensor) -> Tensor:
    """Put learned tokens (1, n, D) in front of every sequence of `tokens` (B, N, D)."""
    return torch.cat([*(token.expand(tokens.shape[0], -1, -1) for token in first), tokens], dim=1)
