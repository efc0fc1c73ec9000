"""The transformer block: pre-norm, of ViT and its descendants, and post-norm, of the first transformers."""

import torch
from torch import Tensor, nn

from vitrail.nn.attention import Attention
from vitrail.nn.cache import KeyValues


class LayerScale(nn.Module):
    """A learned gain for each channel, small at first so that deep networks start near the identity.

    Touvron et al. 2021 (2103.17239), eq. 4.
    """

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), initial))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return tokens * self.gain


class Block(nn.Module):
    """x + MSA(LN(x)), then x + MLP(LN(x)). Dosovitskiy et al. 2021 (2010.11929), eq. 2 and 3.

    Args:
        width: D, the width of a token.
        heads: attention heads.
        mlp: the position-wise half, (B, N, D) -> (B, N, D).
        norm_eps: ε of both layer norms.
        qkv_bias: whether queries, keys and values have a bias.
        layer_scale: initial gain of a LayerScale behind each half; None for none.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: nn.Module,
        *,
        norm_eps: float = 1e-6,
        qkv_bias: bool = True,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, qkv_bias=qkv_bias)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = mlp
        self.scale2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, causal: bool = False, past: KeyValues | None = None
    ) -> Tensor:
        """(B, N, D) -> (B, N, D); `mask`, `causal` and `past` as `Attention` takes them."""
        tokens = tokens + self.scale1(self.attention(self.norm1(tokens), mask, causal, past))
        return tokens + self.scale2(self.mlp(self.norm2(tokens)))


class PostNormBlock(nn.Module):
    """LN(x + MSA(x)), then LN(x + MLP(x)). Vaswani et al. 2017 (1706.03762), §3.1; Devlin et al. 2019 (1810.04805).

    Args:
        width: D, the width of a token.
        heads: attention heads.
        mlp: the position-wise half, (B, N, D) -> (B, N, D).
        norm_eps: ε of both layer norms.
    """

    def __init__(self, width: int, heads: int, mlp: nn.Module, *, norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = mlp
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, causal: bool = False, past: KeyValues | None = None
    ) -> Tensor:
        """(B, N, D) -> (B, N, D); `mask`, `causal` and `past` as `Attention` takes them."""
        tokens = self.norm1(tokens + self.attention(tokens, mask, causal, past))
        return self.norm2(tokens + self.mlp(tokens))
