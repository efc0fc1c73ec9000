"""Noise that is a function of its seed and never of what was drawn elsewhere."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: One generator for all rows; one for each row, so that a row does not depend on its neighbours; or None: a new one,
#: seeded by the system. The global state of torch is never touched.
Dice = torch.Generator | Sequence[torch.Generator] | None


def noise_like(x: Tensor, dice: Dice) -> Tensor:
    """Standard normal noise of the shape, type and device of `x` (B, …), drawn where the generator lives.

    Raises:
        ValueError: with a list of generators of another length than the rows of `x`.
    """
    if dice is None:
        dice = _fresh()
    if isinstance(dice, torch.Generator):
        return torch.randn(x.shape, generator=dice, device=dice.device, dtype=x.dtype).to(x.device)
    if len(dice) != len(x):
        raise ValueError(f"{len(x)} rows need {len(x)} generators, not {len(dice)}")
    return torch.cat([noise_like(row, one) for row, one in zip(x.split(1), dice, strict=True)])


def _fresh() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator
