"""Linear maps and convolutions with their weights laid out once for oneDNN, instead of at every call.

The same products in the same precision, in another order of summation. On processors where PyTorch's default float32
product (MKL's) does not use the widest instructions this alone doubles the speed; in bfloat16, and of a convolution in
either precision, it saves reordering the weights at every call, which is what a small batch of small pictures mostly
waits for.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vitrail.checkpoints.mapped import release
from vitrail.engines.memory import keep_memory
from vitrail.nn.convolution import Convolution, ConvolutionNorm
from vitrail.nn.mlp import MLP

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far a packed product may be from the plain one, relative to the largest number of it."""

CORNER = 8
"""Side in pixels of what a packed convolution is tried on."""


def can_pack(weight: Tensor) -> bool:
    """Whether this machine and this build of torch can run a product with this weight packed."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pack(model: nn.Module) -> None:
    """Run every linear map and convolution of `model` packed where no gradient is wanted. Its parameters stay."""
    keep_memory()
    for module in model.modules():
        packed = next((kind for kind in KINDS if kind.suits(module)), None)
        if packed is not None:
            module.forward = packed(module)


class Packed(ABC):
    """What stands in for the `forward` of a module with a product in it.

    Its weight is packed at the first call without gradients, and again whenever it was moved, replaced or changed in
    place; then a part of what came in is multiplied both ways, and where they differ by more than `TOLERANCE` the plain
    product runs from then on. With gradients, in training that is, the plain product runs.
    """

    kind: ClassVar[type[nn.Module]]

    def __init__(self, module: Any) -> None:
        self.module = module
        self.packed: Tensor | None = None
        self.packed_of: tuple[Any, ...] | None = None

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether this may stand in for a module's `forward`; not so where a class has one of its own."""
        return type(module) is cls.kind

    @property
    def weight(self) -> Tensor:
        """What is packed."""
        return self.module.weight

    def __call__(self, input: Tensor) -> Tensor:
        """As the module's own."""
        weight = self.weight
        suits = input.dtype == weight.dtype and input.numel() > 0
        if not suits or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.plain(input)
        state = self.state(input)
        if state != self.packed_of:
            self._pack(weight, input)
            self.packed_of = state
        return self.plain(input) if self.packed is None else self.product(input, self.packed)

    def state(self, input: Tensor) -> tuple[Any, ...]:
        """What the packed weight depends on: while it is the same for an input, so is the weight."""
        return state_of(self.weight)

    @abstractmethod
    def plain(self, input: Tensor) -> Tensor:
        """What the module's own `forward` gives."""

    @abstractmethod
    def lay_out(self, weight: Tensor, input: Tensor) -> Tensor:
        """The weight as oneDNN wants it for inputs such as this."""

    @abstractmethod
    def product(self, input: Tensor, packed: Tensor) -> Tensor:
        """The same as `plain` with a weight that was laid out."""

    @abstractmethod
    def part(self, input: Tensor) -> Tensor:
        """A small part of an input, to try both products on."""

    def _pack(self, weight: Tensor, input: Tensor) -> None:
        """Pack a weight where that can be, and keep it only if it gives what the plain product gives."""
        self.packed = None
        if not can_pack(weight):
            return
        part = self.part(input.detach())
        packed = self.lay_out(weight.detach(), input)
        plain = self.plain(part).float()
        difference = (self.product(part, packed).float() - plain).abs().max()
        self.packed = packed if difference <= TOLERANCE[weight.dtype] * plain.abs().max() else None
        if self.packed is not None:
            release(weight)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied or pickled network packs its own weights."""
        return type(self), (self.module,)


class PackedLinear(Packed):
    """For an `nn.Linear`: (..., in) -> (..., out)."""

    kind: ClassVar[type[nn.Module]] = nn.Linear

    def plain(self, input: Tensor) -> Tensor:
        """By PyTorch's own product."""
        return nn.functional.linear(input, self.module.weight, self.module.bias)

    def lay_out(self, weight: Tensor, input: Tensor) -> Tensor:
        """For any number of rows."""
        return torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def product(self, input: Tensor, packed: Tensor) -> Tensor:
        """The packed weight's product, and the bias."""
        return torch.ops.mkldnn._linear_pointwise(input, packed, self.module.bias, "none", [], "")

    def part(self, input: Tensor) -> Tensor:
        """The first row."""
        return input.reshape(-1, input.shape[-1])[:1]


class PackedConvolution(Packed):
    """For an `nn.Conv2d` that sees all channels: (B, C, H, W) -> (B, D, H', W')."""

    kind = nn.Conv2d

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Not where channels are in groups, which gains nothing, and only with zeros around a picture."""
        return (
            super().suits(module)
            and isinstance(module, nn.Conv2d)
            and module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )

    def __call__(self, input: Tensor) -> Tensor:
        """As the module's own; a single picture (C, H, W) is left to it."""
        return super().__call__(input) if input.ndim == 4 else self.plain(input)

    def plain(self, input: Tensor) -> Tensor:
        """By PyTorch's own convolution."""
        module = self.module
        return nn.functional.conv2d(
            input, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
        )

    def lay_out(self, weight: Tensor, input: Tensor) -> Tensor:
        """For pictures of this size; those of others, and of other batches, were as fast with it."""
        module = self.module
        return torch.ops.mkldnn._reorder_convolution_weight(
            weight, module.padding, module.stride, module.dilation, module.groups, list(input.shape)
        )

    def product(self, input: Tensor, packed: Tensor) -> Tensor:
        """The packed weight's convolution, and the bias; a pixel's channels lie side by side, which is faster."""
        module, input = self.module, input.contiguous(memory_format=torch.channels_last)
        return torch.ops.mkldnn._convolution_pointwise(
            input, packed, module.bias, module.padding, module.stride, module.dilation, module.groups, "none", [], ""
        )

    def part(self, input: Tensor) -> Tensor:
        """A corner of the first picture, no smaller than the kernel."""
        convolution = self.module
        reach = [
            max(CORNER, dilation * (side - 1) + 1)
            for dilation, side in zip(convolution.dilation, convolution.kernel_size, strict=True)
        ]
        return input[:1, :, : reach[0], : reach[1]]


class PackedConvolutionNorm(Packed):
    """For a `ConvolutionNorm` that is not in training: the norm is in the packed weight, the activation in the product.

    (B, C, H, W) -> (B, D, H', W'). Batch normalisation with statistics that stay is a linear map of each channel. Zeros
    around a picture that are more behind than before become zeros before the kernel, and as many on either side.
    """

    kind = ConvolutionNorm
    bias: Tensor

    @property
    def weight(self) -> Tensor:
        """The convolution's."""
        return self.module.convolution.weight

    def __call__(self, input: Tensor) -> Tensor:
        """As the module's own; one that is in training, was changed since, or is watched, is left to itself."""
        parts = (self.module.convolution, self.module.norm, self.module.act)
        known = type(parts[0]) is Convolution and type(parts[1]) is nn.BatchNorm2d and type(parts[2]) in _POINTWISE
        watched = any(map(is_watched, parts))
        if not known or watched or parts[1].training or input.ndim != 4:
            return self.plain(input)
        return super().__call__(input)

    def state(self, input: Tensor) -> tuple[Any, ...]:
        """All that is in the packed weight, and where the zeros around this picture are."""
        norm = self.module.norm
        tensors = (self.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return (*(part for tensor in tensors for part in state_of(tensor)), self.module.convolution.margins(input))

    def plain(self, input: Tensor) -> Tensor:
        """What the three modules give."""
        return self.module.act(self.module.norm(self.module.convolution(input)))

    def lay_out(self, weight: Tensor, input: Tensor) -> Tensor:
        """With the norm, for pictures of this size."""
        convolution, norm = self.module.convolution, self.module.norm
        scale = norm.weight.float() / (norm.running_var.float() + norm.eps).sqrt()
        self.bias = (norm.bias.float() - norm.running_mean.float() * scale).to(weight.dtype)
        (top, bottom), (left, right) = convolution.margins(input)
        self.padding = (max(top, bottom), max(left, right))
        weight = (weight.float() * scale[:, None, None, None]).to(weight.dtype)
        weight = nn.functional.pad(weight, (self.padding[1] - left, 0, self.padding[0] - top, 0))
        return torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, convolution.stride, (1, 1), convolution.groups, list(input.shape)
        )

    def product(self, input: Tensor, packed: Tensor) -> Tensor:
        """The packed weight's convolution, the bias, and the activation."""
        convolution, (name, scalars) = self.module.convolution, _POINTWISE[type(self.module.act)]
        return torch.ops.mkldnn._convolution_pointwise(
            *(input, packed, self.bias, self.padding, convolution.stride, (1, 1), convolution.groups),
            *(name, scalars, ""),
        )

    def part(self, input: Tensor) -> Tensor:
        """The whole of the first picture: how it is padded depends on its size."""
        return input[:1]


class PackedMLP(PackedLinear):
    """For an `MLP` with a GELU, which the first product applies to what it writes: (..., D) -> (..., D)."""

    kind = MLP

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Not where there is another activation."""
        return super().suits(module) and isinstance(module, MLP) and isinstance(module.act, nn.GELU)

    @property
    def weight(self) -> Tensor:
        """The first map's."""
        return self.module.up.weight

    def __call__(self, input: Tensor) -> Tensor:
        """As the MLP's own; one whose first half was replaced since, or is watched, is left to itself."""
        up, act = self.module.up, self.module.act
        if type(up) is not nn.Linear or is_watched(up) or is_watched(act):
            return self.module.down(act(up(input)))
        return self.module.down(super().__call__(input))

    def plain(self, input: Tensor) -> Tensor:
        """By PyTorch's own product and GELU."""
        return self.module.act(nn.functional.linear(input, self.module.up.weight, self.module.up.bias))

    def product(self, input: Tensor, packed: Tensor) -> Tensor:
        """The packed weight's product, the bias, and the GELU."""
        up, act = self.module.up, self.module.act
        return torch.ops.mkldnn._linear_pointwise(input, packed, up.bias, "gelu", [], act.approximate)


_POINTWISE: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}
"""What oneDNN calls an activation that it applies to a convolution's output, and its numbers."""


def state_of(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor lies, and how often it was changed there: another where it was replaced or written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def is_watched(module: nn.Module) -> bool:
    """Whether somebody looks at what goes into a module or comes out of it, and so would miss its being passed by."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


KINDS: tuple[type[Packed], ...] = (PackedLinear, PackedConvolution, PackedConvolutionNorm, PackedMLP)
"""What is packed."""
