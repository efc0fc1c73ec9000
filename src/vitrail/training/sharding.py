"""Tensors that FSDP2 has spread over processes: whole, in part, and back."""

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from vitrail.models.model import Model


def local(tensor: Tensor) -> Tensor:
    """The part that this process holds, sharing its memory; the tensor itself where it is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of it, on the CPU. Every process must ask at the same time."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def spread_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every process has, spread and placed as `like` is."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def forget_gathered(model: nn.Module) -> None:
    """Make FSDP2 gather weights anew, after they were changed behind its back."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@torch.no_grad()
def copy_into(target: Tensor, source: Tensor) -> None:
    """Overwrite a tensor with another that is spread alike."""
    local(target).copy_(local(source))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A network's weights and buffers by name, each once, however many names it has."""
    return model.weights() if isinstance(model, Model) else model.state_dict()
