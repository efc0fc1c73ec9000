"""Samplers: ways from noise to a picture, each a function of a denoiser. See `Sampler` for what they share."""

from vitrail.diffusion.samplers.first_order import ddim, ddpm, euler, euler_ancestral, lcm
from vitrail.diffusion.samplers.multistep import dpm_2m, dpm_2m_sde, unipc
from vitrail.diffusion.samplers.ordinary import heun, ode, pndm
from vitrail.diffusion.samplers.run import Preview, Sampler
from vitrail.diffusion.samplers.score import langevin, predictor_corrector

__all__ = ["SAMPLERS", "Preview", "Sampler"]

#: By the name that `--sampler` takes.
SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "euler-ancestral": euler_ancestral,
    "heun": heun,
    "dpm++2m": dpm_2m,
    "dpm++2m-sde": dpm_2m_sde,
    "unipc": unipc,
    "pndm": pndm,
    "lcm": lcm,
    "ode": ode,
    "langevin": langevin,
    "predictor-corrector": predictor_corrector,
}
