"""How a network in training is run: forwards, backwards, and by chunks where a batch is larger than memory."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitrail.engines.memory import keep_memory
from vitrail.training.randomness import random_state, restore_random_state


class Trainable(nn.Module):
    """A network and what is trained of it in one forward pass, as frameworks that distribute a module's training want.

    Args:
        network: what is left when training is over.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network


def network_of(model: nn.Module) -> Any:
    """The network within what is trained."""
    bare = extract_model_from_parallel(model)
    return bare.network if isinstance(bare, Trainable) else bare


@dataclass(frozen=True)
class Passes:
    """Runs a network in this process, with the recipe's precision and the fastest attention.

    Attributes:
        model: what is trained, as Accelerate prepared it.
        accelerator: Accelerate's, of this process.
    """

    model: nn.Module
    accelerator: Accelerator

    def __post_init__(self) -> None:
        keep_memory()  # activations' pages would be fetched anew in every update

    def forward(self, *inputs: Tensor) -> Any:
        """What the model makes of a batch."""
        with self.accelerator.autocast(), _attention(self.accelerator.device):
            return self.model(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Add to the weights' gradients, and share them with the other processes where it is time to."""
        self.accelerator.backward(loss)

    def learn(self, *inputs: Tensor) -> Tensor:
        """Forwards and backwards, where what the model makes of a batch is the loss, (): that, detached."""
        loss = self.forward(*inputs)
        self.backward(loss)
        return loss.detach()

    def in_chunks(self, chunks: Sequence[tuple[Tensor, ...]], loss_of: Callable[..., Tensor]) -> Tensor:
        """Forwards and backwards with the activations of one chunk in memory: the gradient cache.

        Gao et al. 2021 (2101.06983), §3.2. All outputs are computed without a graph; the loss and its gradients at the
        outputs follow from these; and each chunk is run again, with the random numbers that it had, to take its
        gradients further back. They are those of the whole batch, for any loss of all outputs together.

        Args:
            chunks: inputs of the model, which gives two outputs or more, (B, ...) each.
            loss_of: from the outputs of all chunks, joined, to the loss, ().

        Returns:
            The loss, detached.
        """
        if len(chunks) == 1:
            loss = loss_of(*self.forward(*chunks[0]))
            self.backward(loss)
            return loss.detach()
        states, outputs = [], []
        with torch.no_grad():
            for chunk in chunks:
                states.append(random_state(self.accelerator.device))
                outputs.append(self.forward(*chunk))
        leaves = [torch.cat(every).requires_grad_() for every in zip(*outputs, strict=True)]
        loss = loss_of(*leaves)
        gradients = torch.autograd.grad(loss, leaves)
        sizes = [len(chunk[0]) for chunk in chunks]
        parts = zip(*(gradient.split(sizes) for gradient in gradients), strict=True)
        for number, (chunk, state, part) in enumerate(zip(chunks, states, parts, strict=True), start=1):
            restore_random_state(state, self.accelerator.device)
            # Processes share the sum of all chunks' gradients, once, when the last one's are there.
            with nullcontext() if number == len(chunks) else self.accelerator.no_sync(self.model):
                again = self.forward(*chunk)
                # The derivative of this sum by the outputs is the loss's.
                sums = [(one * gradient).sum() for one, gradient in zip(again, part, strict=True)]
                self.backward(torch.stack(sums).sum())
        return loss.detach()


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """The way attention is computed in training: fused, but on a CPU, where its backward pass costs twice the plain
    one's. In bfloat16 `vitrail.nn.attention.attend` is faster there than both.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
