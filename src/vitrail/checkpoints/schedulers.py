"""diffusers' scheduler_config.json as a `Chain`, and back."""

from collections.abc import Mapping
from typing import Any

from vitrail.checkpoints.diffusers import refuse_unusual
from vitrail.errors import CheckpointError
from vitrail.models.chain import Chain

_BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
_PREDICTS = {"epsilon": "epsilon", "v_prediction": "velocity", "sample": "clean"}
_VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large"}
_SAMPLERS = {  # the first class of each sampler is written; of the others ours is the nearest
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "DPMSolverSDEScheduler": "dpm++2m-sde",
    "UniPCMultistepScheduler": "unipc",
    "LCMScheduler": "lcm",
    "LMSDiscreteScheduler": "euler",
    "KDPM2DiscreteScheduler": "heun",
    "KDPM2AncestralDiscreteScheduler": "euler-ancestral",
    "DPMSolverSinglestepScheduler": "dpm++2m",
    "DEISMultistepScheduler": "dpm++2m",
}
_SDE = "sde-dpmsolver++"
_SPACINGS = {  # `timestep_spacing` where a config leaves it out
    **dict.fromkeys(("ddpm", "ddim", "pndm", "lcm"), "leading"),
    **dict.fromkeys(("euler", "euler-ancestral", "heun", "dpm++2m", "dpm++2m-sde", "unipc"), "linspace"),
}
_CLIPPING = ("ddpm", "ddim")  # the samplers whose schedulers clip unless told
_USUAL = {
    "thresholding": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "use_lu_lambdas": False,
    "final_sigmas_type": "zero",
    "sigma_min": None,
    "sigma_max": None,
}
"""Settings that change the mathematics, and the values they have in what is published here."""


def read_chain(said: Mapping[str, Any], *, clips: bool = True) -> Chain:
    """scheduler_config.json -> Chain; what is left out is as in the signature of diffusers' class.

    Args:
        said: the config.
        clips: whether denoised pictures may be clipped; in latents they are not, whatever a config leaves unsaid.

    Raises:
        CheckpointError: it is of a kind that Vitrail does not know.
    """
    kind = said.get("_class_name")
    if kind not in _SAMPLERS:
        raise CheckpointError(f"a scheduler '{kind}' is not one that Vitrail knows")
    refuse_unusual(said, _USUAL, f"a {kind}")
    sampler = _SAMPLERS[kind]
    if sampler == "dpm++2m" and said.get("algorithm_type") == _SDE:
        sampler = "dpm++2m-sde"
    listed = said.get("trained_betas")
    narrow = kind in ("HeunDiscreteScheduler", "LCMScheduler")  # these two have latent diffusion's β unless told
    clip = clips and said.get("clip_sample", sampler in _CLIPPING)
    return Chain(
        steps=said.get("num_train_timesteps", 1000),
        betas=_known(said, "beta_schedule", "scaled_linear" if kind == "LCMScheduler" else "linear", _BETAS),
        beta_start=said.get("beta_start", 0.00085 if narrow else 1e-4),
        beta_end=said.get("beta_end", 0.012 if narrow else 0.02),
        trained_betas=None if listed is None else tuple(listed),
        zero_terminal=said.get("rescale_betas_zero_snr", False),
        predicts=_known(said, "prediction_type", "epsilon", _PREDICTS),
        clip=float(said.get("clip_sample_range", 1.0)) if clip else None,
        sampler=sampler,
        variance=_known(said, "variance_type", "fixed_small", _VARIANCES) if sampler == "ddpm" else "small",
        spacing=said.get("timestep_spacing", _SPACINGS[sampler]),
        offset=said.get("steps_offset", 0),
        karras=said.get("use_karras_sigmas") or False,
        ends_clean=said.get("set_alpha_to_one", sampler != "pndm"),
    )


def write_chain(chain: Chain) -> dict[str, Any]:
    """Chain -> scheduler_config.json of the class of its sampler.

    Raises:
        CheckpointError: diffusers has no scheduler for its sampler.
    """
    sampler = "dpm++2m" if chain.sampler == "dpm++2m-sde" else chain.sampler
    kind = next((kind for kind, name in _SAMPLERS.items() if name == sampler), None)
    if kind is None:
        raise CheckpointError(f"diffusers has no scheduler for the sampler '{chain.sampler}'")
    said: dict[str, Any] = {
        "_class_name": kind,
        "num_train_timesteps": chain.steps,
        "beta_schedule": _word(_BETAS, chain.betas),
        "beta_start": chain.beta_start,
        "beta_end": chain.beta_end,
        "trained_betas": None if chain.trained_betas is None else list(chain.trained_betas),
        "rescale_betas_zero_snr": chain.zero_terminal,
        "prediction_type": _word(_PREDICTS, chain.predicts),
        "clip_sample": chain.clip is not None,
        "timestep_spacing": chain.spacing,
        "steps_offset": chain.offset,
        "set_alpha_to_one": chain.ends_clean,
        "use_karras_sigmas": chain.karras,
    }
    if chain.clip is not None:
        said["clip_sample_range"] = chain.clip
    if sampler == "pndm":
        said["skip_prk_steps"] = True
    if sampler == "ddpm":
        said["variance_type"] = _word(_VARIANCES, chain.variance)
    if sampler == "dpm++2m":
        said["algorithm_type"] = _SDE if chain.sampler == "dpm++2m-sde" else "dpmsolver++"
    return said


def _known(said: Mapping[str, Any], name: str, usual: str, words: Mapping[str, str]) -> Any:
    value = said.get(name, usual)
    if value not in words:
        raise CheckpointError(f"a scheduler with '{name}' {value!r} is not one that Vitrail knows")
    return words[value]


def _word(words: Mapping[str, str], ours: str) -> str:
    return next(theirs for theirs, mine in words.items() if mine == ours)
