"""Generators that were trained on a chain of noise levels, as DDPM was and Stable Diffusion after it.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (2006.11239). What a published scheduler_config.json
says is a `Chain` here: the noise, what the network was trained to say, and how it is usually run.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser
from vitrail.diffusion.parameterisations import clean, clipped, epsilon, velocity
from vitrail.diffusion.samplers import Sampler
from vitrail.diffusion.samplers.first_order import ddpm
from vitrail.diffusion.samplers.levels import levels
from vitrail.diffusion.schedules import Discrete, cosine, linear, scaled_linear, trained, zero_terminal
from vitrail.models.generator import Generator

_BARE = ("euler", "euler-ancestral", "heun")  # whose schedulers in diffusers start from noise alone
_PARAMETERISATIONS = {"epsilon": epsilon, "velocity": velocity, "clean": clean}


@dataclass(frozen=True)
class Chain:
    """The noise that a network was trained on and how it is run; the defaults are Stable Diffusion 1.5's.

    Attributes:
        steps: T, how many noise levels there are.
        betas: how β rises along them.
        beta_start: the first β, where `betas` is "linear" or "scaled-linear".
        beta_end: the last.
        trained_betas: every β, where a checkpoint lists them; then the three before say nothing.
        zero_terminal: whether the last level was made to be nothing but noise (Lin et al. 2023, 2305.08891, §3.1).
        predicts: what the network was trained to say: the noise, the velocity or the clean picture.
        clip: where denoised pictures are held, [-clip, clip]; None for nowhere. For networks in pixels.
        sampler: what runs it, a name of `vitrail.diffusion.samplers.SAMPLERS`.
        variance: of what "ddpm" adds at each step (Ho et al. 2020, §3.2).
        spacing: which levels a run visits (Lin et al. 2023, table 2).
        offset: added to the levels of the spacing "leading".
        karras: whether a run visits levels spread as in Karras et al. 2022 (2206.00364), eq. 5, between the same ends.
        ends_clean: whether "ddim" and "pndm" end without noise, and not at the first level, as Stable Diffusion does.
    """

    steps: int = 1000
    betas: Literal["linear", "scaled-linear", "cosine"] = "scaled-linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    trained_betas: tuple[float, ...] | None = None
    zero_terminal: bool = False
    predicts: Literal["epsilon", "velocity", "clean"] = "epsilon"
    clip: float | None = None
    sampler: str = "pndm"
    variance: Literal["small", "large"] = "small"
    spacing: Literal["leading", "trailing", "linspace"] = "leading"
    offset: int = 1
    karras: bool = False
    ends_clean: bool = False

    def schedule(self) -> Discrete:
        """The noise levels it was trained on."""
        if self.trained_betas is not None:
            schedule = trained(self.trained_betas)
        elif self.betas == "cosine":
            schedule = cosine(self.steps)
        else:
            made = linear if self.betas == "linear" else scaled_linear
            schedule = made(self.steps, self.beta_start, self.beta_end)
        return zero_terminal(schedule) if self.zero_terminal else schedule

    def sigmas(self, schedule: Discrete, num_steps: int, sampler: str) -> Tensor:
        """The falling noise levels of a run, (num_steps + 1,), as diffusers' scheduler of that sampler has them.

        Raises:
            UsageError: with fewer than one step, or more than the chain has.
        """
        return levels(
            sampler,
            schedule,
            num_steps,
            spacing=self.spacing,
            offset=self.offset,
            ends_clean=self.ends_clean,
            karras=self.karras,
        )


class ChainGenerator(Generator):
    """A generator whose network was trained on a `Chain`: its config has one, `chain`."""

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """What the network says of noisy pictures x (B, C, h, w) of variance 1 at the chain's steps t (B,): float32."""

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        """One step's work: what the network says of latents; as `predict`."""
        return self.predict(x, t, cond)

    @cached_property
    def schedule(self) -> Discrete:  # type: ignore[override]  # made when it is first asked for, from the config
        """The chain's noise levels."""
        with torch.inference_mode(False):
            return self.config.chain.schedule()

    def denoiser(self) -> Denoiser:
        """The network as D(x, sigma, cond) -> x0."""
        chain: Chain = self.config.chain
        denoiser = _PARAMETERISATIONS[chain.predicts](self.predict, self.schedule)
        return denoiser if chain.clip is None else clipped(denoiser, chain.clip)

    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        """The falling noise levels of a run, (num_steps + 1,)."""
        return self.config.chain.sigmas(self.schedule, num_steps, sampler)

    def begin(self, noise: Tensor, sigma: float, sampler: str) -> Tensor:
        """Noise as the reference's schedulers start from it: Euler's and Heun's, but for "leading", add no picture."""
        if sampler in _BARE and self.config.chain.spacing != "leading":
            return noise * sigma
        return super().begin(noise, sigma, sampler)

    def sampler(self, name: str) -> Sampler:
        """The sampler of that name; "ddpm" with the chain's variance."""
        if name == "ddpm":
            return partial(ddpm, variance=self.config.chain.variance)
        return super().sampler(name)
