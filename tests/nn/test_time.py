"""How a network is told the time."""

import math

import torch

from vitrail.nn.time import FourierFeatures, TimeMLP, sinusoids


def test_the_waves_by_their_definition():
    waves = sinusoids(torch.tensor([0, 7]), 6)
    assert waves.dtype == torch.float32
    lengths = [1, 10000 ** (1 / 3), 10000 ** (2 / 3)]
    expected = [math.cos(7 / length) for length in lengths] + [math.sin(7 / length) for length in lengths]
    torch.testing.assert_close(waves, torch.tensor([[1.0, 1, 1, 0, 0, 0], expected]))


def test_the_paper_s_order_and_wavelengths():
    waves = sinusoids(torch.tensor([7]), 6, cosine_first=False, shift=1)
    lengths = [1, 100, 10000]
    expected = [math.sin(7 / length) for length in lengths] + [math.cos(7 / length) for length in lengths]
    torch.testing.assert_close(waves, torch.tensor([expected]))


def test_fourier_features_are_those_of_the_logarithm():
    features = FourierFeatures(4, scale=0.5)
    sigmas = torch.tensor([0.01, 1.0, 50.0])
    found = features(sigmas)
    assert found.shape == (3, 8)
    torch.testing.assert_close(found[1], torch.tensor([0.0] * 4 + [1.0] * 4))  # log 1 = 0
    angles = 2 * math.pi * features.frequencies * math.log(50)
    torch.testing.assert_close(found[2], torch.cat([angles.sin(), angles.cos()]))
    assert not features.frequencies.requires_grad


def test_the_mlp_computes_in_its_weights_dtype():
    mlp = TimeMLP(6, 10).bfloat16()
    assert mlp(sinusoids(torch.tensor([3, 4, 5]), 6)).shape == (3, 10)
    assert mlp(sinusoids(torch.tensor([3]), 6)).dtype == torch.bfloat16


def test_frequencies_are_never_rounded():
    features = FourierFeatures(64)
    sigmas = torch.tensor([0.01, 1348.0])
    exact, expected = features.frequencies.clone(), features(sigmas)
    for cast in (features.bfloat16, features.half):
        assert torch.equal(cast().frequencies, exact)
        assert torch.equal(features(sigmas), expected)
    assert not features.frequencies.requires_grad
    assert torch.equal(features.double().frequencies, exact.double())
    with torch.device("meta"):
        features = FourierFeatures(64)
    assert features.bfloat16().to_empty(device="cpu").frequencies.dtype == torch.float32
