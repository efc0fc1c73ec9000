"""NCSN++ whole: a score and a variance-exploding SDE, run backwards with corrections.

Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021 (2011.13456),
algorithm 2.
"""

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import ClassVar

from torch import Tensor, nn

from vitrail.diffusion.denoiser import Denoiser
from vitrail.diffusion.parameterisations import score
from vitrail.diffusion.samplers import Sampler
from vitrail.diffusion.samplers.score import predictor_corrector
from vitrail.diffusion.schedules import VarianceExploding, geometric
from vitrail.models.generator import Usual
from vitrail.models.ncsnpp import NCSNpp, NCSNppConfig
from vitrail.models.pixels import PixelGenerator
from vitrail.nn.patches import pair


@dataclass(frozen=True)
class ScoreSDEPipelineConfig:
    """The network's numbers and the noise; the defaults are those of the published networks for 1024 pixels.

    Attributes:
        network: what says the score.
        steps: how many a run has.
        sigma_min: the least noise, for pictures in [0, 1].
        sigma_max: the most.
        signal_to_noise: how far a correction goes, r of algorithm 4.
        corrections: how many there are at each level, M.
    """

    network: NCSNppConfig = field(default_factory=NCSNppConfig)
    steps: int = 2000
    sigma_min: float = 0.01
    sigma_max: float = 1348.0
    signal_to_noise: float = 0.15
    corrections: int = 1


class ScoreSDEPipeline(PixelGenerator):
    """A score network that is not told what to make. Its own pictures are in [0, 1] where it centres them itself."""

    family: ClassVar[str] = "score-sde-pipeline"
    config: ScoreSDEPipelineConfig

    def __init__(self, config: ScoreSDEPipelineConfig) -> None:
        super().__init__()
        self.config = config
        self.network = NCSNpp(config.network)
        self.head = nn.Identity()

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """As diffusers' pipeline is run."""
        return Usual(self.config.steps, "predictor-corrector", 1.0, pair(self.network.config.image_size))

    def forward(self, images: Tensor, sigmas: Tensor) -> Tensor:
        """One step's work: the score of noisy pictures; as the network's."""
        return self.network(images, sigmas)

    def example(self, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """A noisy picture of (height, width) and its noise level."""
        return self.network.example(size)

    @cached_property
    def schedule(self) -> VarianceExploding:  # type: ignore[override]
        """Noise without end."""
        return VarianceExploding(self.config.sigma_min, self.config.sigma_max)

    def denoiser(self) -> Denoiser:
        """The network as D(x, sigma, cond) -> x0."""
        return score(lambda x, sigma, cond: self.network(x, sigma).float())

    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        """The falling noise levels of a run, in one ratio, then none: (num_steps + 1,)."""
        return geometric(self.config.sigma_min, self.config.sigma_max, num_steps)

    def begin(self, noise: Tensor, sigma: float, sampler: str) -> Tensor:
        """Noise of that level alone: beside it a picture is nothing."""
        return noise * sigma

    def sampler(self, name: str) -> Sampler:
        """The sampler of that name; "predictor-corrector" with the checkpoint's corrections."""
        if name == "predictor-corrector":
            return partial(
                predictor_corrector,
                corrections=self.config.corrections,
                signal_to_noise=self.config.signal_to_noise,
            )
        return super().sampler(name)

    def encode(self, images: Tensor) -> Tensor:
        """Pictures in [-1, 1] -> as the network has them."""
        return (super().encode(images) + 1) / 2 if self.config.network.center_input else super().encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures as the network has them -> about in [-1, 1]."""
        return super().decode(latents) * 2 - 1 if self.config.network.center_input else super().decode(latents)
