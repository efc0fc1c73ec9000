"""Networks are built without memory, without first weights, and without what PyTorch would import to draw them."""

import subprocess
import sys

import torch
from torch import nn

from vitrail.checkpoints.blank import blank


class Odd(nn.Module):
    """Every way in which networks here draw."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(5)
        self.tokens = nn.Embedding(7, 5)
        self.positions = nn.Parameter(torch.empty(4, 5).normal_(std=0.02))
        self.gain = nn.Parameter(torch.ones(5))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        nn.init.trunc_normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(tensor=self.linear.weight)
        nn.init.zeros_(self.linear.bias)


def test_shapes_without_numbers():
    with blank():
        made = Odd()
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in Odd().state_dict().items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in made.state_dict().items()} == expected
    assert all(tensor.is_meta for tensor in made.state_dict().values())


def test_it_ends():
    with blank():
        pass
    assert nn.init.ones_(torch.zeros(3)).tolist() == [1, 1, 1]
    assert torch.zeros(3).device.type == "cpu"


def test_loading_does_not_import_the_compiler():
    code = "import sys, vitrail; vitrail.load('efficientnet-lite0', engine='packed'); "
    code += "sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
