"""A network over a picture too large for it, tile by tile, the seams blended."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def in_tiles(
    network: Callable[[Tensor], Tensor], images: Tensor, tile: int, overlap: int, *, before: int = 1, after: int = 1
) -> Tensor:
    """Run a network on tiles of pictures that share their edges, and fade each into the next.

    A tile's weight grows linearly from its edge to the depth of the overlap, and all weights of a pixel sum to 1.

    Args:
        network: (B, C, before h, before w) -> (B, D, after h, after w), the smallest steps of its grid being h and w.
        images: (B, C, before H, before W).
        tile: side of a tile, in steps of the grid; a picture that is shorter is one tile.
        overlap: what neighbours share at least, in steps; less than `tile`.
        before: pixels to a step in what the network takes.
        after: pixels to a step in what it gives.

    Returns:
        (B, D, after H, after W).
    """
    height, width = images.shape[2] // before, images.shape[3] // before
    rows, columns = min(tile, height), min(tile, width)
    weight = _ramp(rows * after, overlap * after)[:, None] * _ramp(columns * after, overlap * after)
    weight = weight.to(images.device)
    total = torch.zeros(after * height, after * width, device=images.device)
    blended = None
    for top in _starts(height, rows, overlap):
        for left in _starts(width, columns, overlap):
            cut = images[..., before * top : before * (top + rows), before * left : before * (left + columns)]
            made = network(cut)
            if blended is None:
                blended = made.new_zeros(*made.shape[:2], *total.shape, dtype=torch.float32)
            place = (..., slice(after * top, after * (top + rows)), slice(after * left, after * (left + columns)))
            blended[place] += made * weight
            total[place] += weight
    assert blended is not None
    return blended.div_(total).to(made.dtype)


def _starts(length: int, tile: int, overlap: int) -> Iterator[int]:
    """Where tiles begin that cover a length, evenly, neighbours sharing `overlap` at least."""
    count = -(-(length - tile) // max(tile - overlap, 1)) + 1
    yield from (place * (length - tile) // max(count - 1, 1) for place in range(count))


def _ramp(length: int, depth: int) -> Tensor:
    """(length,): 1 within, less and less over `depth` pixels towards both edges."""
    place = torch.arange(1.0, length + 1)
    return torch.minimum(place, length + 1 - place).clamp(max=depth + 1) / (depth + 1)
