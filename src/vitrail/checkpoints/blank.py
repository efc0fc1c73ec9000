"""Networks without memory and without numbers, to be given those of a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def blank() -> Iterator[None]:
    """What is built within is on the meta device, and draws no first weights.

    PyTorch would go through the motions of drawing them, and for that import its compiler, which takes longer than all
    else that loading does.
    """
    with torch.device("meta"), _Undrawn():
        yield


_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    *(function for name, function in vars(nn.init).items() if name.endswith("_") and not name.startswith("_")),
}


class _Undrawn(TorchFunctionMode):
    """Leaves alone a tensor that would be filled with first weights."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
