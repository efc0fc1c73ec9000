"""What a Perceiver reads: an array of elements, each of which says what it is and where it lies.

Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021 (2103.03206), §3.2, and "Perceiver
IO: A General Architecture for Structured Inputs & Outputs", ICLR 2022 (2107.14795), §D and §H. The attention that reads
them knows no order, so a pixel's place goes in as more channels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitrail.nn.convolution import ConvolutionNorm
from vitrail.nn.patches import resize_positions


def grid_positions(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Where the elements of a grid lie: (n₁ ⋯ n_d, d) float32, in rows, from -1 to 1 along every dimension.

    A dimension of one element lies at -1.
    """
    axes = [torch.linspace(-1, 1, steps, device=device) for steps in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def fourier_width(dimensions: int, bands: int) -> int:
    """How many channels `fourier_features` gives."""
    return dimensions * (2 * bands + 1)


def fourier_features(positions: Tensor, bands: int, resolution: Sequence[int]) -> Tensor:
    """[x, sin(π f_k x), cos(π f_k x)]: places as sines of many frequencies. Perceiver, §3.2.

    Args:
        positions: (N, d), in [-1, 1].
        bands: K, how many frequencies a dimension has: equally spaced from 1 to half its resolution.
        resolution: elements along each of the d dimensions of the finest grid, whose Nyquist frequency is the highest.

    Returns:
        (N, d (2 K + 1)) float32: the d positions, then all sines, dimension by dimension, then all cosines.
    """
    frequencies = torch.stack([torch.linspace(1, side / 2, bands, device=positions.device) for side in resolution])
    angles = math.pi * (positions.float()[..., None] * frequencies).flatten(1)
    return torch.cat([positions.float(), angles.sin(), angles.cos()], 1)


class FourierGrid(nn.Module):
    """Every element of a grid with the Fourier features of its place behind it.

    Args:
        width: channels of an element.
        bands: frequencies along each dimension.
        resolution: of the finest grid, by which the highest frequency is chosen; a grid of any shape may be given.
    """

    def __init__(self, width: int, bands: int, resolution: Sequence[int]) -> None:
        super().__init__()
        self.bands, self.resolution = bands, tuple(resolution)
        self.width = width + fourier_width(len(self.resolution), bands)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, C, n₁, …, n_d) -> (B, n₁ ⋯ n_d, C + d (2 K + 1))."""
        elements = grid.flatten(2).mT
        places = fourier_features(grid_positions(grid.shape[2:], grid.device), self.bands, self.resolution)
        return torch.cat([elements, places.to(grid.dtype).expand(len(grid), -1, -1)], 2)


class FourierPixels(nn.Module):
    """The pixels as they are, with Fourier features of their places. Perceiver, §4.1; Perceiver IO, §H.

    Args:
        channels: of a picture.
        bands: frequencies along rows and columns.
        resolution: (height, width) of the pictures it is trained on, in pixels.
    """

    def __init__(self, channels: int, bands: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.places = FourierGrid(channels, bands, resolution)
        self.width = self.places.width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H W, C + 2 (2 K + 1))."""
        return self.places(images)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of elements that these pictures become."""
        return images.shape[2], images.shape[3]


class LearnedPixels(nn.Module):
    """A linear map of each pixel, with a learned vector for its place: nothing says that the picture is flat.

    Perceiver IO, §4.5 and §H, "1D learned features".

    Args:
        channels: of a picture.
        width: of what a pixel becomes, and again of its place.
        size: (height, width) of the pictures it is trained on, in pixels.
    """

    def __init__(self, channels: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.pixels = nn.Conv2d(channels, width, 1)
        self.positions = nn.Parameter(torch.zeros(size[0] * size[1], width))
        self.places = nn.Linear(width, width)
        self.width = 2 * width
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H W, 2 D). For another size than it was trained on the places are interpolated."""
        positions = resize_positions(self.positions[None], self.size, self.grid(images), antialias=False)
        elements = self.pixels(images).flatten(2).mT
        return torch.cat([elements, self.places(positions).expand(images.shape[0], -1, -1)], 2)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of elements that these pictures become."""
        return images.shape[2], images.shape[3]


class ConvolvedPixels(nn.Module):
    """A 7×7 convolution and a 3×3 maximum, of stride 2 each, with Fourier features of the places left.

    Perceiver IO, §4.5 and §H, "2D conv + maxpool preprocessing".

    Args:
        channels: of a picture.
        width: channels after the convolution.
        bands: frequencies along rows and columns.
        resolution: (height, width) of the grid that the pictures it is trained on become.
    """

    def __init__(self, channels: int, width: int, bands: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = ConvolutionNorm(channels, width, 7, stride=2, act="relu")
        self.pool = nn.MaxPool2d(3, stride=2)
        self.places = FourierGrid(width, bands, resolution)
        self.width = self.places.width

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, rows × columns, D + 2 (2 K + 1))."""
        return self.places(self.pool(self.convolution(images)))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of elements that these pictures become: 55×55 of 224×224 pixels."""
        rows, columns = (((side + 1) // 2 - 3) // 2 + 1 for side in images.shape[2:])
        return rows, columns
