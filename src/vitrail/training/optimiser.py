"""AdamW and Muon, which weights each takes, and their learning rate."""

import math
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.training.recipe import OptimiserSection, ScheduleSection


def build_optimiser(model: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """What a recipe asks for, over all trainable weights, with decay on some."""
    decayed, free = split_by_decay(model)
    heads = {id(weight) for name, weight in model.named_parameters() if is_head(name)}
    inner = [weight for weight in decayed if weight.ndim == 2 and id(weight) not in heads]
    if section.name == "adamw" or not inner:
        return _adamw(section, decayed, free)
    taken = {id(weight) for weight in inner}
    rest = [weight for weight in decayed if id(weight) not in taken]
    muon = torch.optim.Muon(inner, lr=section.lr, weight_decay=section.weight_decay, adjust_lr_fn="match_rms_adamw")
    return Together(muon, _adamw(section, rest, free)) if rest or free else muon


def is_head(name: str) -> bool:
    """Whether a weight of this name belongs to a head, which knows the classes: "head.weight"."""
    return name.split(".")[0].endswith("head")


class Together(torch.optim.Optimizer):
    """Two optimisers, each over weights of its own, that step as one.

    Args:
        first, second: as torch builds them.
    """

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        super().__init__([*first.param_groups, *second.param_groups], {})
        self.parts = (first, second)
        self.param_groups = [*first.param_groups, *second.param_groups]  # theirs, not copies of them
        self.state = _Either(first.state, second.state)  # type: ignore[assignment]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of all weights."""
        if closure is not None:
            raise ValueError("these optimisers take no closure")
        for part in self.parts:
            part.step()


class _Either(ChainMap[Tensor, Any]):
    """Several dictionaries as one. Asked for a weight, torch's own make an empty entry; here its owner is asked."""

    def __getitem__(self, weight: Tensor) -> Any:
        return next(states for states in self.maps if weight in states)[weight]


def blank_state(optimiser: torch.optim.Optimizer, weight: nn.Parameter) -> None:
    """Give a weight the moments it has before its first update, so that there is room to read others into."""
    parts = optimiser.parts if isinstance(optimiser, Together) else (optimiser,)
    part = next(
        part for part in parts if any(weight is other for group in part.param_groups for other in group["params"])
    )
    if isinstance(part, torch.optim.Muon):
        part.state[weight] = {"momentum_buffer": torch.zeros_like(weight)}
    else:
        part.state[weight] = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }


def _adamw(section: OptimiserSection, decayed: list[nn.Parameter], free: list[nn.Parameter]) -> torch.optim.AdamW:
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, fused=True)


def split_by_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable weights that decay, and those that do not.

    The matrices of torch's own linear, convolutional, recurrent and bilinear layers decay: pulling them towards zero
    makes the function smoother. Biases, norms, embeddings, and what a model holds directly (tokens, positions,
    scales) do not.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in model.modules():
        own = type(module).__module__.startswith("torch.nn.") or isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        matrices = own and not isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for weight in module.parameters(recurse=False):
            if weight.requires_grad:
                (decayed if matrices and weight.ndim > 1 else free).append(weight)
    embeddings = {id(weight) for weight in free}  # one that is the head, too, stays an embedding
    return _unique([weight for weight in decayed if id(weight) not in embeddings]), _unique(free)


def learning_rate(step: int, steps: int, peak: float, schedule: ScheduleSection) -> float:
    """The learning rate of the update that is number `step`, counted from 0.

    From peak / warmup up to `peak` in `warmup` updates, then down half a cosine to `final` · `peak` at the last.
    """
    if step < schedule.warmup:
        return peak * (step + 1) / schedule.warmup
    progress = (step - schedule.warmup + 1) / (steps - schedule.warmup)
    return peak * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2)


def _unique(weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """A weight that two layers share is optimised once."""
    return list({id(weight): weight for weight in weights}.values())
