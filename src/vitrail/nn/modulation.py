"""A transformer that a vector steers: adaptive layer norms that start as if they were not there (adaLN-Zero).

Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023 (2212.09748), §3.2 and figure 3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attention import Attention


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, N, D) -> tokens (1 + scale) + shift, of (B, 1, D) each."""
    return tokens * (1 + scale) + shift


class Modulation(nn.Module):
    """W SiLU(c) + b, cut into vectors of the tokens' width; W and b start at zero.

    Args:
        condition_width: T, width of the vector c.
        width: D, the width of a token.
        parts: how many vectors.
    """

    def __init__(self, condition_width: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.projection = nn.Linear(condition_width, parts * width)
        self.start()

    def start(self) -> None:
        """Zero, as it starts: for a network that initialises all its linear maps alike, to call afterwards."""
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """(B, T) -> as many (B, 1, D) as there are parts."""
        return self.projection(F.silu(condition))[:, None].chunk(self.parts, dim=2)


class ModulatedBlock(nn.Module):
    """x + g₁ MSA(LN(x) (1 + s₁) + b₁), then x + g₂ MLP(LN(x) (1 + s₂) + b₂): a DiT block with adaLN-Zero (figure 3).

    b, s and g are a function of the condition, and zero at first: the block starts as the identity.

    Args:
        width: D, the width of a token.
        heads: attention heads.
        mlp: the position-wise half, (B, N, D) -> (B, N, D).
        condition_width: T, width of the condition; the tokens' unless said.
        norm_eps: ε of the norm before the MLP; the one before the attention has 1e-6, as published.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: nn.Module,
        *,
        condition_width: int | None = None,
        norm_eps: float = 1e-6,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(condition_width or width, width, 6)
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps, elementwise_affine=False)
        self.mlp = mlp

    def forward(self, tokens: Tensor, condition: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D), condition (B, T) -> (B, N, D); `mask` as `Attention` takes it."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        tokens = tokens + gate1 * self.attention(modulate(self.norm1(tokens), shift1, scale1), mask)
        return tokens + gate2 * self.mlp(modulate(self.norm2(tokens), shift2, scale2))


class ModulatedOutput(nn.Module):
    """Linear(LN(x) (1 + s) + b): DiT's last layer, all of which starts at zero (§3.2, "Transformer decoder").

    Args:
        width: D, the width of a token.
        outputs: numbers a token becomes: patch² × channels.
        condition_width: T, width of the condition; the tokens' unless said.
    """

    def __init__(self, width: int, outputs: int, *, condition_width: int | None = None) -> None:
        super().__init__()
        self.modulation = Modulation(condition_width or width, width, 2)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.projection = nn.Linear(width, outputs)
        self.start()

    def start(self) -> None:
        """Zero, as it starts: for a network that initialises all its linear maps alike, to call afterwards."""
        self.modulation.start()
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B, N, D), condition (B, T) -> (B, N, outputs)."""
        shift, scale = self.modulation(condition)
        return self.projection(modulate(self.norm(tokens), shift, scale))


def unpatchify(patches: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Patches (B, rows × columns, patch² × C), the channel last within a patch -> pictures (B, C, H, W)."""
    batch, _, numbers = patches.shape
    rows, columns = grid
    channels = numbers // patch_size**2
    cut = patches.reshape(batch, rows, columns, patch_size, patch_size, channels)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, rows * patch_size, columns * patch_size)
