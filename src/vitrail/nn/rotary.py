"""Attention that knows places by turning: rotary positions, and keys and values that several heads share."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.nn.attention import attend
from vitrail.nn.cache import KeyValues


@dataclass(frozen=True)
class Stretch:
    """How a network trained on short texts was taught to read long ones: LLaMA 3.1's, "llama3" in transformers.

    Channels that turn fast, which tell neighbours apart, stay as they are; those that turn less than `low` times within
    `context` turn `factor` times as slowly; between them it goes over smoothly. As in Meta's code for LLaMA 3.1; no
    paper has it.

    Attributes:
        factor: how much more slowly.
        low: turns within `context` up to which channels are slowed down in full.
        high: turns from which they are not; above `low`.
        context: the tokens that the network was trained to read before.
    """

    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    context: int = 8192

    def __call__(self, speeds: Tensor) -> Tensor:
        """Angles a token (d / 2,) -> those of the longer texts."""
        turns = speeds * self.context / (2 * math.pi)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return speeds * (kept + (1 - kept) / self.factor)


class Rotary(nn.Module):
    """The angles by which queries and keys are turned: position × base^(-2i / d). Su et al. 2021 (2104.09864), eq. 15.

    Args:
        width: d, the width of a head.
        base: 10000 in the paper; larger ones turn more slowly, for longer texts.
        stretch: how the slower angles are slowed down further; None for not at all.
    """

    def __init__(self, width: int, base: float = 10000.0, stretch: Stretch | None = None) -> None:
        super().__init__()
        self.width, self.base, self.stretch = width, base, stretch

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (n,) or (B, n) -> cosines and sines, (n, d) or (B, 1, n, d) float32."""
        steps = torch.arange(0, self.width, 2, device=positions.device, dtype=torch.float32) / self.width
        speeds = self.base**-steps
        angles = positions[..., None].float() * (speeds if self.stretch is None else self.stretch(speeds))
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
        self.queries = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * kv_heads * self.head_width, bias=False)
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
        queries, both = (
            part(tokens).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in (self.queries, self.keys_values)
        )
        keys, values = both.chunk(2, 1)
        queries, keys = turn(queries, angles), turn(keys, angles)
        if past is not None:
            keys, values = past.extend(keys, values)
        shared = self.kv_heads != self.heads
        mixed = attend(queries, keys, values, visible, grouped=shared)
        return self.out(mixed.transpose(1, 2).flatten(2))
