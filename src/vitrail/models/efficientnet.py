"""EfficientNet: one small network, found by search, made larger in depth, width and resolution at once.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019 (1905.11946).
EfficientNet-Lite is the authors' variant for phones, published with their code (tensorflow/tpu, efficientnet/lite).
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.nn.convolution import ConvolutionNorm, InvertedResidual, Padding
from vitrail.nn.patches import pair


class Stage(NamedTuple):
    """One row of Table 1: `layers` inverted residuals, of which the first has the stride.

    Attributes:
        kernel: side of the depthwise kernels.
        stride: step of the first block.
        expansion: how many times wider a block is inside than its input.
        width: channels of its output, C.
        layers: number of blocks, L.
    """

    kernel: int
    stride: int
    expansion: int
    width: int
    layers: int


BASELINE = (  # Table 1, stages 2 to 8: EfficientNet-B0
    Stage(kernel=3, stride=1, expansion=1, width=16, layers=1),
    Stage(kernel=3, stride=2, expansion=6, width=24, layers=2),
    Stage(kernel=5, stride=2, expansion=6, width=40, layers=2),
    Stage(kernel=3, stride=2, expansion=6, width=80, layers=3),
    Stage(kernel=5, stride=1, expansion=6, width=112, layers=3),
    Stage(kernel=5, stride=2, expansion=6, width=192, layers=4),
    Stage(kernel=3, stride=1, expansion=6, width=320, layers=1),
)
STEM_WIDTH, HEAD_WIDTH = 32, 1280  # Table 1, stages 1 and 9

_NORM_MOMENTUM = 0.01  # §5.2 says 0.99 and means what stays; PyTorch means what comes


@dataclass(frozen=True)
class EfficientNetConfig:
    """The numbers of an EfficientNet; the defaults are B0.

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels. Others will do.
        channels: channels of a picture.
        width: the width coefficient w of eq. 3, which multiplies the channels of every stage.
        depth: the depth coefficient d, which multiplies the layers of every stage.
        stages: the network that is scaled.
        scale_ends: False in the Lite networks: stem and head keep their width, the first and last stage their layers.
        squeeze: width of the squeeze-and-excitations as a fraction of their block's input; 0 for none (Lite).
        classes: outputs of the head; 0 for a network without one, whose output is the pooled vector.
        activation: the nonlinearity, a name of `vitrail.nn.activation`: silu, relu6 in the Lite networks.
        norm_eps: ε of the batch norms.
        padding: "same" as in the paper's code and timm's tf_efficientnet, "symmetric" as in timm's efficientnet, or
            "fixed" to what "same" comes to at one size of picture, whatever the size, as in transformers.
        odd_blocks: where padding is fixed, the blocks (counted from 0) that are padded as for an odd input.
        dropout: share of the pooled vector that is dropped while training (§5.2).
        drop_path: probability that the last block is left out while training; it grows linearly over the blocks (§5.2).
    """

    image_size: int | tuple[int, int] = 224
    channels: int = 3
    width: float = 1.0
    depth: float = 1.0
    stages: tuple[Stage, ...] = BASELINE
    scale_ends: bool = True
    squeeze: float = 0.25
    classes: int = 1000
    activation: str = "silu"
    norm_eps: float = 1e-3
    padding: Literal["same", "symmetric", "fixed"] = "same"
    odd_blocks: tuple[int, ...] = ()
    dropout: float = 0.2
    drop_path: float = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(Stage(*stage) for stage in self.stages))  # JSON knows no named tuples
        for stage in self.stages:
            if not all(isinstance(number, int) and number > 0 for number in stage):
                raise ValueError(f"a stage is {tuple(stage)}, not five whole numbers above zero")

    @property
    def stem_width(self) -> int:
        """Channels after the stem."""
        return scale_width(STEM_WIDTH, self.width) if self.scale_ends else STEM_WIDTH

    @property
    def head_width(self) -> int:
        """Channels of the final feature map."""
        return scale_width(HEAD_WIDTH, self.width) if self.scale_ends else HEAD_WIDTH

    @property
    def scaled_stages(self) -> tuple[Stage, ...]:
        """The stages with widths and layers as they are built (eq. 3)."""
        scaled = []
        for number, stage in enumerate(self.stages):
            end = number in (0, len(self.stages) - 1)
            layers = stage.layers if end and not self.scale_ends else math.ceil(self.depth * stage.layers)
            scaled.append(stage._replace(width=scale_width(stage.width, self.width), layers=layers))
        return tuple(scaled)

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of every block."""
        return tuple(stage.stride if layer == 0 else 1 for stage in self.scaled_stages for layer in range(stage.layers))


def scale_width(channels: int, coefficient: float) -> int:
    """w · C to the nearest multiple of 8 that is not more than a tenth below it, as the paper's code rounds."""
    exact = channels * coefficient
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


class EfficientNet(Model):
    """A stem, seven stages of inverted residuals, a pointwise convolution (Table 1), scaled by eq. 3.

    Blocks that repeat the one before them have a shortcut. The paper's code asks for equal shapes instead, which is the
    same thing unless w is below a half; there transformers, too, asks for a repetition.
    """

    family: ClassVar[str] = "efficientnet"
    entries: ClassVar[tuple[str, ...]] = ("features",)
    config: EfficientNetConfig

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        act, eps, momentum = config.activation, config.norm_eps, _NORM_MOMENTUM
        layer = partial(ConvolutionNorm, act=act, norm_eps=eps, norm_momentum=momentum)
        block = partial(InvertedResidual, act=act, norm_eps=eps, norm_momentum=momentum)
        width, number, count = config.stem_width, 0, len(config.strides)
        self.stem = layer(config.channels, width, 3, stride=2, padding=_padding(config, odd=False))
        self.stages = nn.Sequential()
        for stage in config.scaled_stages:
            blocks = nn.Sequential()
            for position in range(stage.layers):
                blocks.append(
                    block(
                        width,
                        stage.width,
                        stage.kernel,
                        stride=stage.stride if position == 0 else 1,
                        expansion=stage.expansion,
                        squeeze=max(1, int(width * config.squeeze)) if config.squeeze else 0,
                        shortcut=position > 0,
                        drop=config.drop_path * number / count,
                        padding=_padding(config, odd=number in config.odd_blocks),
                    )
                )
                width, number = stage.width, number + 1
            self.stages.append(blocks)
        self.top = layer(width, config.head_width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.head_width, config.classes) if config.classes else nn.Identity()
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes), or the pooled vector (B, D) where there is no head."""
        return self.head(self.dropout(self.pool(self.features(images))))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in any float dtype -> the final feature map (B, D, ⌈H / 32⌉, ⌈W / 32⌉) in the weights'.

        H and W may be anything; with fixed padding a side that comes out odd on the way down may lose its last row.
        """
        return self.top(self.stages(self.stem(images.to(self.stem.convolution.weight.dtype))))

    def pool(self, features: Tensor) -> Tensor:
        """The final feature map (B, D, h, w) -> one vector a picture (B, D): its mean (Table 1, stage 9)."""
        return features.mean((2, 3))


def initialise(module: nn.Module) -> None:
    """Start as the paper's code does: convolutions from N(0, 2 / fan out), the head from U(±1/√classes), biases at 0.

    The fan out of a depthwise convolution is that of one of its channels.
    """
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def odd_blocks(config: EfficientNetConfig) -> tuple[int, ...] | None:
    """The `odd_blocks` for which fixed padding is "same" padding on pictures of the config's size.

    None where there are none such: the stem, too, is padded as for an even input, and height and width as one.
    """
    sides = pair(config.image_size)
    odd = []
    for number, stride in enumerate((2, *config.strides)):
        parities = {side % 2 for side in sides}
        if stride == 2 and (len(parities) > 1 or (number == 0 and parities == {1})):
            return None
        if stride == 2 and parities == {1}:
            odd.append(number - 1)
        sides = (-(-sides[0] // stride), -(-sides[1] // stride))
    return tuple(odd)


def repadded(model: EfficientNet, padding: Literal["same", "fixed"]) -> EfficientNet:
    """The same weights with "same" padding instead of fixed, or the other way: one function, on pictures of its size.

    The model itself where it is padded so already, or where its padding has no counterpart.
    """
    config = model.config
    odd = odd_blocks(config)
    if {config.padding, padding} != {"same", "fixed"} or odd is None:
        return model
    if padding == "same":
        strided = tuple(number for number in sorted(config.odd_blocks) if config.strides[number] > 1)
        if strided != odd:
            return model
    with torch.device("meta"):
        changed = EfficientNet(replace(config, padding=padding, odd_blocks=odd if padding == "fixed" else ()))
    changed.load_state_dict(model.state_dict(), assign=True)
    changed.preprocess, changed.labels, changed.origin = model.preprocess, model.labels, model.origin
    return changed.train(model.training)


def _padding(config: EfficientNetConfig, *, odd: bool) -> Padding:
    """How one of the network's convolutions is padded."""
    if config.padding == "fixed":
        return "symmetric" if odd else "trailing"
    return config.padding
