"""DiT: a transformer in place of the U-Net.

Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023 (2212.09748), §3.2 and figure 3.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.nn.mlp import MLP
from vitrail.nn.modulation import ModulatedBlock, ModulatedOutput, unpatchify
from vitrail.nn.patches import PatchEmbedding, pair, patch_grid
from vitrail.nn.positions import sincos_positions
from vitrail.nn.time import TimeMLP, sinusoids

WAVES = 256  # sines and cosines of the time, in every published size


@dataclass(frozen=True)
class DiTConfig:
    """The numbers of a DiT; the defaults are DiT-XL/2 (Table 1), on latents of 32×32.

    Attributes:
        image_size: side, or (height, width), of the pictures it is trained on, in pixels: of the latents, mostly, a
            picture of 256 pixels being one of 32 there. Others will do.
        patch_size: side of a patch, in pixels.
        channels: channels of a picture.
        width: D, the width of a token.
        depth: the number of blocks.
        heads: attention heads in a block.
        classes: what can be asked for, each by its number; one more label stands for no class, for classifier-free
            guidance (§3.1).
        variance: whether a variance comes out beside the noise, in as many channels again (§3.1).
        norm_eps: ε of the norm before a block's MLP; the other norms have 1e-6.
        qkv_bias: whether queries, keys and values have a bias.
    """

    image_size: int | tuple[int, int] = 32
    patch_size: int = 2
    channels: int = 4
    width: int = 1152
    depth: int = 28
    heads: int = 16
    classes: int = 1000
    variance: bool = True
    norm_eps: float = 1e-5
    qkv_bias: bool = True

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches in a picture of `image_size`."""
        return patch_grid(self.image_size, self.patch_size)


class DiT(Model):
    """Patches of a noisy picture as tokens; time and class steer the norms of every block (adaLN-Zero)."""

    family: ClassVar[str] = "dit"
    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patchify = PatchEmbedding(pair(config.patch_size), config.channels, width)
        self.time = TimeMLP(WAVES, width)
        self.classes = nn.Embedding(config.classes + 1, width)
        self.blocks = nn.ModuleList(
            ModulatedBlock(
                width,
                config.heads,
                MLP(width, 4 * width, act="gelu_tanh"),
                norm_eps=config.norm_eps,
                qkv_bias=config.qkv_bias,
            )
            for _ in range(config.depth)
        )
        self.output = ModulatedOutput(width, config.patch_size**2 * config.channels * (2 if config.variance else 1))
        self.head = nn.Identity()
        initialise(self)

    @property
    def no_class(self) -> int:
        """The label that stands for no class."""
        return self.config.classes

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """ε_θ(x_t, t, c), and the variance where the network says it: noisy pictures -> the noise in them.

        Args:
            images: x_t, (B, C, H, W); H and W any multiple of the patch: positions are stretched.
            times: t, (B,), the steps of the schedule, from 0.
            labels: c, (B,) int64, 0..classes; `no_class` for none.

        Returns:
            (B, C, H, W), or (B, 2 C, H, W) with the noise first: the other half says where between its bounds the
            logarithm of the step's variance is, -1 to 1 (Nichol and Dhariwal 2021, 2102.09672, eq. 15).

        Raises:
            ValueError: the pictures' channels or sides are none that the network takes.
        """
        grid = self.patchify.grid(images)
        tokens = self.patchify(images)
        positions = sincos_positions(grid, self.config.width, base=self.config.grid, device=tokens.device)
        tokens = tokens + positions.to(tokens.dtype)
        condition = self.condition(times, labels)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return unpatchify(self.output(tokens, condition), grid, self.config.patch_size)

    def example(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """A noisy picture, its time and its class."""
        return torch.zeros(1, self.config.channels, *size), torch.zeros(1), torch.zeros(1, dtype=torch.int64)

    def condition(self, times: Tensor, labels: Tensor) -> Tensor:
        """Times (B,) and labels (B,) -> what steers the norms, (B, D)."""
        return self.time(sinusoids(times, WAVES, shift=1)) + self.classes(labels)


def initialise(network: DiT) -> None:
    """Start as the paper's code does: U(±√(6 / (fan in + fan out))), embeddings from N(0, 0.02²), adaLN at zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    patches = network.patchify.projection
    nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
    if patches.bias is not None:
        nn.init.zeros_(patches.bias)
    for weight in (network.time.up.weight, network.time.down.weight, network.classes.weight):
        nn.init.normal_(weight, std=0.02)
    for module in network.modules():
        if isinstance(module, ModulatedBlock):
            module.modulation.start()
        elif isinstance(module, ModulatedOutput):
            module.start()
