"""How words look at pictures: attention to something else, and the gate through which it comes in."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from vitrail.nn.attention import attend
from vitrail.nn.mlp import SwiGLU

KeysValues: TypeAlias = tuple[Tensor, Tensor]
"""What is attended to: keys and values, (B, heads, M, d) each."""


class CrossAttention(nn.Module):
    """softmax(Q Kᵀ / √d) V, where the queries come from some tokens and keys and values from others, without a bias.

    Vaswani et al. 2017 (1706.03762), §3.2.3. Keys and values are made apart from what asks, so that those of a picture
    are made once for a whole text.

    Args:
        width: D, the width of the tokens that ask.
        context_width: C, the width of those they look at.
        heads: how many heads ask.
        head_width: d, the width of a head.
        qk_norm: makes the norms of each head's queries and keys from their width d; None for none. Henry et al. 2020
            (2010.04245) norm them so, to keep the products small.
        out_bias: whether the projection behind the heads has a bias after all.
    """

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        head_width: int,
        *,
        qk_norm: Callable[[int], nn.Module] | None = None,
        out_bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(context_width, 2 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=out_bias)
        self.query_norm = nn.Identity() if qk_norm is None else qk_norm(head_width)
        self.key_norm = nn.Identity() if qk_norm is None else qk_norm(head_width)

    def look_at(self, context: Tensor) -> KeysValues:
        """Tokens (B, M, C) -> their keys and values."""
        keys, values = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.key_norm(keys), values

    def forward(self, tokens: Tensor, context: KeysValues, visible: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D).

        Args:
            tokens: those that ask.
            context: what they look at, as `look_at` gives it.
            visible: bool, True where something may be looked at, of a shape that broadcasts to (B, heads, N, M); None
                for everywhere. Every row must keep one.
        """
        queries = self.query_norm(self.query(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        keys, values = context
        mixed = attend(queries, keys, values, visible)
        return self.out(mixed.transpose(1, 2).flatten(2))


class GatedCrossAttention(nn.Module):
    """x + tanh(α) · attention(x, pictures), then x + tanh(β) · MLP(x). Alayrac et al. 2022 (2204.14198), figure 4.

    Both gates start at zero: put between the blocks of a language model, the layer changes nothing at first. Norms and
    the MLP are LLaMA's, as in IDEFICS (Laurençon et al. 2023, 2306.16527); the paper's MLP has squared ReLUs.

    Args:
        width: D, the width of a token of text.
        context_width: C, the width of a token of a picture.
        heads: attention heads.
        mlp_width: hidden width of the MLP.
        norm_eps: ε of the norms.
        qk_norm: whether each head's queries and keys are normed, too.
        gates: α and β are "one" number each, or have one for each of the "channels".
    """

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        mlp_width: int,
        *,
        norm_eps: float = 1e-6,
        qk_norm: bool = False,
        gates: Literal["one", "channels"] = "one",
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads")
        head_norm = partial(nn.RMSNorm, eps=norm_eps) if qk_norm else None
        self.norm1 = nn.RMSNorm(width, eps=norm_eps)
        self.attention = CrossAttention(width, context_width, heads, width // heads, qk_norm=head_norm)
        self.norm2 = nn.RMSNorm(width, eps=norm_eps)
        self.mlp = SwiGLU(width, mlp_width, bias=False)
        shape = (1,) if gates == "one" else (1, 1, width)
        self.gate1 = nn.Parameter(torch.zeros(shape))
        self.gate2 = nn.Parameter(torch.zeros(shape))

    def forward(
        self, tokens: Tensor, pictures: KeysValues | None, visible: Tensor | None = None, sees: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) -> (B, N, D).

        Args:
            tokens: of the text.
            pictures: what they look at, as `attention.look_at` gives it; None where there is none.
            visible: which tokens of the pictures each may look at, as `CrossAttention` takes it.
            sees: (B, N) bool, False where a token looks at nothing after all and only the MLP adds to it; None for
                nowhere.
        """
        if pictures is not None:
            looked = self.attention(self.norm1(tokens), pictures, visible)
            if sees is not None:
                looked = looked.masked_fill(~sees[..., None], 0.0)
            tokens = tokens + self.gate1.tanh() * looked
        return tokens + self.gate2.tanh() * self.mlp(self.norm2(tokens))
