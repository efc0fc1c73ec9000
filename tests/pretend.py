"""A GPU that is not there: tensors that say they are on another device, and are computed by the processor.

torch's fake tensors hold no numbers, so that whatever asks for one, a sampler or the end of a text, stops there; and
without CUDA they cannot even be sliced on "cuda". These hold their numbers: they can be taken through all that a verb
does, and what comes out compared with what the processor says. As on a GPU, tensors of two devices do not meet, but for
those of one number, indices and copies.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

GPU = torch.device("meta")
"""What stands for it: the one device besides the CPU that every build of torch knows."""

_CPU = torch.device("cpu")
_MADE = torch.tensor
_ATEN = torch.ops.aten
_COPIES = {_ATEN._to_copy, _ATEN.copy_, _ATEN.copy}
_INDICES = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_}


class Pretended(Tensor):
    """A tensor on the GPU that is not there, with its numbers."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=GPU,
        )
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} ran outside of `pretended_gpu`")

    def tolist(self) -> Any:
        """As every tensor's; torch leaves it to a subclass."""
        return self.numbers.tolist()

    def numpy(self, **_: Any) -> Any:
        """As a GPU's tensor answers."""
        raise TypeError("what is on a GPU is no array: call cpu() first")

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.numbers})"


class _Pretending(TorchDispatchMode):
    """Runs every operation by the processor, and says of what it gives that it is where a GPU would have it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_composite(func):  # in inference mode it comes whole: its parts are looked at
            with self:
                return func.decompose(*args, **(kwargs or {}))
        leaves, form = tree_flatten((args, kwargs or {}))
        place = _place(func, args, leaves)
        known = {id(leaf.numbers): leaf for leaf in leaves if isinstance(leaf, Pretended)}

        def pretended(value: Any) -> Any:
            if not isinstance(value, Tensor) or place == _CPU:
                return value
            return known[id(value)] if id(value) in known else Pretended(value)  # what was changed in place is itself

        args, kwargs = tree_unflatten([_unpretended(leaf) for leaf in leaves], form)
        with torch.inference_mode(False), torch.no_grad():  # a view of a weight is a plain tensor, in inference, too
            return tree_map(pretended, func(*args, **kwargs))


@cache
def _is_composite(func: Any) -> bool:
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Within, what is made on or moved to `GPU` has numbers."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a module's cast weights are new tensors
    try:
        with (
            mock.patch.object(torch, "tensor", _tensor),
            mock.patch.object(torch, "as_tensor", _as_tensor),
            mock.patch.object(Tensor, "new_tensor", _new_tensor),
            _Pretending(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _tensor(data: Any, *, device: Any = None, **how: Any) -> Tensor:
    """Python's numbers, which torch would have on "meta" without their values: made here, and copied there."""
    made = _MADE(data, **how)
    return made if device is None else made.to(device)


def _new_tensor(like: Tensor, data: Any, **how: Any) -> Tensor:
    return _tensor(data, **{"device": like.device, "dtype": like.dtype, **how})


def _as_tensor(data: Any, *, device: Any = None, dtype: torch.dtype | None = None) -> Tensor:
    made = data if isinstance(data, Tensor) else _MADE(data)
    return made.to(made.device if device is None else device, dtype or made.dtype)


def _unpretended(value: Any) -> Any:
    if isinstance(value, Pretended):
        return value.numbers
    return _CPU if isinstance(value, torch.device) and value == GPU else value


def _place(func: Any, args: Sequence[Any], leaves: Sequence[Any]) -> torch.device:
    """Where what an operation gives would be.

    Raises:
        RuntimeError: it takes tensors of two devices, or draws by a generator of another.
    """
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    assert all(isinstance(one, Pretended) for one in tensors if one.device == GPU), f"{func} takes what has no numbers"
    place = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    if func.overloadpacket in _COPIES:
        place = place or args[0].device
    else:
        together = tensors
        if func.overloadpacket in _INDICES and args[0].device == GPU:  # whose indices may lie anywhere
            together = [one for one in (args[0], *args[2:]) if isinstance(one, Tensor)]
        several = {one.device for one in together if one.ndim or one.device == GPU}
        if len(several) > 1:
            shapes = ", ".join(f"{tuple(one.shape)} on {one.device}" for one in tensors)
            raise RuntimeError(f"{func} takes tensors of two devices: {shapes}")
        place = place or next(iter(several), _CPU)
    if any(isinstance(leaf, torch.Generator) and leaf.device != place for leaf in leaves):
        raise RuntimeError(f"{func} draws on {place} by a generator of another device")
    return place
