"""What the conditional UNet promises in Python, besides the reference's numbers."""

import pytest
import torch

import vitrail
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.unet import UNet, UNetConfig

SMALL = {
    "image_size": 8,
    "widths": (16, 32),
    "depths": (1, 2),
    "transformer_depths": (1, 0),
    "heads": (2, 4),
    "context_width": 12,
    "groups": 8,
}
XL = {**SMALL, "added_width": 75, "number_width": 10}


def unet(**changes: object) -> UNet:
    return UNet(UNetConfig(**{**SMALL, **changes})).eval()


@torch.inference_mode()
def test_shapes():
    model = unet(channels=9)
    assert model(torch.randn(2, 9, 8, 5), 3, torch.randn(2, 7, 12)).shape == (2, 4, 8, 5)
    assert model(torch.randn(1, 9, 3, 3), torch.tensor([3.5]), torch.randn(1, 1, 12)).shape == (1, 4, 3, 3)


@torch.inference_mode()
def test_what_was_looked_at_once_serves_every_step():
    model, x, text = unet(), torch.randn(2, 4, 8, 8), torch.randn(2, 7, 12)
    seen = model.look_at(text)
    assert len(seen) == 2 * (1 + 1 + 2)  # keys and values of one block down, one in the middle and two up
    assert all(len(part) == 2 for part in seen)
    for t in (900, 10):
        assert torch.equal(model(x, t, seen), model(x, t, text))


@torch.inference_mode()
def test_the_text_and_the_time_and_what_is_added_all_matter():
    model = unet(**XL)
    x, text, vector, sizes = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 12), torch.randn(1, 15), torch.ones(1, 6)
    first = model(x, 3, text, (vector, sizes))
    for other in (
        model(x, 800, text, (vector, sizes)),
        model(x, 3, text + 1, (vector, sizes)),
        model(x, 3, text, (vector + 1, sizes)),
        model(x, 3, text, (vector, 9 * sizes)),
    ):
        assert not torch.allclose(first, other, atol=1e-4)


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_batch():
    model, x, text, t = unet(), torch.randn(3, 4, 8, 8), torch.randn(3, 7, 12), torch.tensor([1, 500, 999])
    torch.testing.assert_close(model(x, t, text)[1:2], model(x[1:2], t[1:2], text[1:2]), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns():
    model = unet(**XL)
    model(torch.randn(2, 4, 8, 8), 3, torch.randn(2, 7, 12), (torch.randn(2, 15), torch.ones(2, 6))).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("changes", "what", "said"),
    [
        ({}, ((1, 3, 8, 8), (1, 7, 12), None), r"takes \(B, 4, H, W\), not \(1, 3, 8, 8\)"),
        ({}, ((1, 4, 8, 8), (1, 7, 13), None), r"reads texts \(B, N, 12\), not \(1, 7, 13\)"),
        ({}, ((1, 4, 8, 8), (1, 7, 12), (15, 6)), "is told nothing but a text's tokens"),
        (XL, ((1, 4, 8, 8), (1, 7, 12), None), "is told a text's vector and numbers, too"),
        (XL, ((1, 4, 8, 8), (1, 7, 12), (15, 5)), "a vector of 15 and 5 numbers of 10 waves are 65, .* is told 75"),
    ],
)
def test_what_does_not_fit_is_said(changes, what, said):
    x, text, added = what
    told = None if added is None else (torch.zeros(1, added[0]), torch.zeros(1, added[1]))
    with pytest.raises(ValueError, match=said):
        unet(**changes)(torch.zeros(x), 3, torch.zeros(text), told)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": (3, 4)}, "width 16 cannot be shared by 8 groups and 3 heads"),
        ({"groups": 5}, "width 16 cannot be shared"),
        ({"depths": (1,)}, r"depths \(1,\) are not one for each"),
        ({"depths": (1, 0)}, "each has a residual block"),
    ],
)
def test_configs_that_make_no_network(changes, said):
    with pytest.raises(ValueError, match=said):
        unet(**changes)


def test_a_middle_that_diffusers_cannot_say(tmp_path):
    model = unet(transformer_depths=(0, 2), middle_depth=1)
    model.preprocess = Preprocess(resize=None)
    with pytest.raises(CheckpointError, match="as deep as on its last level: 2, not 1"):
        vitrail.save(model, tmp_path / "it", layout="diffusers")
    again = vitrail.load(vitrail.save(model, tmp_path / "it.safetensors"))
    assert again.config == model.config
