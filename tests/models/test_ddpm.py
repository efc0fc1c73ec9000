"""DDPM and NCSN++ as networks."""

import pytest
import torch

from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.ncsnpp import NCSNpp, NCSNppConfig

PLAIN = DDPMConfig(widths=(16, 32), depth=1, attention=(False, True), groups=8)
SKIPS = NCSNppConfig(image_size=32, widths=(16, 32), depth=1, attention=(False, True))


def lively(model: torch.nn.Module) -> torch.nn.Module:
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(("kind", "config"), [(DDPM, PLAIN), (NCSNpp, SKIPS)])
def test_they_start_at_zero_and_every_parameter_learns(kind, config):
    images, times = torch.randn(2, 3, 8, 12), torch.tensor([0.5, 3.0])
    assert not kind(config)(images, times).any()
    model = lively(kind(config))
    predicted = model(images, times)
    assert predicted.shape == (2, 3, 8, 12)
    predicted.square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


@pytest.mark.parametrize(("kind", "config"), [(DDPM, PLAIN), (NCSNpp, SKIPS)])
@torch.inference_mode()
def test_the_time_matters_and_rows_do_not_mix(kind, config):
    model = lively(kind(config)).eval()
    images = torch.randn(1, 3, 8, 8).repeat(2, 1, 1, 1)
    both = model(images, torch.tensor([1.0, 5.0]))
    assert not torch.allclose(both[0], both[1], rtol=0.01)
    torch.testing.assert_close(model(images[:1], torch.tensor([5.0])), both[1:])


@pytest.mark.parametrize(("kind", "config"), [(DDPM, PLAIN), (NCSNpp, SKIPS)])
@pytest.mark.parametrize(
    ("shape", "reason"), [((1, 8, 8), "3 channels, not 1"), ((3, 8, 7), "multiples of 2, not 8×7")]
)
def test_pictures_it_does_not_take(kind, config, shape, reason):
    with pytest.raises(ValueError, match=reason):
        kind(config)(torch.randn(1, *shape), torch.ones(1))


def test_configs_that_say_too_little():
    with pytest.raises(ValueError, match="2 widths, and for 1"):
        DDPMConfig(widths=(16, 32), attention=(True,))
    with pytest.raises(ValueError, match="heads of 5"):
        DDPM(DDPMConfig(widths=(16, 32), attention=(False, True), groups=8, head_width=5))


@torch.inference_mode()
def test_ncsnpp_can_center_its_pictures():
    centers = lively(NCSNpp(SKIPS))
    plain = NCSNpp(NCSNppConfig(**{**vars(SKIPS), "center_input": False}))
    plain.load_state_dict(centers.state_dict())
    images, sigmas = torch.rand(2, 3, 8, 8), torch.tensor([0.1, 10.0])
    torch.testing.assert_close(centers(images, sigmas), plain(2 * images - 1, sigmas))
