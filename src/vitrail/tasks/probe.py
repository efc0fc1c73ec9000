"""A new head for a trained network, whose features stay as they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail import registry
from vitrail.errors import UsageError
from vitrail.models.model import Model

STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(0, -13, -1))
"""The strengths of a probe's penalty that are tried, from the strongest on."""


def with_classes(model: Model, labels: Sequence[str]) -> Model:
    """The same network with another head, which says nothing yet: all its weights are zero.

    Everything in front of the head is shared with `model`, whose weights stay as they are. A DeiT loses the head of its
    distillation token, for there is no teacher.

    Args:
        model: of any family that has a head, with or without one.
        labels: the names of the classes.

    Raises:
        UsageError: a family that has no head.
    """
    if not hasattr(model.config, "classes"):
        raise UsageError(f"the family {model.family} has no head to put classes on")
    changes: dict[str, Any] = {"classes": len(labels)}
    if hasattr(model.config, "distillation_head"):
        changes["distillation_head"] = False
    with torch.device("meta"):
        changed = registry.FAMILIES[model.family].load_model()(replace(model.config, **changes))
    state, weights = changed.state_dict(), model.state_dict()
    like = next(model.parameters())
    for name, tensor in state.items():
        head = name.startswith("head.")
        state[name] = torch.zeros(tensor.shape, dtype=like.dtype, device=like.device) if head else weights[name]
    changed.load_state_dict(state, assign=True)
    changed.preprocess, changed.labels = model.preprocess, tuple(labels)
    return changed.eval()


@dataclass(frozen=True)
class Probe:
    """A linear map from pooled vectors to logits.

    Attributes:
        weight: (classes, D) float32.
        bias: (classes,) float32.
        strength: λ, of the penalty λ / 2 · ‖W‖² on the weights for standardised vectors.
    """

    weight: Tensor
    bias: Tensor
    strength: float


def fit_probe(vectors: Tensor, targets: Tensor, classes: int, *, seed: int = 0) -> Probe:
    """Multinomial logistic regression on vectors as they are, by L-BFGS.

    Each number of a vector is standardised first, and the map that is found takes that into itself. The strength of the
    penalty is the one, from the strongest on, that leaves the least cross-entropy on a fifth of each class that is kept
    aside; then all vectors are fitted. The procedure is that of Radford et al. 2021 (2103.00020), appendix A.3, but for
    the standardising, and for the cross-entropy where they look at the accuracy.

    Args:
        vectors: (N, D) float32.
        targets: (N,) int64, class numbers; each class has one vector at least.
        classes: how many there are.
        seed: of what is kept aside.
    """
    mean, spread = vectors.mean(0), vectors.std(0, correction=0)
    scale = torch.where(spread > 1e-6 * spread.max(), 1 / spread, 0)  # a number that never varies tells nothing
    inputs = (vectors - mean) * scale
    strength = _best_strength(inputs, targets, classes, seed)
    weight, bias = _fit(inputs, targets, strength, _nothing(inputs, classes))
    weight = weight * scale
    return Probe(weight, bias - weight @ mean, strength)


def stratified(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of what is kept and of what is held out, (K,) and (H,) int64: the same share of each class.

    Of a class of two or more, one at least is held out and one at least is kept; a class of one is kept.

    Args:
        targets: (N,) class numbers.
        fraction: how much is held out, between 0 and 1.
        seed: another seed holds out others.
    """
    kept, held, generator = [], [], torch.Generator().manual_seed(seed)
    for number in targets.unique().tolist():
        own = (targets == number).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator)]
        count = min(max(1, round(fraction * len(own))), len(own) - 1)
        held.append(own[:count])
        kept.append(own[count:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


def _best_strength(inputs: Tensor, targets: Tensor, classes: int, seed: int) -> float:
    kept, held = stratified(targets, 0.2, seed)
    if not len(held):
        return 1.0  # one picture a class: there is nothing to choose by
    best, least, found = STRENGTHS[0], math.inf, _nothing(inputs, classes)
    for strength in STRENGTHS:
        found = _fit(inputs[kept], targets[kept], strength, found)
        loss = float(F.cross_entropy(F.linear(inputs[held], *found), targets[held]))
        if loss < least:
            best, least = strength, loss
        elif strength < best / 5:  # past its best
            break
    return best


def _nothing(inputs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(classes, inputs.shape[1]), torch.zeros(classes)


def _fit(inputs: Tensor, targets: Tensor, strength: float, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the least cross-entropy and penalty, found from a start."""
    weight, bias = (tensor.clone().requires_grad_() for tensor in start)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=100, tolerance_grad=1e-4, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(F.linear(inputs, weight, bias), targets) + strength / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.inference_mode(False), torch.enable_grad():
        optimiser.step(loss)
    return weight.detach(), bias.detach()
