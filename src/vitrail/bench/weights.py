"""Networks of published sizes with random weights: what is measured depends on their sizes alone."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SEED = 0
"""Of all random numbers, so that every process makes the same."""


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Draw all of a network's parameters, so that numbers neither grow nor vanish on their way through it."""
    generator = torch.Generator().manual_seed(SEED)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                parameter.fill_(float(name == "weight"))
            elif parameter.ndim > 1 and isinstance(module, nn.Linear | nn.Conv2d):
                reach = parameter[0].numel() ** -0.5
                parameter.uniform_(-reach, reach, generator=generator)
            else:  # biases, tokens, positions, gains
                parameter.normal_(std=0.02, generator=generator)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, the same in every process."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(dtype)


def operations(model: nn.Module, *inputs: Tensor) -> float:
    """Multiplications and additions in products and convolutions of a forward pass: of inputs on the meta device."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(*inputs)
    return float(counted.get_total_flops())
