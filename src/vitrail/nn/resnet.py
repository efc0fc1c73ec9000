"""The tiles of the networks that make pictures: residual block, half and double the side, attention over the pixels.

Ho et al. 2020 (2006.11239), appendix B, cut them for diffusion; the autoencoders of latent diffusion (Rombach et al.
2022, 2112.10752) are made of the same.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attention import Attention
from vitrail.nn.norm import GroupNorm


class ResidualBlock(nn.Module):
    """x + conv₂(SiLU(norm₂(conv₁(SiLU(norm₁(x))) + W SiLU(time)))). Ho et al. 2020 (2006.11239), appendix B.

    With `scale_shift` the time speaks after the second norm and not before: norm₂(h) (1 + s) + b, where [s, b] is
    W SiLU(time): the adaptive group norm of Dhariwal and Nichol 2021 (2105.05233), §3.

    Args:
        in_channels: C, channels of the input.
        out_channels: D, channels of the output.
        time_width: width T of the time's embedding; None for a block that is told no time.
        groups: groups of channels of the norms; divides C.
        out_groups: those of the second norm, where they are others; divides D.
        eps: ε of both norms.
        scale_shift: whether the time scales and shifts, rather than being added.
        output_scale: what the sum with the shortcut is divided by: √2 keeps its variance (Song et al. 2021,
            2011.13456, appendix H).
        dropout: probability that an entry is dropped before the second convolution, while training.
        resize: halves or doubles the side of both the branch, before its first convolution, and the shortcut:
            (B, C, H, W) -> (B, C, H', W'), without weights. None leaves the side as it is.
        shortcut: whether the shortcut is a 1×1 convolution; None where the number of channels changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_width: int | None = None,
        groups: int = 32,
        out_groups: int | None = None,
        eps: float = 1e-6,
        scale_shift: bool = False,
        output_scale: float = 1.0,
        dropout: float = 0.0,
        resize: nn.Module | None = None,
        shortcut: bool | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.output_scale = output_scale
        self.norm1 = GroupNorm(groups, in_channels, eps=eps)
        self.resize = nn.Identity() if resize is None else resize
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = None if time_width is None else nn.Linear(time_width, out_channels * (2 if scale_shift else 1))
        self.norm2 = GroupNorm(out_groups or groups, out_channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        projects = in_channels != out_channels if shortcut is None else shortcut
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if projects else nn.Identity()

    def forward(self, images: Tensor, time: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and (B, T) where the block is told the time -> (B, D, H', W')."""
        branch = self.conv1(self.resize(silu(self.norm1(images))))
        if self.time is None or time is None:
            branch = self.norm2(branch)
        elif self.scale_shift:
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            branch = self.norm2(branch) * (1 + scale) + shift
        else:
            branch = self.norm2(branch + self.time(F.silu(time))[:, :, None, None])
        branch = self.conv2(self.dropout(silu(branch)))
        return _divided(self.shortcut(self.resize(images)) + branch, self.output_scale)


class Downsample(nn.Module):
    """Half the side, by a 3×3 convolution with stride 2.

    Args:
        channels: C, channels of the input.
        out_channels: D, channels of the output; None for as many.
        padding: where the zeros stand around the picture: "symmetric", one on every side, as in diffusion's networks;
            "trailing", one at the right and one at the bottom, as in latent diffusion's autoencoders. An odd side
            gives ⌈H / 2⌉ with the first and ⌊H / 2⌋ with the second.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        padding: Literal["symmetric", "trailing"] = "symmetric",
    ) -> None:
        super().__init__()
        self.trailing = padding == "trailing"
        width = channels if out_channels is None else out_channels
        self.convolution = nn.Conv2d(channels, width, 3, stride=2, padding=0 if self.trailing else 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H / 2, W / 2)."""
        return self.convolution(F.pad(images, (0, 1, 0, 1)) if self.trailing else images)


class Upsample(nn.Module):
    """Double the side: every pixel four times, then a 3×3 convolution.

    Args:
        channels: C, channels of the input.
        out_channels: D, channels of the output; None for as many.
    """

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels if out_channels is None else out_channels, 3, padding=1)

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, 2 H, 2 W).

        Args:
            images: (B, C, H, W).
            size: (height, width) of the output, where it is to meet a picture whose odd side was halved.
        """
        return self.convolution(F.interpolate(images, size=size or (2 * images.shape[2], 2 * images.shape[3])))


class SpatialAttention(nn.Module):
    """x + MSA(norm(x)) with a token a pixel. Ho et al. 2020 (2006.11239), appendix B.

    Args:
        channels: C, channels of the picture and width of its tokens.
        heads: attention heads; divides C.
        groups: groups of channels of the norm; divides C.
        eps: ε of the norm.
        output_scale: what the sum with the shortcut is divided by.
    """

    def __init__(
        self, channels: int, heads: int = 1, *, groups: int = 32, eps: float = 1e-6, output_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.output_scale = output_scale
        self.norm = GroupNorm(groups, channels, eps=eps)
        self.attention = Attention(channels, heads)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        tokens = self.norm(images).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens).transpose(1, 2).unflatten(2, images.shape[2:])
        return _divided(images + mixed, self.output_scale)


def silu(images: Tensor) -> Tensor:
    """SiLU of a norm's output, which nobody else reads: in its place where nothing is learned, for large maps."""
    return F.silu(images, inplace=not images.requires_grad)


def _divided(images: Tensor, scale: float) -> Tensor:
    """The division, left out where it does nothing: large maps are bound by memory."""
    return images if scale == 1 else images / scale
