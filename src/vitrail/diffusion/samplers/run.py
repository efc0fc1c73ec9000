"""What all samplers share: their signature, their steps and what they show on the way."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser
from vitrail.diffusion.noise import Dice

#: Beyond this noise level x shows nothing of the picture: D is the mean of all data, and Euler's step from there exact.
#: Samplers whose steps are weighed in σ itself take that one, for no number of steps from a flow's end (2²⁰) is enough.
PURE_NOISE = 1e5

#: Called after each step with the number of steps done, from 1, and the clean pictures (B, …) that this step saw.
Preview = Callable[[int, Tensor], None]


class Sampler(Protocol):
    """From noise to pictures."""

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        cond: Any = None,
        *,
        generator: Dice = None,
        preview: Preview | None = None,
    ) -> Tensor:
        """Follow `sigmas` from the first to the last.

        Args:
            denoiser: what sees the clean pictures.
            x: (B, …), float32, pictures with noise of level sigmas[0] on them; from pure noise n, σ n or n / scale(σ).
            sigmas: (num_steps + 1,), falling, the last 0, or a last noise level to stop at.
            cond: handed to the denoiser.
            generator: where a sampler that draws noise draws it.
            preview: called after each step.

        Returns:
            (B, …) at noise level sigmas[-1]: clean pictures where it is 0.
        """


def steps(sigmas: Tensor) -> Iterator[tuple[int, float, float]]:
    """(step from 1, its noise level, the next one)."""
    levels = sigmas.double().tolist()
    return zip(range(1, len(levels)), levels[:-1], levels[1:], strict=True)


def move(x: Tensor, x0: Tensor, sigma: float, to: float) -> Tensor:
    """From one noise level to another along the line through x and its clean picture: x0 + to / sigma (x - x0).

    Euler's step of the probability-flow ODE dx/dσ = (x - x0) / σ (Karras et al. 2022, 2206.00364, eq. 3), written so
    that nothing is lost where σ is very large and x0 is reached exactly where `to` is 0.
    """
    return x0 + to / sigma * (x - x0)
