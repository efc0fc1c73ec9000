"""Linear maps with their weights laid out once for oneDNN, instead of at every call.

The same products in the same precision, in another order of summation. On processors where PyTorch's default float32
product (MKL's) does not use the widest instructions this alone doubles the speed; in bfloat16 it saves reordering the
weights at every call, which is what a small batch mostly waits for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vitrail.checkpoints.mapped import release

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far a packed product may be from the plain one, relative to the largest number of the row."""


def can_pack(weight: Tensor) -> bool:
    """Whether this machine and this build of torch can run a linear map of this weight packed."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pack(model: nn.Module) -> None:
    """Run every linear map of `model` packed where no gradient is wanted. Its parameters stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = PackedLinear(module)  # type: ignore[method-assign]


class PackedLinear:
    """What stands in for the `forward` of an `nn.Linear`.

    The weight is packed at the first call without gradients, and again whenever it was moved, replaced or changed in
    place; then the first row of what came in is multiplied both ways, and where they differ by more than `TOLERANCE`
    the plain product runs from then on. With gradients, in training that is, the plain product runs.
    """

    def __init__(self, linear: nn.Linear) -> None:
        self.linear = linear
        self.packed: Tensor | None = None
        self.packed_of: tuple[int, int] | None = None

    def __call__(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        linear, weight = self.linear, self.linear.weight
        suits = input.dtype == weight.dtype and input.numel() > 0
        if not suits or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return nn.functional.linear(input, weight, linear.bias)
        state = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if state != self.packed_of:
            self._pack(weight, input)
            self.packed_of = state
        if self.packed is None:
            return nn.functional.linear(input, weight, linear.bias)
        return _product(input, self.packed, linear.bias)

    def _pack(self, weight: Tensor, input: Tensor) -> None:
        """Pack a weight where that can be, and keep it only if it gives what the plain product gives."""
        self.packed = None
        if not can_pack(weight):
            return
        bias, row = self.linear.bias, input.detach().reshape(-1, input.shape[-1])[:1]
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        plain = nn.functional.linear(row, weight, bias).float()
        difference = (_product(row, packed, bias).float() - plain).abs().max()
        self.packed = packed if difference <= TOLERANCE[weight.dtype] * plain.abs().max() else None
        if self.packed is not None:
            release(weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedLinear":
        """A copied network packs its own weights."""
        copied = memo.get(id(self.linear))
        assert isinstance(copied, nn.Linear)  # its module is being copied around it
        return PackedLinear(copied)


def _product(input: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """The packed weight's product, and the bias."""
    return torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
