"""The nonlinearities that published configurations name."""

from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x σ(1.702 x), the sigmoid approximation of GELU. Hendrycks and Gimpel 2016 (1606.08415), §2."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * (1.702 * x).sigmoid()


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The activation of that name: gelu, gelu_tanh, quick_gelu, relu, relu6, silu or tanh.

    Raises:
        ValueError: the name is none of these.
    """
    if name == "gelu_tanh":  # GELU with the tanh approximation, Hendrycks and Gimpel 2016, §2
        return nn.GELU(approximate="tanh")
    if name not in _ACTIVATIONS:
        known = ", ".join(sorted([*_ACTIVATIONS, "gelu_tanh"]))
        raise ValueError(f"unknown activation '{name}'; known are {known}")
    return _ACTIVATIONS[name]()
