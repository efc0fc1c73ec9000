"""How a network is told the time: sines of many frequencies, and two linear maps."""

import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoids(numbers: Tensor, width: int, *, shift: float = 0.0, cosine_first: bool = True) -> Tensor:
    """Cosines and sines of a number at frequencies from 1 down to 1/10000. Vaswani et al. 2017 (1706.03762), §3.5.

    Frequency k of `width` / 2 is 10000^(-k / (width / 2 - shift)).

    Args:
        numbers: (...), of any dtype: times, mostly, and of a picture's sizes.
        width: how many numbers stand for one; the last is 0 where it is odd.
        shift: 1 in the code of Ho et al. 2020 (2006.11239), where the last frequency is 1/10000 itself; 0 elsewhere.
        cosine_first: whether the cosines stand before the sines, as in Stable Diffusion; not so in Ho's code.

    Returns:
        (..., width) float32.
    """
    half = width // 2
    places = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers[..., None].float() * 10000 ** (-places / (half - shift))
    waves = [angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()]
    return F.pad(torch.cat(waves, dim=-1), (0, width % 2))


class TimeMLP(nn.Module):
    """W₂ SiLU(W₁ x), for x the `sinusoids` of a time. Ho et al. 2020 (2006.11239), appendix B.

    Args:
        width: width of the sinusoids, or of whatever else is put in.
        out_width: T, the width of the embedding.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, out_width)
        self.down = nn.Linear(out_width, out_width)

    def forward(self, waves: Tensor) -> Tensor:
        """(B, width) in any float type -> (B, T) in the network's."""
        return self.down(F.silu(self.up(waves.to(self.up.weight.dtype))))


class FourierFeatures(nn.Module):
    """Sines and cosines of 2π f log σ, at frequencies f drawn once. Song et al. 2021 (2011.13456), appendix H.

    The frequencies stay in float32 when the network is cast to a narrower type: angles of hundreds of radians, rounded
    to eight bits, are any angle.

    Args:
        width: how many frequencies.
        scale: their standard deviation.
    """

    def __init__(self, width: int, scale: float = 16.0) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(width) * scale, requires_grad=False)

    def forward(self, sigmas: Tensor) -> Tensor:
        """Noise levels (B,) above 0 -> (B, 2 width), the sines first."""
        angles = sigmas.log()[:, None] * self.frequencies * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `to` and its like do to a module's tensors, but for the rounding."""
        exact = self.frequencies.data
        super()._apply(fn, recurse)
        if self.frequencies.dtype.itemsize < exact.dtype.itemsize:
            self.frequencies.data = exact.to(self.frequencies.device)
        return self
