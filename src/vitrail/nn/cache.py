"""What a network that reads from left to right remembers of what it has read."""

import torch
from torch import Tensor

_GROWTH = 64  # places that are added at once, beyond those that are needed


class KeyValues:
    """The keys and values of one attention layer.

    Without gradients they lie in a buffer with room for more, so that a step of decoding writes only its own.

    Args:
        keys: those of tokens read earlier, (B, heads, length, d); None for none.
        values: likewise.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self.length = 0 if keys is None else keys.shape[2]
        self._keys = keys
        self._values = values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of new tokens, (B, heads, n, d) each; gives all there are, (B, heads, length, d)."""
        old, self.length = self.length, self.length + keys.shape[2]
        # a buffer that is written to has no gradients, and a graph of texts of any length cannot know when it is full
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            if self._keys is not None and self._values is not None:
                keys = torch.cat([self._keys[:, :, :old], keys], 2)
                values = torch.cat([self._values[:, :, :old], values], 2)
            self._keys, self._values = keys, values
            return keys, values
        self._keys = _written(self._keys, old, keys)
        self._values = _written(self._values, old, values)
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def held(self) -> tuple[Tensor, Tensor]:
        """All keys and values, (B, heads, length, d) each; there must be some."""
        assert self._keys is not None
        assert self._values is not None
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def with_keys(self, keys: Tensor) -> Tensor:
        """All keys, with those of new tokens behind, which are not added."""
        return keys if self._keys is None else torch.cat([self._keys[:, :, : self.length], keys], 2)

    def select(self, rows: Tensor) -> None:
        """Keep these rows (R,) int64, in this order; one may be there several times."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows], self._values[rows]


class Cache:
    """The keys and values of all layers, which places hold something, and what a family keeps besides.

    Args:
        layers: how many attention layers there are.

    Attributes:
        layers: one `KeyValues` each.
        prefix: how many of the first places hold pictures and count for no position of the text.
        real: (B, length) bool, True where there is something; None where that is everywhere.
        memory: what new tokens look at besides, rows first: a Flamingo's pictures, say. `select` keeps it in step.
    """

    def __init__(self, layers: int) -> None:
        self.layers = [KeyValues() for _ in range(layers)]
        self.length = 0
        self.prefix = 0
        self.real: Tensor | None = None
        self.memory: dict[str, Tensor] = {}

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, prefix: int = 0) -> "Cache":
        """One that holds what `stacked` gave, (B, layers, heads, length, d) each, of which `prefix` is as it was."""
        cache = cls(0)
        cache.layers = [KeyValues(*layer) for layer in zip(keys.unbind(1), values.unbind(1), strict=True)]
        cache.length, cache.prefix = keys.shape[3], prefix
        return cache

    def stacked(self) -> tuple[Tensor, Tensor]:
        """The keys and the values of all layers, (B, layers, heads, length, d) each."""
        keys, values = zip(*(layer.held() for layer in self.layers), strict=True)
        return torch.stack(keys, 1), torch.stack(values, 1)

    def admit_prefix(self, count: int) -> None:
        """Make room for so many tokens of pictures, which all see each other; before any text."""
        self.length += count
        self.prefix += count

    def admit(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Make room for new tokens of text.

        Args:
            ids: (B, n) int64; only their number matters.
            mask: (B, n) bool, False where a shorter text of the batch is filled up, on its left; None for none.

        Returns:
            Their positions, (n,) or, with filling, (B, n) int64, from 0 behind the prefix; and what they see,
            bool (n, length) or (B, 1, n, length), or None where each sees everything.
        """
        rows, count = ids.shape
        old, self.length = self.length, self.length + count
        if self.real is not None or mask is not None:
            before = torch.ones(rows, old, dtype=torch.bool, device=ids.device) if self.real is None else self.real
            here = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
            self.real = torch.cat([before, here], 1)
        visible = None
        if count > 1:
            visible = torch.ones(count, self.length, dtype=torch.bool, device=ids.device).tril(old)
        if self.real is None:
            return torch.arange(old - self.prefix, self.length - self.prefix, device=ids.device), visible
        positions = self.real[:, self.prefix :].cumsum(1)[:, -count:] - 1
        seen = self.real[:, None, None] if visible is None else self.real[:, None, None] & visible
        itself = torch.eye(count, dtype=torch.bool, device=ids.device)  # or a row of filling would see nothing
        seen = torch.cat([seen[..., :old].expand(-1, -1, count, -1), seen[..., old:] | itself], -1)
        return positions.clamp(min=0), seen

    def select(self, rows: Tensor) -> None:
        """Keep these rows (R,) int64, in this order; one may be there several times."""
        for layer in self.layers:
            layer.select(rows)
        if self.real is not None:
            self.real = self.real[rows]
        self.memory = {name: kept[rows] for name, kept in self.memory.items()}


def _written(buffer: Tensor | None, start: int, new: Tensor) -> Tensor:
    """The buffer with new places (B, heads, n, d) from `start` on; a larger one where it has no room."""
    end = start + new.shape[2]
    if buffer is None or buffer.shape[2] < end:
        larger = new.new_empty(*new.shape[:2], end + _GROWTH + end // 2, new.shape[3])
        if buffer is not None:
            larger[:, :, :start] = buffer[:, :, :start]
        buffer = larger
    buffer[:, :, start:end] = new
    return buffer
