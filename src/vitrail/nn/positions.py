"""Positions that are not learned."""

import torch
from torch import Tensor


def sincos_positions(
    grid: tuple[int, int], width: int, *, base: tuple[int, int] | None = None, device: torch.device | None = None
) -> Tensor:
    """Sines and cosines of the column in the first half of the channels, of the row in the second.

    Vaswani et al. 2017 (1706.03762), §3.5, in two dimensions as MAE (He et al. 2021, 2111.06377) and DiT (Peebles and
    Xie 2022, 2212.09748) have them.

    Args:
        grid: rows and columns of patches.
        width: D; a multiple of 4.
        base: rows and columns of the grid that the network was trained on; another grid is stretched over it. None
            where it is this one.
        device: where to build them.

    Returns:
        (1, rows × columns, D), float32, row by row.

    Raises:
        ValueError: the width is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"positions in two dimensions take a width that is a multiple of 4, not {width}")
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device=device) / (width // 4))
    waves = []
    for count, trained in zip(grid, base or grid, strict=True):
        places = torch.arange(count, dtype=torch.float64, device=device) * (trained / count)
        angles = places[:, None] * frequencies
        waves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows, columns = waves
    halves = [columns.repeat(grid[0], 1), rows.repeat_interleave(grid[1], 0)]
    return torch.cat(halves, dim=1).float()[None]
