"""CLIP's ResNet: three convolutions for a stem, strides by averaging, attention for pooling.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (2103.00020), §2.4;
what the paper leaves open as in the authors' code.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.convolution import ConvolutionNorm
from vitrail.nn.patches import pair, resize_positions

STRIDE = 32  # of the whole network
EXPANSION = 4  # of a bottleneck: He et al. 2016 (1512.03385), figure 5


@dataclass(frozen=True)
class CLIPResNetConfig:
    """The numbers of CLIP's ResNet; the defaults are RN50 (Table 19).

    Attributes:
        image_size: side, or (height, width), of the pictures it was trained on, in pixels.
        channels: channels of a picture.
        width: channels of the stem's output; the final feature map has 32 times as many.
        depths: bottlenecks in each of the four stages.
        heads: attention heads of the pooling.
    """

    image_size: int | tuple[int, int] = 224
    channels: int = 3
    width: int = 64
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    heads: int = 32

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the final feature map of a picture of `image_size`."""
        height, width = pair(self.image_size)
        return height // STRIDE, width // STRIDE

    @property
    def feature_width(self) -> int:
        """Channels of the final feature map."""
        return 8 * EXPANSION * self.width


class Bottleneck(nn.Module):
    """x + expand(filter(reduce(x))), He et al. 2016, figure 5; where there is a stride, both ways average over it.

    Averaging before subsampling keeps what is finer than the new grid out of it: Zhang 2019 (1904.11486).

    Args:
        channels: channels of the input.
        width: channels inside; a quarter of the output's.
        stride: how many times smaller the map becomes.
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.reduce = ConvolutionNorm(channels, width, act="relu")
        self.filter = ConvolutionNorm(width, width, 3, act="relu")
        self.average = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.expand = ConvolutionNorm(width, EXPANSION * width)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == EXPANSION * width
            else ConvolutionNorm(channels, EXPANSION * width)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width, H / stride, W / stride)."""
        branch = self.expand(self.average(self.filter(self.reduce(images))))
        return F.relu(branch + self.shortcut(self.average(images)), inplace=True)


class AttentionPooling(nn.Module):
    """One layer of attention whose only query is the mean over all places (§2.4).

    Args:
        width: D, channels of the feature map.
        heads: attention heads.
        out: E, the width of the vector that comes out.
        grid: rows and columns of the feature maps that the positions are learned for.
    """

    def __init__(self, width: int, heads: int, out: int, grid: tuple[int, int]) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} cannot be shared by {heads} heads")
        self.heads, self.grid = heads, grid
        self.positions = nn.Parameter(torch.empty(1 + grid[0] * grid[1], width))
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, out)
        nn.init.normal_(self.positions, std=width**-0.5)
        for linear in (self.query, self.key_value, self.out):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, E); for another grid the positions are interpolated."""
        grid = features.shape[2], features.shape[3]
        places = features.flatten(2).transpose(1, 2)
        mean, patches = self.positions[:1], self.positions[None, 1:]
        patches = resize_positions(patches, self.grid, grid, antialias=False)
        places = torch.cat([places.mean(1, keepdim=True) + mean, places + patches], dim=1)
        keys, values = self.key_value(places).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries = self.query(places[:, :1]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).flatten(1))

    def each(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, h × w, E): what comes out where attention stays at one place.

        That is MaskCLIP's classifier of every place: Zhou et al. 2022 (2112.01071), §3.2.
        """
        values = self.key_value(features.flatten(2).transpose(1, 2)).chunk(2, dim=-1)[1]
        return self.out(values)


class CLIPResNet(nn.Module):
    """The picture tower with convolutions: stem, four stages, attention pooling (§2.4).

    Args:
        config: its numbers.
        out: E, the width of the space it shares with the texts.
    """

    def __init__(self, config: CLIPResNetConfig, out: int) -> None:
        super().__init__()
        width = config.width
        self.stem = nn.Sequential(  # in place of ResNet's one of 7×7: He et al. 2019 (1812.01187), figure 2c
            ConvolutionNorm(config.channels, width // 2, 3, stride=2, act="relu"),
            ConvolutionNorm(width // 2, width // 2, 3, act="relu"),
            ConvolutionNorm(width // 2, width, 3, act="relu"),
            nn.AvgPool2d(2),
        )
        self.stages = nn.Sequential()
        channels = width
        for number, depth in enumerate(config.depths):
            stage = nn.Sequential()
            for position in range(depth):
                stage.append(Bottleneck(channels, width << number, stride=2 if number and not position else 1))
                channels = EXPANSION * width << number
            self.stages.append(stage)
        self.attention_pool = AttentionPooling(config.feature_width, config.heads, out, config.grid)
        for block in self.modules():
            if isinstance(block, Bottleneck):
                nn.init.zeros_(block.expand.norm.weight)  # a deep network starts near the identity

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in any float dtype -> the final feature map (B, 32 width, H / 32, W / 32) in the weights'."""
        return self.stages(self.stem(images.to(self.attention_pool.positions.dtype)))

    def pool(self, features: Tensor) -> Tensor:
        """The final feature map -> (B, E)."""
        return self.attention_pool(features)

    def patch_vectors(self, features: Tensor) -> Tensor:
        """The final feature map -> (B, h × w, E), row by row."""
        return self.attention_pool.each(features)
