"""The position-wise halves of a transformer block."""

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.activation import activation


class MLP(nn.Module):
    """Two linear maps with an activation between them. Vaswani et al. 2017 (1706.03762), §3.3."""

    def __init__(self, width: int, hidden: int, *, act: str = "gelu") -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.act = activation(act)
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(self.act(self.up(tokens)))


class SwiGLU(nn.Module):
    """A gated MLP: (SiLU(x W) ⊙ x V) W₂, W and V in one product. Shazeer 2020 (2002.05202), eq. 6."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate, value = self.up(tokens).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class GEGLU(nn.Module):
    """A gated MLP: (x V ⊙ GELU(x W)) W₂, V and W in one product, V first. Shazeer 2020 (2002.05202), eq. 6."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        value, gate = self.up(tokens).chunk(2, dim=-1)
        return self.down(value * F.gelu(gate))
