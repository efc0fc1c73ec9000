"""Samplers that take the clean picture for constant over a step: Euler, DDIM, ancestral DDPM, Euler-ancestral, LCM.

In the frame x = x0 + σ n they are one sampler with more or less fresh noise. A step from σ to σ' keeps part of the
noise it sees and draws the rest: x' = D + ς/σ (x - D) + √(σ'² - ς²) n. With ς = σ' it is Euler and DDIM; with
ς = σ'²/σ the ancestral samplers, which sample q(x' | x, x0 = D) exactly; with ς = 0 LCM.
"""

from typing import Any, Literal

from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, denoise
from vitrail.diffusion.noise import Dice, noise_like
from vitrail.diffusion.samplers.run import Preview, move, steps


def euler(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """Euler's steps of the probability-flow ODE: x' = x + (σ' - σ) (x - D) / σ. Draws nothing.

    Karras et al. 2022 (2206.00364), algorithm 1 without its correction. First order.
    """
    return ddim(denoiser, x, sigmas, cond, generator=generator, preview=preview)


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    eta: float = 0.0,
) -> Tensor:
    """x' = D + √(σ'² - η² s²) (x - D) / σ + η s n, with s² = σ'² (σ² - σ'²) / σ².

    Song et al. 2021 (2010.02502), eq. 12 and 16, divided by √ᾱ. With η = 0 that is Euler's step, to the letter; with
    η = 1 ancestral DDPM. Draws one noise a step, after the denoiser, where η > 0 and σ' > 0.
    """
    for step, sigma, to in steps(sigmas):
        x0 = denoise(denoiser, x, sigma, cond)
        fresh = eta * to * (1 - (to / sigma) ** 2) ** 0.5
        x = move(x, x0, sigma, (to**2 - fresh**2) ** 0.5)
        if fresh:
            x = x + fresh * noise_like(x, generator)
        if preview:
            preview(step, x0)
    return x


def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
    variance: Literal["small", "large"] = "small",
) -> Tensor:
    """x' = D + (σ' / σ)² (x - D) + s n: the chain run backwards. Ho et al. 2020 (2006.11239), eq. 6-7, algorithm 2.

    `variance` is s² in the samplers' frame, of which §3.2 tries both: "small", that of q(x' | x, x0),
    σ'² (σ² - σ'²) / σ²; or "large", β of the step, (σ² - σ'²) (1 + σ'²) / (1 + σ²), which is right for data of unit
    variance and what `google/ddpm-cifar10-32` says. Draws one noise a step, after the denoiser, where σ' > 0.
    """
    for step, sigma, to in steps(sigmas):
        x0 = denoise(denoiser, x, sigma, cond)
        x = move(x, x0, sigma, to**2 / sigma)
        if to > 0:
            chain = (1 + to**2) / (1 + sigma**2) if variance == "large" else (to / sigma) ** 2
            x = x + ((sigma**2 - to**2) * chain) ** 0.5 * noise_like(x, generator)
        if preview:
            preview(step, x0)
    return x


def euler_ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """Euler's step to σ'²/σ, then noise of √(σ'² - σ'⁴/σ²). k-diffusion, `sample_euler_ancestral` with η = 1.

    In this frame that is DDIM with η = 1 and ancestral DDPM with the small variance, to the letter.
    """
    return ddim(denoiser, x, sigmas, cond, generator=generator, preview=preview, eta=1.0)


def lcm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    *,
    generator: Dice = None,
    preview: Preview | None = None,
) -> Tensor:
    """x' = D + σ' n: multistep consistency sampling. Song et al. 2023 (2303.01469), algorithm 1; Luo et al. 2023
    (2310.04378), algorithm 3.

    For a network that sees the end of the whole path in one look, in 1 to 8 steps. Draws one noise a step, after the
    denoiser, where σ' > 0.
    """
    for step, sigma, to in steps(sigmas):
        x0 = denoise(denoiser, x, sigma, cond)
        x = x0 + to * noise_like(x, generator) if to > 0 else x0
        if preview:
            preview(step, x0)
    return x
