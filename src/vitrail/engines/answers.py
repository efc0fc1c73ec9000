"""A network in bfloat16 whose answers are still what they were: float32."""

from typing import Any

import torch
from torch import Tensor

from vitrail.models.model import Model

ANSWERS = ("forward", "encode_image", "encode_text")
"""The methods whose results users take away, where a network has them."""


class Answer:
    """A method whose result is cast to another float type."""

    def __init__(self, model: Model, name: str, dtype: torch.dtype) -> None:
        self.model, self.name, self.dtype = model, name, dtype

    def __call__(self, *given: Any, **named: Any) -> Any:
        """As the method's own."""
        said = getattr(type(self.model), self.name)(self.model, *given, **named)
        return said.to(self.dtype) if isinstance(said, Tensor) and said.is_floating_point() else said


def keep_answers(model: Model, dtype: torch.dtype) -> None:
    """Have the network answer in this float type, whatever it computes in."""
    for name in ANSWERS:
        if hasattr(type(model), name):
            setattr(model, name, Answer(model, name, dtype))
