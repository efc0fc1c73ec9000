"""Learning to draw what a text asks for: the data, the loss, and a run that learns."""

from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from tests.training.small import SMALL
from tests.training.test_loop import losses
from vitrail.errors import UsageError
from vitrail.models.latent_diffusion import LatentDiffusion
from vitrail.training.family import build_model
from vitrail.training.imagining import Imagining
from vitrail.training.loop import evaluate, freeze, open_data, train
from vitrail.training.recipe import Recipe, parse_recipe

AUTOENCODER = {
    "image_size": 16,
    "latent_channels": 4,
    "widths": [8, 16],
    "depth": 1,
    "middle_attention": False,
    "groups": 4,
    "scaling_factor": 1.0,
}
IMAGINING: dict[str, Any] = {
    **SMALL,
    "model": {
        "family": "latent-diffusion",
        "image_size": 16,
        "autoencoder": AUTOENCODER,
        "text": {"context": 16, "width": 32, "depth": 1, "heads": 2, "mlp_width": 64},
        "vector_width": 16,
        "denoiser": {
            "grid": 8,
            "channels": 4,
            "patch_size": 2,
            "width": 48,
            "depth": 2,
            "heads": 2,
            "mlp_width": 96,
            "text_width": 32,
            "vector_width": 16,
        },
    },
    "data": {"source": "prompts", "generated": 12, "test_length": 10},
    "objective": {"name": "imagining", "sampling": {"num_steps": 6}},
    "precision": "fp32",
}


def imagining(**changes: Any) -> Recipe:
    return parse_recipe({**IMAGINING, **changes})


def test_combinations_of_the_test_are_not_in_training():
    data = open_data(imagining(data={"source": "prompts", "generated": 30, "test_length": None}))
    assert data.prompts is not None
    trained = {data.train.table.concept[i] + data.train.table.style[i] for i in range(len(data.train))}
    unseen = [number for number, wanted in enumerate(data.prompts.tests) if wanted.part == "unseen"]
    seen = [number for number, wanted in enumerate(data.prompts.tests) if wanted.part == "seen"]
    assert len(unseen) == len(seen) > 4
    assert len(trained) == len(data.train)
    pictures = {data.train.batch(torch.tensor([i]), None)["images"].numpy().tobytes() for i in range(len(data.train))}
    shown = data.test.batch(torch.arange(len(data.test)), None)["images"]
    assert not any(shown[number].numpy().tobytes() in pictures for number in unseen)
    assert all(shown[number].numpy().tobytes() in pictures for number in seen)
    names = {name for every in data.prompts.names.values() for name in every}
    assert all(any(name in wanted.prompt for name in names) for wanted in data.prompts.tests)
    assert {wanted.language for wanted in data.prompts.tests} == {"en", "zh"}


def test_prompts_vary_and_follow_from_the_generator():
    data = open_data(imagining())
    texts = [data.train.batch(torch.arange(6), torch.Generator().manual_seed(seed))["texts"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert any("风格的" in text for every in texts for text in every) or any("style" in text for text in texts[2])


def test_the_loss_of_a_network_that_knows_the_velocity_is_zero():
    """And of one that says nothing it is that of unit noise on latents of unit variance: 2."""
    recipe = imagining()
    torch.manual_seed(0)
    network = build_model("latent-diffusion", recipe.model.config(None))
    assert isinstance(network, LatentDiffusion)
    module = Imagining(network, recipe.objective)
    images, ids = torch.rand(64, 3, 16, 16) * 2 - 1, torch.zeros(64, 16, dtype=torch.long)
    with torch.no_grad():
        assert float(module(images, ids)) == pytest.approx(2.0, abs=0.1)
        latents = (module.known(images)[0] - network.latent_mean) / network.latent_deviation
        assert latents.mean() == pytest.approx(0, abs=0.05)
        assert latents.std() == pytest.approx(1, abs=0.05)
        answer = lambda seen, time, ids, kept: (seen - latents) / (time / 1000)[:, None, None, None]  # noqa: E731
        network.forward = answer  # type: ignore[method-assign]
        assert float(module(images, ids)) == pytest.approx(0, abs=1e-6)


def test_the_text_tower_learns_unless_it_is_frozen_and_the_autoencoder_never():
    recipe = imagining()
    network = build_model("latent-diffusion", recipe.model.config(None))
    assert isinstance(network, LatentDiffusion)
    recipe.objective.trainable(network)
    assert all(weight.requires_grad for weight in network.text.parameters())
    assert not any(weight.requires_grad for weight in network.autoencoder.parameters())
    freeze(network, ("text",))
    assert not any(weight.requires_grad for weight in network.text.parameters())
    assert all(weight.requires_grad for weight in network.denoise.parameters())


def test_all_tokens_kept_in_any_order_are_none_dropped():
    torch.manual_seed(1)
    model = {**IMAGINING["model"], "denoiser": {**IMAGINING["model"]["denoiser"], "depth": 4}}
    network = build_model("latent-diffusion", imagining(model=model).model.config(None)).eval()
    assert isinstance(network, LatentDiffusion)
    for weight in network.denoise.parameters():  # or the blocks would start as if they were not there
        torch.nn.init.normal_(weight, std=0.1)
    latents, time, ids = torch.randn(2, 4, 8, 8), torch.tensor([100.0, 700.0]), torch.zeros(2, 16, dtype=torch.long)
    every = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.no_grad():
        whole = network(latents, time, ids)
        torch.testing.assert_close(network(latents, time, ids, every), whole, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(network(latents, time, ids, every[:, :8]), whole, atol=1e-3)


def test_tokens_may_be_dropped_and_aligned_with_the_encoder_in_the_box():
    torch.manual_seed(2)
    recipe = imagining(objective={"name": "imagining", "token_dropout": 0.5, "alignment": 1.0})
    network = build_model("latent-diffusion", recipe.model.config(None))
    assert isinstance(network, LatentDiffusion)
    module = Imagining(network, recipe.objective)
    images, ids = torch.rand(6, 3, 16, 16) * 2 - 1, torch.zeros(6, 16, dtype=torch.long)
    torch.manual_seed(3)
    loss = module(images, ids)
    aligned = module.noticed
    assert aligned.shape == (6, 16, 48)  # all tokens: those that pass by do so later
    plain = Imagining(network, imagining().objective)
    latents, patches = module.known(images)
    assert patches.shape == (6, 16, 192)
    assert [each.shape for each in plain.known(images)] == [latents.shape]
    first = network.denoise.blocks[0].attention.qkv.weight
    (gradient,) = torch.autograd.grad(loss, first, allow_unused=True)
    assert gradient is not None
    cosines = torch.nn.functional.cosine_similarity(patches[0, 0], patches[0], dim=-1)
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[1:].max() < 0.9999


def test_a_run_learns_and_draws(tmp_path: Path):
    recipe = imagining(steps=150, optimiser={"name": "muon", "lr": 4e-3}, checkpoint={"every": 150})
    run = train(recipe, output=tmp_path / "run")
    curve = list(losses(tmp_path / "run").values())
    assert curve[-1] < 0.65 * 2  # 2 is the loss of a network that says nothing
    again = evaluate(run.folder).scores
    assert again["seen_error"] == pytest.approx(run.scores["seen_error"], abs=0.02)
    model = vitrail.load(str(run.folder / "model.safetensors"))
    assert model.generate("a circle", seed=0, num_steps=4)[0].size == (16, 16)
    assert float(model.latent_deviation.std()) > 0


def test_bad_recipes_are_sentences():
    with pytest.raises(UsageError, match="use latent-diffusion"):
        imagining(model={"family": "autoencoder-kl", **AUTOENCODER}).objective.trainable(
            build_model("autoencoder-kl", imagining(model={"family": "autoencoder-kl", **AUTOENCODER}).model.config())
        )
    with pytest.raises(UsageError, match="come without prompts"):
        open_data(imagining(data={"source": "glyphs", "generated": 4}))
