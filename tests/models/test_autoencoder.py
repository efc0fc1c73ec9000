"""Both autoencoders: the grid, bounded memory, words that learn, and what they refuse."""

import pytest
import torch
from torch import nn

import vitrail
from vitrail.errors import CheckpointError, UsageError
from vitrail.imaging.preprocess import HALF, Preprocess
from vitrail.models import autoencoder
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig, DiagonalGaussian
from vitrail.models.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig

SMALL = {"image_size": 32, "widths": (8, 12), "depth": 1, "groups": 4}


def kl() -> AutoencoderKL:
    return AutoencoderKL(AutoencoderKLConfig(**SMALL)).eval()


def vq() -> VQAutoencoder:
    model = VQAutoencoder(VQAutoencoderConfig(**SMALL, codes=20, code_width=4, latent_channels=4)).eval()
    nn.init.normal_(model.codebook.weight)
    return model


@pytest.mark.parametrize("make", [kl, vq])
@torch.inference_mode()
def test_there_and_back(make):
    model = make()
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    latents = model.encode(images)
    assert latents.shape == (2, 4, 8, 12)
    assert model.decode(latents).shape == images.shape
    assert torch.equal(model.features(images), latents)


@pytest.mark.parametrize("make", [kl, vq])
@torch.inference_mode()
def test_what_comes_in_takes_the_weights_dtype(make):
    model = make().bfloat16()
    latents = model.encode(torch.rand(1, 3, 16, 16))
    assert latents.dtype == torch.bfloat16
    assert model.decode(latents.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(15, 16), (16, 17), (0, 16)])
def test_a_picture_that_does_not_fit_the_grid(size):
    with pytest.raises(UsageError, match=f"{size[1]}×{size[0]} pixels .* multiples of 2"):
        kl().encode(torch.zeros(1, 3, *size))


def test_a_tile_that_is_too_small():
    with pytest.raises(UsageError, match="a tile of 3 pixels"):
        kl().decode(torch.zeros(1, 4, 8, 8), tile=3)


def test_there_is_no_vector_of_a_picture():
    with pytest.raises(UsageError, match="as a whole"):
        kl().pool(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("make", [kl, vq])
def test_a_large_batch_takes_turns_and_gives_the_same(make, monkeypatch):
    model = make()
    images = torch.rand(5, 3, 16, 16)
    calls = []
    model.decoder.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    with torch.inference_mode():
        latents, made = model.encode(images), model.decode(model.encode(images))
        monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 2 * 16 * 16)
        torch.testing.assert_close(model.encode(images), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.decode(latents), made, rtol=1e-4, atol=1e-5)
    model.decode(latents.clone())  # learning
    assert calls == [5, 2, 2, 1, 5]


@torch.inference_mode()
def test_channels_last_gives_the_same(monkeypatch):
    model, images = kl(), torch.rand(2, 3, 16, 16)
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride(1)))
    plain = model(images)
    monkeypatch.setattr(autoencoder, "PIXELS_FOR_LAST", 1)
    last = model(images)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)
    assert last.is_contiguous()
    assert seen == [16 * 16, 1]


def local(model: AutoencoderKL) -> AutoencoderKL:
    """The same network with nothing in it that sees the whole picture: no attention, and norms that do nothing."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.GroupNorm) or name.endswith("middle.1"):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Identity())
    return model


@torch.inference_mode()
def test_tiles_of_a_local_network_differ_where_they_end_alone():
    """As far in as its convolutions do not see beyond the tile it is as if there were none."""
    model = local(kl())
    latents = torch.randn(1, 4, 24, 24)
    whole, tiled = model.decode(latents), model.decode(latents, tile=32)
    difference = (whole - tiled).abs().mean((0, 1))
    assert difference[:8, :8].max() < 1e-5  # two latents and more from where the first tile ends
    assert difference.max() < 0.2 * whole.std()


@pytest.mark.parametrize("make", [kl, vq])
@torch.inference_mode()
def test_tiles_of_a_whole_network_are_near(make):
    model = make()
    smooth = nn.functional.interpolate(torch.randn(1, 3, 4, 4), size=(64, 64), mode="bicubic")
    latents = model.encode(smooth)
    whole, tiled = model.decode(latents), model.decode(latents, tile=32)
    assert whole.shape == tiled.shape
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().mean() < 0.5 * whole.std()
    there = model.encode(smooth, tile=32)
    assert there.shape == latents.shape
    assert (there - latents).abs().mean() < 0.5 * latents.std()


def test_a_gaussian():
    gaussian = DiagonalGaussian(
        torch.full((2, 1, 100, 100), 3.0), torch.full((2, 1, 100, 100), 2 * torch.log(torch.tensor(2.0)).item())
    )
    drawn = gaussian.sample(torch.Generator().manual_seed(0))
    assert abs(drawn.mean() - 3) < 0.1
    assert abs(drawn.std() - 2) < 0.1
    assert torch.equal(drawn, gaussian.sample(torch.Generator().manual_seed(0)))
    normal = torch.distributions.Normal(0.0, 1.0)
    one = torch.distributions.kl_divergence(torch.distributions.Normal(3.0, 2.0), normal)
    torch.testing.assert_close(gaussian.kl(), torch.full((2,), 10_000 * one.item()))


def test_the_nearest_word():
    model = vq()
    latents = torch.randn(2, 4, 3, 5)
    quantised = model.quantise(latents)
    distances = (latents[:, None] - model.codebook.weight[None, :, :, None, None]).norm(dim=2)
    assert torch.equal(quantised.ids, distances.argmin(1))
    torch.testing.assert_close(quantised.latents, model.lookup(quantised.ids))
    assert torch.equal(model.quantise(model.lookup(quantised.ids)).ids, quantised.ids)
    torch.testing.assert_close(model.decode_ids(quantised.ids), model.decode(latents), rtol=1e-4, atol=1e-5)


def test_words_found_in_turns(monkeypatch):
    model, latents = vq(), torch.randn(2, 4, 3, 5)
    ids = model.quantise(latents).ids
    monkeypatch.setattr("vitrail.models.vq_autoencoder.DISTANCES_AT_ONCE", 70)
    assert torch.equal(model.quantise(latents).ids, ids)


def test_gradients_pass_through_words():
    model = vq()
    latents = torch.randn(1, 4, 3, 3, requires_grad=True)
    quantised = model.quantise(latents)
    wanted = torch.randn_like(latents)
    (quantised.latents * wanted).sum().backward()
    assert torch.equal(latents.grad, wanted)  # as if nothing had been done
    assert model.codebook.weight.grad is None
    latents.grad = None
    model.quantise(latents).loss.backward()
    words = model.lookup(quantised.ids).detach()
    torch.testing.assert_close(latents.grad, 0.25 * 2 * (latents - words).detach() / latents.numel())
    used = quantised.ids.unique()
    assert set(model.codebook.weight.grad.abs().sum(1).nonzero().flatten().tolist()) == set(used.tolist())


@pytest.mark.parametrize("id", [-1, 20])
def test_a_word_there_is_not(id):
    with pytest.raises(UsageError, match="from 0 to 19"):
        vq().decode_ids(torch.full((1, 2, 2), id))


def test_words_learn():
    """Loss falls: encoder, words and decoder all move."""
    torch.manual_seed(0)
    model = vq().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    images = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16) * 2 - 1
    losses = []
    for _ in range(40):
        made, quantised = model(images)
        loss = nn.functional.mse_loss(made, images) + quantised.loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize("make", [kl, vq])
@torch.inference_mode()
def test_in_a_file_of_our_own(make, tmp_path):
    model = make()
    model.preprocess = Preprocess(None, mean=HALF, std=HALF)
    images = torch.rand(1, 3, 16, 16)
    vitrail.save(model, tmp_path / "own.safetensors")
    again = vitrail.load(tmp_path / "own.safetensors")
    assert again.config == model.config
    torch.testing.assert_close(again.decode(again.encode(images)), model.decode(model.encode(images)))


@torch.inference_mode()
def test_pictures_are_prepared_to_the_range(tmp_path):
    model = kl()
    model.preprocess = Preprocess(None, mean=HALF, std=HALF)
    vitrail.save(model, tmp_path / "theirs", layout="diffusers")
    prepared = vitrail.load(tmp_path / "theirs").preprocess(torch.tensor([[[0, 128, 255]] * 2] * 2).byte().numpy())
    assert prepared.shape == (1, 3, 2, 2)
    assert prepared.min() == -1
    assert prepared.max() == 1


def test_a_class_of_diffusers_that_nobody_knows(tmp_path):
    model = kl()
    model.preprocess = Preprocess(None, mean=HALF, std=HALF)
    folder = vitrail.save(model, tmp_path / "theirs", layout="diffusers")
    config = folder / "config.json"
    config.write_text(config.read_text().replace("AutoencoderKL", "AutoencoderOobleck"))
    with pytest.raises(CheckpointError, match="_class_name 'AutoencoderOobleck'"):
        vitrail.load(folder)
