"""Group norm gives PyTorch's numbers, in whichever precision and layout."""

import pytest
import torch
from torch import nn

from vitrail.nn.norm import GroupNorm


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("side", [4, 24])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "weights"),
    [(torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16)],
)
def test_it_is_torch_s_own(
    dtype: torch.dtype, weights: torch.dtype, layout: torch.memory_format, side: int, learning: bool
):
    ours, theirs = GroupNorm(4, 16, eps=1e-5), nn.GroupNorm(4, 16, eps=1e-5)
    for weight in ours.parameters():
        nn.init.normal_(weight)
    theirs.load_state_dict(ours.to(weights).state_dict())
    exact = (torch.randn(2, 16, side, side) + 1).to(dtype).float()
    images = exact.to(dtype).contiguous(memory_format=layout).requires_grad_(learning)
    with torch.set_grad_enabled(learning):
        found, wanted = ours(images), theirs(exact.requires_grad_(learning))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=layout)
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.01, "atol": 0.01}
    torch.testing.assert_close(found.float(), wanted, **near)
    if learning:
        found.float().square().sum().backward()
        wanted.square().sum().backward()
        allowed = 1e-4 if dtype == torch.float32 else 0.02
        pairs = zip((images, *ours.parameters()), (exact, *theirs.parameters()), strict=True)
        for gradient, right in ((one.grad.float(), other.grad) for one, other in pairs):
            assert (gradient - right).norm() < allowed * right.norm()
