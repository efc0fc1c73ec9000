"""The moving average of a network's weights, which generalises better than the weights themselves."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from vitrail.models.image_text import ImageText
from vitrail.training.sharding import copy_into, forget_gathered, local, state_of


class Average:
    """An exponential moving average: v ← d v + (1 - d) w after each update. Tarvainen 2017 (1703.01780), eq. 1.

    The decay d of update n, counted from 0, is min(decay, (1 + n) / (10 + n)), so that the first weights, which are
    noise, are soon forgotten. Only weights are averaged. Statistics of batch norms are taken as they are, and do not
    fit the averaged weights: `settle_norms` finds those that do.

    Args:
        model: the network, as it is prepared for training.
        decay: d in the long run; 0 follows the weights themselves.

    Attributes:
        state: the averages by the names of the network's state.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.state = {name: tensor.detach().clone() for name, tensor in state_of(model).items()}
        self._weights = {name for name, _ in model.named_parameters()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after the update that is number `step`, counted from 0."""
        decay = decay_at(step, self.decay)
        for name, tensor in state_of(self.model).items():
            if name in self._weights:
                local(self.state[name]).lerp_(local(tensor), 1 - decay)
            else:
                copy_into(self.state[name], tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the network has the averages for weights."""
        kept = {name: tensor.detach().clone() for name, tensor in state_of(self.model).items()}
        self._write(self.state)
        try:
            yield
        finally:
            self._write(kept)

    def settle_norms(self, pictures: Iterable[Tensor]) -> None:
        """Measure the statistics of batch norms anew. Izmailov et al. 2018 (1803.05407), algorithm 1, last line.

        To be called within `applied`; the average keeps what was measured. A network without batch norms is not run.

        Args:
            pictures: batches (B, 3, H, W) as the network takes them.
        """
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules()):
            update_bn(pictures, _Pictures(self.model) if isinstance(self.model, ImageText) else self.model)
            for name, tensor in self.model.named_buffers():
                copy_into(self.state[name], tensor)

    def _write(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state_of(self.model).items():
            copy_into(tensor, state[name])
        forget_gathered(self.model)


def decay_at(step: int, decay: float) -> float:
    """min(decay, (1 + n) / (10 + n)) for the update n, counted from 0."""
    return min(decay, (1 + step) / (10 + step))


class _Pictures(nn.Module):
    """The picture tower of a network, as a module of its own that is in the same mode."""

    def __init__(self, network: ImageText) -> None:
        super().__init__()
        self.network, self.training = network, network.training

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E)."""
        return self.network.encode_image(images)
