"""The noise levels that a sampler visits, as the published scheduler of the same name chooses them."""

import torch
from torch import Tensor

from vitrail.diffusion import schedules
from vitrail.diffusion.schedules import Discrete, Flow, Schedule, Spacing
from vitrail.errors import UsageError

#: Samplers whose scheduler in diffusers spreads num_steps + 1 steps and leaves out the last.
_SPARE = frozenset({"dpm++2m", "dpm++2m-sde", "unipc"})
#: Those whose scheduler takes steps of "linspace" as they fall, between whole steps too.
_FRACTIONAL = frozenset({"euler", "euler-ancestral", "heun"})
#: Those whose scheduler stops at the chain's first level where its `set_alpha_to_one` is false.
_STOPPING = frozenset({"ddim", "pndm"})
#: Those that follow the score, whose levels are in one ratio: each must be near the last.
_GEOMETRIC = frozenset({"langevin", "predictor-corrector"})
#: How many steps latent consistency models were distilled from: Luo et al. 2023 (2310.04378), §4.3, k = 20 of 1000.
_CONSISTENCY_STEPS = 50


def levels(
    sampler: str,
    schedule: Schedule,
    num_steps: int,
    *,
    spacing: Spacing = "leading",
    offset: int = 0,
    ends_clean: bool = True,
    karras: bool = False,
    shift: float = 1.0,
) -> Tensor:
    """The noise levels of a run, from the most that the schedule has to none.

    Args:
        sampler: its name in `SAMPLERS`.
        schedule: what the network was trained with.
        num_steps: how many steps.
        spacing: of a discrete schedule, see `schedules.spaced`. LCM has its own: n of the fifty that it was distilled
            from; so have Langevin and predictor-corrector: one ratio from each level to the next. A continuous
            schedule's levels are even in its time.
        offset: of "leading".
        ends_clean: whether "ddim" and "pndm" go on from a discrete schedule's first level to 0, as all others do;
            Stable Diffusion 1.5's own configuration says no (`set_alpha_to_one`).
        karras: spread the levels by Karras's rule instead (`use_karras_sigmas` in diffusers): DPM-Solver's and UniPC's
            between the chain's ends, others between the ends of the spaced ones; DDIM's and PNDM's never.
        shift: of a flow, see `schedules.flow_spaced`.

    Returns:
        (num_steps + 1,), float64, falling.

    Raises:
        UsageError: with a number of steps or a spacing that the schedule does not have.
    """
    if sampler in _GEOMETRIC:
        return schedules.geometric(schedule.sigma_min, schedule.sigma_max, num_steps)
    if isinstance(schedule, Flow):
        return schedules.flow_spaced(schedule, num_steps, shift=shift)
    if not isinstance(schedule, Discrete):
        if karras:
            return schedules.karras(schedule.sigma_min, schedule.sigma_max, num_steps)
        return schedules.even(schedule, num_steps)
    if sampler == "lcm":
        return _consistency(schedule, num_steps)
    spare, whole = sampler in _SPARE, sampler not in _FRACTIONAL
    final = 0.0 if ends_clean or sampler not in _STOPPING else schedule.sigma_min
    sigmas = schedules.spaced(schedule, num_steps, spacing, offset=offset, spare=spare, whole=whole, final=final)
    if karras and sampler not in _STOPPING:
        low, high = (schedule.sigma_min, schedule.sigma_max) if spare else (sigmas[-2].item(), sigmas[0].item())
        sigmas = torch.cat([schedules.karras(low, high, num_steps)[:-1], sigmas[-1:]])
    return sigmas


def _consistency(schedule: Discrete, num_steps: int) -> Tensor:
    steps = len(schedule.alphas_cumprod)
    if not 1 <= num_steps <= _CONSISTENCY_STEPS:
        raise UsageError(f"num_steps of lcm must be from 1 to {_CONSISTENCY_STEPS}, not {num_steps}")
    every = steps // _CONSISTENCY_STEPS
    skipped = torch.arange(num_steps) * _CONSISTENCY_STEPS // num_steps
    sigmas = schedule.sigma((_CONSISTENCY_STEPS - skipped) * every - 1)
    return torch.cat([sigmas, sigmas.new_zeros(1)])
