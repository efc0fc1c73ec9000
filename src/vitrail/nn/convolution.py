"""The tiles of mobile convolutional networks: convolution with norm, squeeze-and-excitation, inverted residual."""

from functools import partial
from typing import Literal, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.activation import activation

Padding: TypeAlias = Literal["symmetric", "same", "trailing"]
"""What is put around the input of a strided convolution of kernel k:

- "symmetric": k // 2 on every side, PyTorch's habit;
- "same": the fewest zeros that do, the odd one at the bottom or right, TensorFlow's habit; it varies with the input;
- "trailing": k // 2 - 1 at the top and left, k // 2 at the bottom and right: what "same" comes to for stride 2 and an
  even input. (For an odd one it comes to "symmetric".)

⌈H / stride⌉ rows come out, but with "trailing" an odd H loses the last one. Without a stride the three are one.
"""


class Convolution(nn.Conv2d):
    """A square convolution without bias.

    Args:
        channels: channels of the input.
        width: channels of the output.
        kernel: side of the kernel k, odd.
        stride: step in rows and columns.
        groups: groups of channels that do not see each other; `channels` for a depthwise convolution.
        padding: what is put around the input where there is a stride.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "symmetric",
    ) -> None:
        self.outside: Padding = padding if stride > 1 else "symmetric"
        own = kernel // 2 if self.outside == "symmetric" else 0
        super().__init__(channels, width, kernel, stride, own, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ⌈H / stride⌉, ⌈W / stride⌉)."""
        if self.outside != "symmetric":
            rows, columns = self.margins(images)
            images = F.pad(images, (*columns, *rows))
        return super().forward(images)

    def margins(self, images: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """How many zeros are put before and behind the rows, and the columns, of pictures (B, C, H, W)."""
        return self._margins(images.shape[2]), self._margins(images.shape[3])

    def _margins(self, side: int) -> tuple[int, int]:
        """Zeros before and behind a row or column of `side` pixels."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if self.outside == "symmetric":
            return kernel // 2, kernel // 2
        if self.outside == "trailing":
            return kernel // 2 - 1, kernel // 2
        zeros = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return zeros // 2, zeros - zeros // 2


class ConvolutionNorm(nn.Module):
    """A convolution, batch normalisation (Ioffe and Szegedy 2015, 1502.03167) and an activation.

    Args:
        channels: channels of the input.
        width: channels of the output.
        kernel: side of the kernel.
        stride: step in rows and columns.
        groups: groups of channels that do not see each other.
        padding: what is put around the input where there is a stride.
        act: the nonlinearity, a name of `vitrail.nn.activation`; None for a linear layer.
        norm_eps: ε of the norm.
        norm_momentum: how far the running statistics move towards a batch's.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "symmetric",
        act: str | None = None,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.convolution = Convolution(channels, width, kernel, stride=stride, groups=groups, padding=padding)
        self.norm = nn.BatchNorm2d(width, eps=norm_eps, momentum=norm_momentum)
        self.act = nn.Identity() if act is None else activation(act)
        if isinstance(self.act, nn.SiLU | nn.ReLU | nn.ReLU6):
            self.act.inplace = True  # nobody else reads the norm's output, and large maps are bound by memory

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return self.act(self.norm(self.convolution(images)))


class SqueezeExcite(nn.Module):
    """Weigh each channel by what the whole picture says: x σ(W₂ δ(W₁ mean(x))). Hu et al. 2018 (1709.01507), eq. 2-4.

    Args:
        width: channels C.
        hidden: width of the bottleneck, C / r in the paper.
        act: δ, a name of `vitrail.nn.activation`.
    """

    def __init__(self, width: int, hidden: int, *, act: str = "relu") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)  # linear maps of a 1×1 picture
        self.act = activation(act)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        squeezed = images.mean((2, 3), keepdim=True)
        return images * self.expand(self.act(self.reduce(squeezed))).sigmoid()


class StochasticDepth(nn.Module):
    """Leave a residual branch out, for some pictures of a batch, while training. Huang et al. 2016 (1603.09382), eq. 2.

    The branch is scaled up where it stays, so that evaluation leaves it as it is; the paper scales it down there.

    Args:
        drop: probability that a picture goes without the branch.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or not self.drop:
            return branch
        kept = branch.new_empty(len(branch), *[1] * (branch.dim() - 1)).bernoulli_(1 - self.drop)
        return branch * (kept / (1 - self.drop))


class InvertedResidual(nn.Module):
    """MBConv: expand, filter each channel, squeeze and excite, project. Sandler et al. 2018 (1801.04381), Table 1.

    Between two thin tensors the work is done in a wide one; the projection is linear. Squeeze and excitation stand
    where Tan et al. 2019 (1807.11626) put them. Without expansion this is a depthwise separable convolution, §3.1.

    Args:
        channels: channels of the input.
        width: channels of the output.
        kernel: side of the depthwise kernel.
        stride: step of the depthwise convolution.
        expansion: t, how many times wider the inside is than the input; 1 for no expansion.
        squeeze: width of the squeeze-and-excitation's bottleneck; 0 for none.
        shortcut: whether the input is added to the output; both have the same shape then.
        drop: probability of leaving the branch out beside the shortcut, while training.
        padding: what is put around the depthwise convolution's input where there is a stride.
        act: the nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the norms.
        norm_momentum: how far their running statistics move towards a batch's.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        expansion: int = 6,
        squeeze: int = 0,
        shortcut: bool = False,
        drop: float = 0.0,
        padding: Padding = "symmetric",
        act: str = "relu6",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if shortcut and (stride > 1 or channels != width):
            raise ValueError(f"a block from {channels} to {width} channels with stride {stride} has no shortcut")
        layer = partial(ConvolutionNorm, norm_eps=norm_eps, norm_momentum=norm_momentum)
        inside = channels * expansion
        self.expand = nn.Identity() if expansion == 1 else layer(channels, inside, act=act)
        self.depthwise = layer(inside, inside, kernel, stride=stride, groups=inside, padding=padding, act=act)
        self.excite = SqueezeExcite(inside, squeeze, act=act) if squeeze else nn.Identity()
        self.project = layer(inside, width)
        self.drop = StochasticDepth(drop)
        self.shortcut = shortcut

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ⌈H / stride⌉, ⌈W / stride⌉)."""
        branch = self.project(self.excite(self.depthwise(self.expand(images))))
        return images + self.drop(branch) if self.shortcut else branch
