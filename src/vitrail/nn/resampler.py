"""From a picture's many tokens, however many, to a few."""

import torch
from torch import Tensor, nn

from vitrail.nn.gated import CrossAttention


class Resampler(nn.Module):
    """The Perceiver resampler: learned latents look at a picture, and at each other, and become its tokens.

    Alayrac et al. 2022 (2204.14198), §2.1 and figure 5, for pictures: it has no embeddings of a video's times. The last
    norm, which figure 5 does not have, and the plain ReLUs are IDEFICS' (Laurençon et al. 2023, 2306.16527).

    Args:
        width: C, the width of the picture's tokens and of the latents.
        latents: how many tokens a picture becomes.
        depth: how many times they look.
        heads: attention heads.
        head_width: the width of a head.
        qk_norm: whether each head's queries and keys are normed; IDEFICS' are, the paper's not.
    """

    def __init__(
        self, width: int, latents: int, depth: int, heads: int, head_width: int, *, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(latents, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(ResamplerBlock(width, heads, head_width, qk_norm=qk_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor) -> Tensor:
        """Tokens of a picture (B, N, C) -> (B, latents, C)."""
        latents = self.latents.expand(picture.shape[0], -1, -1)
        for block in self.blocks:
            latents = block(latents, picture)
        return self.norm(latents)


class ResamplerBlock(nn.Module):
    """x + attention(x, [picture; x]), then x + MLP(x) (figure 5); an MLP four times as wide, without bias."""

    def __init__(self, width: int, heads: int, head_width: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.picture_norm = nn.LayerNorm(width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = CrossAttention(width, width, heads, head_width, qk_norm=nn.LayerNorm if qk_norm else None)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, latents: Tensor, picture: Tensor) -> Tensor:
        """Latents (B, M, C) and a picture's tokens (B, N, C) -> (B, M, C)."""
        normed = self.norm1(latents)
        seen = self.attention.look_at(torch.cat([self.picture_norm(picture), normed], 1))
        latents = latents + self.attention(normed, seen)
        return latents + self.down(self.up(self.norm2(latents)).relu())
