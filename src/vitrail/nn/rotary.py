"""Attention that knows places by turning: rotary positions, and keys and values that several heads share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.cache import KeyValues


class Rotary(nn.Module):
    """The angles by which queries and keys are turned: position × base^(-2i / d). Su et al. 2021 (2104.09864), eq. 15.

    Args:
        width: d, the width of a head.
        base: 10000 in the paper; larger ones turn more slowly, for longer texts.
    """

    def __init__(self, width: int, base: float = 10000.0) -> None:
        super().__init__()
        self.width, self.base = width, base

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (n,) or (B, n) -> cosines and sines, (n, d) or (B, 1, n, d) float32."""
        steps = torch.arange(0, self.width, 2, device=positions.device, dtype=torch.float32) / self.width
        angles = positions[..., None].float() * self.base**-steps
        angles = torch.cat([angles, angles], -1)
        if positions.ndim == 2:
            angles = angles[:, None]
        return angles.cos(), angles.sin()


def turn(vectors: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn (B, heads, n, d): the first half of the channels with the second, as in LLaMA's published weights."""
    cosines, sines = (part.to(vectors.dtype) for part in angles)
    first, second = vectors.chunk(2, -1)
    return vectors * cosines + torch.cat([-second, first], -1) * sines


class RotaryAttention(nn.Module):
    """Attention with turned queries and keys, where each key and value serves a group of heads.

    Su et al. 2021 (2104.09864), §3.2.2; Ainslie et al. 2023 (2305.13245), §2.2. No bias anywhere.

    Args:
        width: D, the width of a token.
        heads: how many heads ask.
        kv_heads: how many keys and values there are; must divide `heads`.
    """

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        if heads < 1 or kv_heads < 1 or width % heads or heads % kv_heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads with {kv_heads} keys and values")
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * self.head_width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, tokens: Tensor, angles: tuple[Tensor, Tensor], visible: Tensor | None, past: KeyValues | None = None
    ) -> Tensor:
        """(B, n, D) -> (B, n, D).

        Args:
            tokens: (B, n, D).
            angles: of their positions, as `Rotary` gives them.
            visible: bool, True where a token may be attended to, of any shape that broadcasts to
                (B, heads, n, past and n); None for everywhere.
            past: the keys and values of tokens read earlier, which these see too and are added to.
        """
        split = self.qkv(tokens).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        queries, keys, values = split.split([self.heads, self.kv_heads, self.kv_heads], 1)
        queries, keys = turn(queries, angles), turn(keys, angles)
        if past is not None:
            keys, values = past.extend(keys, values)
        shared = self.kv_heads != self.heads
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, enable_gqa=shared)
        return self.out(mixed.transpose(1, 2).flatten(2))
