"""Every random number of a run follows from the recipe's seed and from where it is drawn, never from what came before.

So a run needs no random state in its checkpoints: continued anywhere, it draws what it would have drawn.
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def seed_for(*key: int | str) -> int:
    """A seed in [0, 2⁶³) for a place in a run: the same for the same key, and unrelated for any two keys."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def generator_for(*key: int | str) -> torch.Generator:
    """A generator on the CPU, seeded for a place in a run."""
    return torch.Generator().manual_seed(seed_for(*key))


def shuffled(start: int, stop: int, length: int, seed: int) -> Tensor:
    """A stretch of an endless stream of indices that goes through the data in a new order each epoch.

    Args:
        start, stop: the first place of the stretch, and the place after its last.
        length: how many pictures the data has.
        seed: the recipe's.

    Returns:
        (stop - start,) int64.
    """
    places = torch.arange(start, stop)
    epochs, within = places // length, places % length
    indices = torch.empty_like(places)
    for epoch in epochs.unique().tolist():
        here = epochs == epoch
        indices[here] = _order(length, seed, epoch)[within[here]]
    return indices


@lru_cache(maxsize=2)
def _order(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=generator_for(seed, "order", epoch))


def evenly_spread(count: int) -> Tensor:
    """Numbers in [0, 1), one for each example of a batch, that follow each other evenly from one that is drawn.

    A loss at noise levels that are spread so is less a matter of luck: Kingma et al. 2021 (2107.00630), appendix I.1.

    Returns:
        (count,) float32, rising but for where they go round.
    """
    return (torch.rand(()) + torch.arange(count) / count) % 1


def random_state(device: torch.device) -> tuple[Tensor, Tensor]:
    """The states of torch's own generators, on the CPU and on a device, for `restore_random_state`."""
    cpu = torch.get_rng_state()
    return cpu, cpu if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)


def restore_random_state(state: tuple[Tensor, Tensor], device: torch.device) -> None:
    """Draw again what was drawn after `random_state`."""
    torch.set_rng_state(state[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[1], device)
