"""Learning to draw pictures from fewer numbers than they have: the losses, a run that learns, and its scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vitrail
from tests.training.small import SMALL
from tests.training.test_loop import losses
from vitrail.data.source import normalise
from vitrail.errors import UsageError
from vitrail.evaluation.reconstruction import ReconstructionScores
from vitrail.training.autoencoding import Autoencoding, AutoencodingSection, perceptual
from vitrail.training.family import build_model
from vitrail.training.loop import evaluate, open_data, train
from vitrail.training.recipe import Recipe, parse_recipe

KL = {
    "family": "autoencoder-kl",
    "image_size": 16,
    "widths": [16, 24],
    "depth": 1,
    "latent_channels": 8,
    "groups": 4,
    "middle_attention": False,
}
VQ = {**KL, "family": "vq-autoencoder", "codes": 64, "code_width": 8}
AUTOENCODING: dict[str, Any] = {
    **SMALL,
    "model": KL,
    "data": {"source": "glyphs", "generated": 24, "hold_out_combinations": True, "background": "white"},
    "objective": {"name": "autoencoding"},
    "precision": "fp32",
    "evaluation": {"every": 1000, "samples": 4},
    "checkpoint": {"every": 1000},
}


def autoencoding(**changes: Any) -> Recipe:
    return parse_recipe({**AUTOENCODING, **changes})


def trainable(model: dict[str, Any], **keys: Any) -> Autoencoding:
    network = build_model(model["family"], autoencoding(model=model).model.config())
    return Autoencoding(network, AutoencodingSection(name="autoencoding", **keys))  # type: ignore[arg-type]


def test_the_loss_is_the_error_and_what_keeps_latents_in_order():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    learner = trainable(KL, kl=0.0)
    torch.manual_seed(1)
    bare = learner(images)
    torch.manual_seed(1)
    latents = (posterior := learner.network.posterior(images)).sample()
    torch.testing.assert_close(bare, F.l1_loss(learner.network.decode(latents), images))
    torch.manual_seed(1)
    ordered = Autoencoding(learner.network, AutoencodingSection(name="autoencoding", kl=0.5))(images)
    nats = posterior.kl().sum() / (2 * 8 * 8 * 8)  # a latent, of which a picture has 8 of 8 by 8
    torch.testing.assert_close(ordered - bare, 0.5 * nats)
    words = trainable(VQ, codebook=2.0)
    back, quantised = words.network(images)
    torch.testing.assert_close(words(images), F.l1_loss(back, images) + 2 * quantised.loss)


def test_the_perceptual_error_sees_a_change_and_passes_gradients():
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert perceptual(images, images).item() == 0
    made = (0.9 * images).requires_grad_()
    near, far = perceptual(made, images), perceptual(images.flip(3), images)
    assert 0 < near.item() < far.item()
    near.backward()
    assert made.grad is not None
    assert made.grad.abs().max() > 0
    learner = trainable(KL, perceptual=1.0)
    learner(images).backward()
    assert all(weight.grad is not None for weight in learner.network.parameters())
    assert len(list(learner.parameters())) == len(list(learner.network.parameters()))  # the encoder does not learn


def test_signal_to_noise_and_likeness_are_the_known_ones():
    scores = ReconstructionScores()
    pictures = torch.rand(3, 3, 16, 16) * 1.9 - 0.95
    off = torch.stack([pictures + 0.02, pictures], 1)
    scores.update(off[:2], torch.zeros(2))
    scores.update(off[2:], torch.zeros(1))
    found = scores.compute()
    assert found["psnr"] == pytest.approx(40.0, abs=1e-3)  # 20 log₁₀(2 / 0.02)
    assert 0.99 < found["ssim"] < 1
    other = ReconstructionScores()
    other.update(torch.stack([pictures.flip(0), pictures], 1)[:1], torch.zeros(1))
    assert other.compute()["ssim"] < 0.3


@pytest.mark.parametrize(("model", "steps"), [(KL, 100), (VQ, 160)], ids=["kl", "vq"])
def test_a_run_learns_to_draw_what_it_saw(model: dict[str, Any], steps: int, tmp_path: Path):
    recipe = autoencoding(model=model, steps=steps, batch_size=32, optimiser={"lr": 5e-3}, ema=0.9, log_every=10)
    run = train(recipe, output=tmp_path / "run")
    curve = losses(run.folder)
    assert curve[steps] < 0.5 * curve[10]
    data = open_data(recipe)
    real = normalise(data.test.batch(torch.arange(len(data.test)), None)["images"])
    plain = ReconstructionScores()  # the mean of all pictures in the place of each
    plain.update(torch.stack([real.mean(0, keepdim=True).expand_as(real), real], 1), torch.zeros(len(real)))
    assert run.scores["psnr"] > plain.compute()["psnr"] + 1.5
    assert run.scores["ssim"] > plain.compute()["ssim"] + 0.1
    again = evaluate(run.folder).scores
    assert again["psnr"] == pytest.approx(run.scores["psnr"], abs=0.3)
    (sheet,) = (run.folder / "samples").iterdir()
    with Image.open(sheet) as drawn:
        assert drawn.width > 4 * 2 * 100  # pairs, side by side
    loaded = vitrail.load(str(run.model))
    with torch.inference_mode():
        assert loaded.decode(loaded.encode(real)).shape == real.shape


def test_other_networks_are_refused():
    with pytest.raises(UsageError, match="'vit' make no pictures"):
        open_data(autoencoding(model=SMALL["model"]))
    with pytest.raises(UsageError, match="which vit is not trained by: use autoencoder-kl"):
        AutoencodingSection(name="autoencoding").trainable(
            build_model("vit", autoencoding(model=SMALL["model"]).model.config(3))
        )
