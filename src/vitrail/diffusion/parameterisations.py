"""What a network was trained to say, turned into the clean picture it sees.

A network reads scale(σ) · x and its own time t(σ), both by its schedule, and says the noise, the velocity, the picture,
the flow, the score or what goes from the one to the other. Each function here wraps such a `network(x_in, t, cond)`
once into a denoiser D(x, σ, cond).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, rows
from vitrail.diffusion.schedules import Discrete, Flow, Schedule

#: (x_in (B, …), t (B,), cond) -> (B, …)
Network = Callable[[Tensor, Tensor, Any], Tensor]

DATA = 0.5
"""The standard deviation of pictures in [-1, 1], about: σ_data of Karras et al. 2022 (2206.00364), table 1."""


def epsilon(network: Network, schedule: Schedule) -> Denoiser:
    """The network says the noise: D = x - σ ε(scale x, t). Ho et al. 2020 (2006.11239), eq. 15."""

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return x - rows(sigma, x) * network(rows(schedule.scale(sigma), x) * x, schedule.time(sigma), cond)

    return denoiser


def velocity(network: Network, schedule: Discrete) -> Denoiser:
    """The network says v = α n - √(1 - α²) x0 of a variance-preserving chain: D = α (α x) - √(1 - α²) v.

    Salimans & Ho 2022 (2202.00512), appendix D; with α = √ᾱ = 1 / √(1 + σ²), √(1 - α²) = α σ.
    """

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        alpha = rows(schedule.scale(sigma), x)
        seen = alpha * x
        return alpha * (seen - rows(sigma, x) * network(seen, schedule.time(sigma), cond))

    return denoiser


def clean(network: Network, schedule: Schedule) -> Denoiser:
    """The network says the picture: D = x0(scale x, t). Salimans & Ho 2022 (2202.00512), §4."""

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return network(rows(schedule.scale(sigma), x) * x, schedule.time(sigma), cond)

    return denoiser


def flow(network: Network, schedule: Flow) -> Denoiser:
    """The network says the velocity n - x0 of the straight line z = (1 - s) x0 + s n: D = z - s v.

    Lipman et al. 2023 (2210.02747), eq. 22-23; Liu et al. 2023 (2209.03003), eq. 1; s counted from the picture, as in
    Esser et al. 2024 (2403.03206).
    """

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        kept = rows(schedule.scale(sigma), x)
        seen = kept * x
        return seen - rows(sigma, x) * kept * network(seen, schedule.time(sigma), cond)

    return denoiser


def score(network: Network) -> Denoiser:
    """The network says the score of the samplers' own frame and reads σ as its time: D = x + σ² s(x, σ).

    NCSN++ as published. Song et al. 2021 (2011.13456), eq. 7; Tweedie's formula.
    """

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return x + rows(sigma, x) ** 2 * network(x, sigma, cond)

    return denoiser


def preconditioned(network: Network, data: float = DATA) -> Denoiser:
    """The network says F / σ and reads σ as its time: D = c_skip x + c_out F(c_in x, σ), where F is of unit size.

    For NCSN++ under much noise, where D = x + σ² s would be σ times as wrong as the network is. Under little noise
    F / σ is the score; under much, F is the picture. Karras et al. 2022 (2206.00364), eq. 7 and table 1.

    Args:
        network: c_in x (B, …), of unit variance; σ (B,); cond -> F / σ (B, …).
        data: the standard deviation of the pictures' numbers.
    """

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        level = rows(sigma, x)
        deviation = (level**2 + data**2).sqrt()
        said = level * network(x / deviation, sigma, cond)
        return (data / deviation) ** 2 * x + level * data / deviation * said

    return denoiser


def clipped(denoiser: Denoiser, limit: float = 1.0) -> Denoiser:
    """The denoiser's pictures held to [-limit, limit]: `clip_sample` of the checkpoints trained on pixels.

    Ho et al. 2020 (2006.11239) clip so in sampling. The noise that a sampler then infers agrees with the clipped
    picture, in DDIM too (`use_clipped_model_output` in diffusers).
    """

    def clip(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return denoiser(x, sigma, cond).clamp(-limit, limit)

    return clip
