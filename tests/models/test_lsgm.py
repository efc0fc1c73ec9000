"""LSGM: its bound, its two kinds of gradients, its pictures."""

import math
from dataclasses import replace

import pytest
import torch

import vitrail
from vitrail.errors import UsageError
from vitrail.imaging.preprocess import standard
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.ddpm import DDPMConfig
from vitrail.models.lsgm import LSGM, LSGMConfig, logistic_log_likelihood

SMALL = LSGMConfig(
    autoencoder=AutoencoderKLConfig(image_size=8, latent_channels=2, widths=(8, 8), depth=1, groups=4),
    prior=DDPMConfig(image_size=4, channels=2, outputs=2, widths=(8, 8), depth=1, attention=(False, True), groups=4),
)


def lively(config: LSGMConfig = SMALL) -> LSGM:
    model = LSGM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def inputs(count: int = 3) -> tuple[torch.Tensor, ...]:
    images = torch.randint(256, (count, 3, 8, 8)) / 127.5 - 1
    return images, torch.rand(count), torch.randn(count, 2, 4, 4), torch.randn(count, 2, 4, 4)


def gradients(model: LSGM, loss: torch.Tensor, part: str) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(getattr(model, part).parameters()), retain_graph=True))


@pytest.mark.parametrize("weighting", ["likelihood", "unweighted", "reweighted"])
def test_encoder_and_decoder_follow_the_bound_and_the_prior_its_own_weighting(weighting):
    model = lively()
    images, time, draw, noise = inputs()
    bound = model.bound(images, time, draw, noise)
    bits = (bound.total() / (images[0].numel() * math.log(2))).mean()
    loss = model.loss(images, time, draw, noise, weighting=weighting)
    torch.testing.assert_close(loss, bits)
    for found, expected in zip(
        gradients(model, loss, "autoencoder"), gradients(model, bits, "autoencoder"), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(one, model.log_scale, retain_graph=True) for one in (loss, bits)))

    variance = model.schedule.variance(time)
    own = {"likelihood": 1 / (1 - variance), "unweighted": time**0, "reweighted": variance / (1 - variance)}[weighting]
    posterior = model.autoencoder.posterior(images)
    latents = posterior.mean + (posterior.log_variance / 2).exp() * draw
    error = (noise - model.noise_in(model.schedule.diffuse(latents, noise, time), time)).square().flatten(1)
    alone = (own * error.mean(1) / 2).mean()
    for found, expected in zip(gradients(model, loss, "prior"), gradients(model, alone, "prior"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(one, model.mixing, retain_graph=True) for one in (loss, alone)))


def test_every_parameter_learns():
    model = lively()
    model.loss(*inputs()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_kl_counts_in_the_gradients_and_not_in_the_value():
    model, given = lively(), inputs()
    whole, none = model.loss(*given), model.loss(*given, kl=0.0)
    torch.testing.assert_close(whole, none)
    images, time, draw, noise = given
    reconstruction = model.bound(images, time, draw, noise).reconstruction.mean() / (images[0].numel() * math.log(2))
    for found, expected in zip(
        gradients(model, none, "autoencoder"), gradients(model, reconstruction, "autoencoder"), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("start", ["as built", "without mixing"])
def test_the_bound_of_a_standard_normal_prior_is_the_usual_one(start):
    model = (LSGM(SMALL) if start == "as built" else lively(replace(SMALL, mixing=1e-9))).eval()
    images = inputs(1)[0].repeat(4000, 1, 1, 1)
    time = (torch.arange(4000) + 0.5) / 4000
    draw, noise = torch.randn(2, 4000, 2, 4, 4)
    bound = model.bound(images, time, draw, noise)
    divergence = (bound.negative_entropy + bound.cross_entropy).mean().item()
    expected = model.autoencoder.posterior(images[:1]).kl().item()
    assert divergence == pytest.approx(expected, abs=1.5)  # of 32 latents


@torch.no_grad()
def test_the_prior_s_network_says_the_velocity():
    model = lively(replace(SMALL, mixing=1 - 1e-7)).eval()
    noisy, time = torch.randn(3, 2, 4, 4), torch.rand(3)
    variance = model.schedule.variance(time)[:, None, None, None]
    noise = model.noise_in(noisy, time)
    clean = (noisy - variance.sqrt() * noise) / (1 - variance).sqrt()
    velocity = (1 - variance).sqrt() * noise - variance.sqrt() * clean
    torch.testing.assert_close(model.prior(noisy, 1000 * time), velocity, rtol=1e-3, atol=1e-3)


def test_the_logistic_distribution_shares_out_all_of_itself():
    levels = torch.arange(256) / 127.5 - 1
    for mean, log_scale in ((0.3, -2.0), (-1.2, -4.0), (0.999, -6.0)):
        shares = logistic_log_likelihood(levels, torch.full((256,), mean), torch.tensor(log_scale)).exp()
        assert shares.sum().item() == pytest.approx(1, abs=1e-4)
    far = logistic_log_likelihood(torch.tensor([0.9]), torch.tensor([-0.9]), torch.tensor(-5.0))
    assert far.item() == pytest.approx(-1.8 * math.exp(5), rel=0.01)  # no logarithm of zero


@torch.inference_mode()
def test_bits_follow_from_the_dice_of_each_picture():
    model = lively().eval()
    images = inputs()[0]

    def bits(which: slice, *seeds: int) -> torch.Tensor:
        return model.bits(images[which], looks=2, dice=[torch.Generator().manual_seed(seed) for seed in seeds])

    found = bits(slice(3), 1, 2, 3)
    assert found.shape == (3,)
    torch.testing.assert_close(bits(slice(1, 2), 2), found[1:2])
    assert not torch.equal(bits(slice(1, 2), 7), found[1:2])


def test_it_makes_pictures_and_goes_through_a_file(tmp_path):
    model = lively().eval()
    model.preprocess = standard(8)
    pictures = model.generate(count=2, seed=3, num_steps=3)
    assert [picture.size for picture in pictures] == [(8, 8), (8, 8)]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    again = vitrail.load(vitrail.save(model, tmp_path / "lsgm.safetensors"))
    assert again.config == SMALL
    assert again.generate(seed=4, num_steps=3)[0].tobytes() == pictures[1].tobytes()
    with pytest.raises(UsageError, match="leave the prompt out"):
        model.generate("a frog")
    with pytest.raises(UsageError, match="multiples of 4 pixels, not 10×8"):
        model.generate(size=(8, 10))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prior": DDPMConfig(channels=3, outputs=2)}, "latents have 2 channels"),
        ({"variance_min": 0.0}, "variance from 0.0"),
        ({"mixing": 1.0}, "mixing starts at 1.0"),
    ],
)
def test_configs_that_make_no_sense(changed, reason):
    with pytest.raises(ValueError, match=reason):
        replace(SMALL, **changed)
