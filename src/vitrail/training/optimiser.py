"""AdamW's groups of weights, and its learning rate."""

import math

import torch
from torch import nn

from vitrail.training.recipe import OptimiserSection, ScheduleSection


def build_optimiser(model: nn.Module, section: OptimiserSection) -> torch.optim.AdamW:
    """AdamW over all trainable weights, with decay on some."""
    decayed, free = split_by_decay(model)
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=section.lr, betas=section.betas, eps=section.eps
    )


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
    return _unique(decayed), _unique(free)


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
