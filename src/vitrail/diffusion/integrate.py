"""An ordinary differential equation, solved to a tolerance."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vitrail.errors import VitrailError

# Dormand & Prince 1980, "A family of embedded Runge-Kutta formulae", table 2: RK5(4)7M.
_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # the fifth-order result itself
)
_FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_FIRST = 0.5  # of the time in which y changes by 1 + |y|: a longer first step may pass over what it should see
_ERROR = tuple(fifth - fourth for fifth, fourth in zip((*_STAGES[6], 0.0), _FOURTH, strict=True))


def integrate(
    slope: Callable[[float, Tensor], Tensor], y: Tensor, start: float, end: float, tolerance: float = 1e-5
) -> Tensor:
    """y(end), where dy/dt = slope(t, y) and y(start) = y. Dormand and Prince's pair of order 5(4), adaptive.

    A step is taken where the two orders agree to `tolerance` · (1 + |y|) in root mean square over all of y, and the
    next is as long as that error allows (Hairer, Nørsett & Wanner, "Solving Ordinary Differential Equations I", II.4).

    Args:
        slope: (t, y (B, …)) -> (B, …).
        y: (B, …), of a floating type.
        start: where y is known.
        end: where it is wanted, before `start` or after it.
        tolerance: relative to y, and absolute; in float32 not below 1e-6.

    Raises:
        VitrailError: where the steps it would take are too short to count: the slope is not a number, or not smooth.
    """
    if start == end:
        return y
    at, first = start, slope(start, y)
    step = math.copysign(min(abs(end - start), _FIRST / max(_size(first, y), 1e-10)), end - start)
    while abs(end - at) > 1e-12 * abs(end - start):
        step = step if abs(step) < abs(end - at) else end - at
        slopes = [first]
        for node, weights in zip(_NODES[1:], _STAGES[1:], strict=True):
            there = y + step * _weighted(weights, slopes)
            slopes.append(slope(at + node * step, there))
        error = abs(step) * _size(_weighted(_ERROR, slopes), torch.maximum(y.abs(), there.abs())) / tolerance
        if error <= 1:
            at, y, first = at + step, there, slopes[-1]  # the last slope is the next step's first
        step *= min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2)) if error == error else 0.2
        if abs(step) < 1e-9 * abs(end - start):
            raise VitrailError(
                f"the ODE cannot be solved to {tolerance:g}: its slope is not smooth, or not finite; "
                "allow a larger tolerance, or take another sampler"
            )
    return y


def _size(values: Tensor, beside: Tensor) -> float:
    """Root mean square of values / (1 + |beside|)."""
    return (values / (1 + beside.abs())).square().mean().sqrt().item()


def _weighted(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        total = total + weight * slope
    return total
