"""Weights kept as 8-bit integers: a quarter of float32's size, and half of bfloat16's, on disk alone."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vitrail.checkpoints.layout import Joined

_FEWEST = 4096  # numbers in a tensor that is worth it


class Scaled(Joined):
    """A tensor kept as integers from -127 to 127, and what each of its rows is multiplied by: "x.int8", "x.scale"."""

    def part_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """That of the tensor, and its rows."""
        return [shape, shape[:1]]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Integers (R, …) and scales (R,) -> the tensor, float32."""
        integers, scales = parts
        return integers.float() * scales.float().reshape(-1, *[1] * (integers.ndim - 1))

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """A tensor (R, …) -> int8 (R, …), each row scaled so that its largest number is 127, and float32 (R,)."""
        rows = tensor.detach().float()
        scales = (rows.flatten(1).abs().amax(1) / 127).clamp(min=1e-30)
        integers = (rows / scales.reshape(-1, *[1] * (rows.ndim - 1))).round().to(torch.int8)
        return integers, scales


def scaled(name: str) -> Scaled:
    """What a tensor's integers and scales are called; `name` may be a pattern."""
    return Scaled(f"{name}.int8", f"{name}.scale")


def as_integers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Large matrices and kernels as integers with scales, by the names that `Scaled` reads; all others in bfloat16."""
    kept: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() >= _FEWEST:
            names = scaled(name)
            kept.update(zip(names, names.split(tensor), strict=True))
        else:
            kept[name] = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
    return {name: tensor.contiguous() for name, tensor in kept.items()}
