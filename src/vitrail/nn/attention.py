"""Multi-head attention, and a way to watch it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.cache import KeyValues

_SCORES_AT_ONCE = 2**25  # of all heads together, 64 megabytes: with 2^28 the fused function was the faster


class Attention(nn.Module):
    """Multi-head self-attention: softmax(Q Kᵀ / √d) V in every head. Vaswani et al. 2017 (1706.03762), §3.2.

    Queries, keys and values come from one product; the softmax is fused with both of its products, so the (N, N)
    weights are never stored. `weights` computes them for those who want to look.

    Args:
        width: D, the width of a token.
        heads: how many heads share it; must divide `width`.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, causal: bool = False, past: KeyValues | None = None
    ) -> Tensor:
        """(B, N, D) -> (B, N, D).

        Args:
            tokens: (B, N, D).
            mask: bool, True where a token may be attended to, of any shape that broadcasts to (B, heads, N, N):
                (B, 1, 1, N) hides the filling behind short texts. Every row must keep one token.
            causal: whether a token sees only itself and those before it (§3.2.3).
            past: the keys and values of tokens read earlier, which these see too and are added to. `mask` is then of
                a shape that broadcasts to (B, heads, N, past and N), and `causal` is said by it.
        """
        queries, keys, values = self._split(tokens)
        if past is not None:
            keys, values = past.extend(keys, values)
        if causal and mask is not None:
            mask, causal = mask & _causal_mask(tokens), False  # the fused product takes one or the other
        mixed = attend(queries, keys, values, mask, causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(
        self, tokens: Tensor, mask: Tensor | None = None, causal: bool = False, past: KeyValues | None = None
    ) -> Tensor:
        """How much each token attends to each other: (B, N, D) -> (B, heads, N, N), float32, rows that sum to 1.

        With a `past` there are more columns: the tokens read earlier, and then these.
        """
        queries, keys, _ = self._split(tokens)
        if past is not None:
            keys = past.with_keys(keys)
        scores = queries.float() @ keys.float().transpose(-1, -2) / queries.shape[-1] ** 0.5
        return _softmax(scores, mask, causal)

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> three of (B, heads, N, D / heads)."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return queries, keys, values


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    grouped: bool = False,
) -> Tensor:
    """PyTorch's fused softmax(Q Kᵀ / √d) V, but for what it is slow with: bfloat16 on a CPU.

    A product with a single row of bfloat16 took three times as long there as the same in float32, and twice to three
    times as long as with two rows; where texts are written every product is of that kind. And with many rows the fused
    function took twice as long as its two products one after the other, whose scores, rounded to bfloat16, put the
    result as far from float32 again as rounding the inputs did. Where the scores outgrow the caches, it is the faster.
    Where gradients are wanted, forwards and backwards take it 1.2 to 7 times as long as the two products, and 3 times
    as long where it does not fuse, for scores in float32.

    Args:
        queries: (B, heads, n, d).
        keys: (B, heads, m, d).
        values: (B, heads, m, d).
        mask: bool, broadcast to (B, heads, n, m), True where a query sees a key.
        causal: whether a query sees only the keys up to its own place.
        grouped: whether there may be fewer keys and values than heads, each of which serves several.

    Returns:
        (B, heads, n, d).
    """
    if grouped and torch.compiler.is_exporting():  # other programs know no keys that several heads share
        of = torch.arange(queries.shape[1], device=keys.device) // (queries.shape[1] // keys.shape[1])
        keys, values, grouped = keys[:, of], values[:, of], False
    half = queries.dtype == torch.bfloat16 and queries.device.type == "cpu"
    single = half and queries.shape[2] == 1
    if half and not single and not grouped and (torch.is_grad_enabled() or _few(queries, keys, mask, causal)):
        keys = keys.contiguous()  # one head's after the other's, which the product would do itself, and slowly
        return _softmax(queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2), mask, causal) @ values
    if single:
        queries, keys, values = queries.float(), keys.float(), values.float()
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
    return mixed.bfloat16() if single else mixed


def _softmax(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scores (B, heads, n, m) -> weights, which are 0 where the mask, or the order, hides a key from a query."""
    if causal:
        scores = scores.masked_fill(~_causal_mask(scores), float("-inf"))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1)


def _few(queries: Tensor, keys: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether the scores are of all pairs, and not too many to be written down."""
    return mask is None and not causal and queries.shape[:3].numel() * keys.shape[2] <= _SCORES_AT_ONCE


def _causal_mask(tokens: Tensor) -> Tensor:
    """(N, N), True at and below the diagonal, for tokens or scores (…, N, D)."""
    return torch.ones(tokens.shape[-2], tokens.shape[-2], dtype=torch.bool, device=tokens.device).tril()


@contextmanager
def watch_attention(model: nn.Module, *, heads: bool = True) -> Iterator[list[Tensor]]:
    """Collect the attention weights of every self-attention of `model`, in the order they run.

    `with watch_attention(model) as weights: model(images)` leaves one (B, heads, N, N) float32 tensor a layer in
    `weights`.

    Args:
        model: any network cut from `Attention` tiles.
        heads: keep each head's weights; False keeps only their mean, (B, 1, N, N), in so many times less memory.
    """
    collected: list[Tensor] = []

    def collect(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        assert isinstance(module, Attention)
        with torch.no_grad():
            weights = module.weights(*arguments, **named)
            collected.append(weights if heads else weights.mean(1, keepdim=True))

    hooks = [
        module.register_forward_pre_hook(collect, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, Attention)
    ]
    try:
        yield collected
    finally:
        for hook in hooks:
            hook.remove()
