"""DDPM whole: its network and its chain, from noise to pictures of what it was trained on.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (2006.11239), algorithm 2.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from vitrail.models.chain import Chain, ChainGenerator
from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.generator import Usual
from vitrail.models.pixels import PixelGenerator
from vitrail.nn.patches import pair


@dataclass(frozen=True)
class DDPMPipelineConfig:
    """The network's numbers and the noise; the defaults are the paper's for CIFAR-10.

    Attributes:
        network: what says the noise.
        chain: the noise it was trained on.
    """

    network: DDPMConfig = field(default_factory=DDPMConfig)
    chain: Chain = field(
        default_factory=lambda: Chain(
            betas="linear",
            beta_start=1e-4,
            beta_end=0.02,
            clip=1.0,
            sampler="ddpm",
            variance="large",
            offset=0,
            ends_clean=True,
        )
    )


class DDPMPipeline(ChainGenerator, PixelGenerator):
    """A DDPM that is not told what to make."""

    family: ClassVar[str] = "ddpm-pipeline"
    config: DDPMPipelineConfig

    def __init__(self, config: DDPMPipelineConfig) -> None:
        super().__init__()
        if config.network.outputs != config.network.channels:
            raise ValueError(f"a network of {config.network.outputs} channels says more than the noise")
        self.config = config
        self.network = DDPM(config.network)
        self.head = nn.Identity()

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """All steps of the chain where it is sampled as it was trained, and 50 with any other sampler."""
        chain = self.config.chain
        return Usual(
            chain.steps if chain.sampler == "ddpm" else 50, chain.sampler, 1.0, pair(self.network.config.image_size)
        )

    def example(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """A noisy picture of (height, width) and its time."""
        return *self.network.example(size), None

    def predict(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """What the network says of noisy pictures, float32."""
        return self.network(x, t).float()
