"""A diffusion transformer that reads a text: DiT with the text's tokens to attend to and its vector to be steered by.

Peebles and Xie 2022 (2212.09748), §3.2, for the blocks; the cross-attention behind each self-attention is PixArt-α's,
Chen et al. 2023 (2310.00426), §2.3.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from vitrail.nn.attention import Attention
from vitrail.nn.gated import CrossAttention
from vitrail.nn.mlp import MLP
from vitrail.nn.modulation import ModulatedOutput, Modulation, modulate, unpatchify
from vitrail.nn.patches import PatchEmbedding
from vitrail.nn.positions import sincos_positions
from vitrail.nn.time import TimeMLP, sinusoids

_FREQUENCIES = 256  # numbers that stand for a time


@dataclass(frozen=True)
class TextDiTConfig:
    """The numbers of a diffusion transformer that reads texts.

    Attributes:
        grid: side, in latents, of what it denoises.
        channels: C, of a latent.
        patch_size: latents to a token, along a side.
        width: D, the width of a token.
        depth: blocks.
        heads: attention heads.
        mlp_width: width within the MLPs.
        text_width: width of a text's tokens.
        vector_width: width of a text's vector.
    """

    grid: int = 8
    channels: int = 16
    patch_size: int = 2
    width: int = 256
    depth: int = 6
    heads: int = 4
    mlp_width: int = 1024
    text_width: int = 192
    vector_width: int = 192

    def __post_init__(self) -> None:
        if not self.patch_size or self.grid % self.patch_size:
            raise ValueError(f"a grid of {self.grid} latents is not cut into patches of {self.patch_size}")

    @property
    def opening(self) -> int:
        """How many blocks come first that see every token in training, too: a third of them."""
        return max(1, self.depth // 3)


class TextBlock(nn.Module):
    """A DiT block (figure 3) with attention to a text between its halves, which starts as if it were not there."""

    def __init__(self, config: TextDiTConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.modulation = Modulation(width, width, 6)
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.norm_text = nn.LayerNorm(width, eps=1e-6)
        self.reading = CrossAttention(width, config.text_width, heads, width // heads, qk_norm=nn.LayerNorm)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = MLP(width, config.mlp_width, act="gelu_tanh")
        nn.init.zeros_(self.reading.out.weight)

    def forward(self, tokens: Tensor, condition: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, N, D), condition (B, D), a text's tokens (B, M, E), which of them count (B, 1, 1, M)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)
        tokens = tokens + gate1 * self.attention(modulate(self.norm1(tokens), shift1, scale1))
        tokens = tokens + self.reading(self.norm_text(tokens), self.reading.look_at(text), mask)
        return tokens + gate2 * self.mlp(modulate(self.norm2(tokens), shift2, scale2))


class TextDiT(nn.Module):
    """Noisy latents, a time and a text -> the velocity of the flow from the picture to the noise."""

    def __init__(self, config: TextDiTConfig) -> None:
        super().__init__()
        self.config = config
        side = config.grid // config.patch_size
        self.patchify = PatchEmbedding((config.patch_size, config.patch_size), config.channels, config.width)
        self.positions = nn.Parameter(sincos_positions((side, side), config.width))
        self.time = TimeMLP(_FREQUENCIES, config.width)
        self.vector = TimeMLP(config.vector_width, config.width)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.out = ModulatedOutput(config.width, config.patch_size**2 * config.channels)

    def forward(
        self,
        latents: Tensor,
        time: Tensor,
        text: Tensor,
        mask: Tensor,
        vector: Tensor,
        kept: Tensor | None = None,
    ) -> Tensor:
        """What the noise has that the picture has not, n - x0.

        Args:
            latents: (1 - s) x0 + s n, (B, C, h, w).
            time: 1000 s, (B,), 0 for pictures and 1000 for noise.
            text: a text's tokens, (B, M, E).
            mask: which of them count, (B, M) bool; one at least.
            vector: the text's vector, (B, V).
            kept: in training, the numbers (B, K) of the latents' tokens that go through all blocks; the others pass by
                those between the first third and the last block, and so cost less (TREAD, Krause et al. 2025,
                2501.04765, §3.2).

        Returns:
            (B, C, h, w).
        """
        side = self.config.grid // self.config.patch_size
        tokens = self.patchify(latents) + self.positions
        condition = self.time(sinusoids(time, _FREQUENCIES)) + self.vector(vector)
        mask, every = mask[:, None, None], tokens
        first, last = self.config.opening, self.config.depth - 1
        for number, block in enumerate(self.blocks):
            if kept is not None and number == first:
                every, tokens = tokens, tokens.gather(1, _each(kept, tokens))
            if kept is not None and number == last:
                tokens = every.scatter(1, _each(kept, every), tokens.to(every.dtype))
            tokens = block(tokens, condition, text, mask)
        return unpatchify(self.out(tokens, condition), (side, side), self.config.patch_size)


def _each(kept: Tensor, tokens: Tensor) -> Tensor:
    """Tokens' numbers (B, K) for each number of tokens (B, N, D): (B, K, D)."""
    return kept[..., None].expand(-1, -1, tokens.shape[2])
