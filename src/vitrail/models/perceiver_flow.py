"""Perceiver IO for optical flow: where each pixel of one picture has gone in the next.

Jaegle et al., "Perceiver IO", ICLR 2022 (2107.14795), §4.2 and §G; the way larger pictures are tiled is that of the
authors' published notebook.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.preprocess import ImageLike
from vitrail.models.model import Model
from vitrail.models.perceiver import QUERIES_AT_ONCE, CrossBlock, Latents, LatentsConfig, initialise
from vitrail.models.perceiver_inputs import FourierGrid

MIN_OVERLAP = 20
"""Pixels that neighbouring tiles of a large picture share at least."""


@dataclass(frozen=True)
class PerceiverFlowConfig:
    """The numbers of a Perceiver IO for optical flow; the defaults are deepmind/optical-flow-perceiver.

    Attributes:
        image_size: (height, width) of the pictures it is trained on, in pixels.
        channels: channels of a picture.
        pixel_width: channels of an element of the input, without its place.
        bands: frequencies of the Fourier features along rows and columns.
        scale: pixels of flow to 1 of the last layer's output: the published network's is divided by 100, and was
            trained on flows divided by 20.
        latents: the latent array.
    """

    image_size: tuple[int, int] = (368, 496)
    channels: int = 3
    pixel_width: int = 64
    bands: int = 64
    scale: float = 20 / 100
    latents: LatentsConfig = field(
        default_factory=lambda: LatentsConfig(count=2048, width=512, depth=24, repeats=1, heads=16)
    )


class PerceiverFlow(Model):
    """Two frames, pixel on pixel, are read into latents; every pixel asks them where it went. Perceiver IO, §4.2.

    A pixel is its 3×3 neighbourhood in both frames, linearly: a convolution of the two. Its question is what the
    latents read of it.
    """

    family: ClassVar[str] = "perceiver-flow"
    config: PerceiverFlowConfig

    def __init__(self, config: PerceiverFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.pixels = nn.Conv2d(2 * config.channels, config.pixel_width, 3, padding=1)
        self.places = FourierGrid(config.pixel_width, config.bands, config.image_size)
        self.latents = Latents(config.latents, self.places.width)
        self.answer = CrossBlock(self.places.width, config.latents.width, config.latents, residual=False)
        self.displacement = nn.Linear(self.places.width, 2)
        self.head = nn.Identity()
        self.apply(initialise)
        nn.init.zeros_(self.displacement.weight)  # nothing moves at first, as in the paper's code

    def forward(self, frames: Tensor, at_once: int = QUERIES_AT_ONCE) -> Tensor:
        """(B, 2, C, H, W) -> the flow from the first frame to the second, (B, 2, H, W), in pixels.

        What is at (x, y) in the first frame is at (x, y) + flow[:, :, y, x] in the second: channel 0 is to the right,
        channel 1 downwards. transformers gives (B, H, W, 2), a twentieth of it.

        Args:
            frames: pixels in [-1, 1], as `preprocess` gives them. Places are relative to the frame, so it is at home in
                `config.image_size` only: `flow` tiles larger ones.
            at_once: the most pixels that are answered at once, to bound the memory.
        """
        if frames.dim() != 5 or frames.shape[1:3] != (2, self.config.channels):
            raise ValueError(
                f"flow is between frames of shape (B, 2, {self.config.channels}, H, W), not {tuple(frames.shape)}"
            )
        elements = self.places(self.pixels(frames.flatten(1, 2)))
        latents = self.latents(elements)
        asked = (self.answer(some, latents) for some in elements.split(at_once, dim=1))
        displacements = torch.cat([self.displacement(read) for read in asked], 1) * self.config.scale
        return displacements.mT.unflatten(2, frames.shape[3:])

    @torch.inference_mode()
    def flow(self, first: ImageLike, second: ImageLike) -> Tensor:
        """Where each pixel of one picture has gone in the next.

        Larger pictures than `config.image_size` are covered with tiles of that size, which overlap and are blended.

        Args:
            first: a picture: a path, a PIL image, an array (H, W, 3) of uint8, ….
            second: another, of the same size.

        Returns:
            (2, H, W) float32, pixels to the right and downwards; `vitrail.imaging.flow.draw_flow` draws it.

        Raises:
            UsageError: the two are not of one size, or smaller than the network's.
            ImageError: one cannot be opened.
        """
        weight = self.pixels.weight
        frames = [self.preprocess(picture)[0] for picture in (first, second)]
        (height, width), (rows, columns) = frames[0].shape[1:], self.config.image_size
        if frames[0].shape != frames[1].shape:
            other = "×".join(map(str, reversed(frames[1].shape[1:])))
            raise UsageError(f"flow is between pictures of one size, not of {width}×{height} and {other} pixels")
        if height < rows or width < columns:
            raise UsageError(
                f"this network finds flow in pictures of {columns}×{rows} pixels or more, not {width}×{height}: "
                "enlarge both"
            )
        pair = torch.stack(frames)[None].to(weight.device, weight.dtype)
        total, weights = torch.zeros(2, height, width), torch.zeros(height, width)
        nearness = torch.minimum(_from_edge(rows)[:, None], _from_edge(columns)[None])
        for top in _tiles(height, rows):
            for left in _tiles(width, columns):
                tile = slice(top, top + rows), slice(left, left + columns)
                total[:, *tile] += nearness * self(pair[..., *tile])[0].float().cpu()
                weights[tile] += nearness
        return total / weights

    def features(self, images: Tensor) -> Tensor:
        """There are none of one picture.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "this network compares two pictures (`model.flow(first, second)`) and describes none by itself"
        )


def _tiles(length: int, tile: int) -> Iterator[int]:
    """Where tiles start that cover a length, neighbours sharing `MIN_OVERLAP` at least, the last flush with the end."""
    count = 1 if length == tile else -(-(length - MIN_OVERLAP) // (tile - MIN_OVERLAP))
    yield from (min(number * (tile - MIN_OVERLAP), length - tile) for number in range(count))


def _from_edge(length: int) -> Tensor:
    """1, 2, 3, … towards the middle, and back: how far from the edge of a tile, which knows least at its edge."""
    place = torch.arange(1.0, length + 1)
    return torch.minimum(place, length + 1 - place)
