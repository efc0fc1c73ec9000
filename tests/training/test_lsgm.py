"""Learning an autoencoder and the prior of its latents together: the bound falls, resumes, and is found again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vitrail
from tests.training.small import SMALL, interrupt
from tests.training.test_loop import losses
from vitrail.errors import UsageError
from vitrail.training.loop import evaluate, open_data, train
from vitrail.training.recipe import Recipe, parse_recipe

MODEL = {
    "family": "lsgm",
    "autoencoder": {"image_size": 16, "latent_channels": 4, "widths": [16, 24], "depth": 1, "groups": 4},
    "prior": {
        "image_size": 8,
        "channels": 4,
        "outputs": 4,
        "widths": [16, 32],
        "depth": 1,
        "attention": [False, False],
        "groups": 4,
    },
}


def lsgm(objective: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    return parse_recipe(
        {
            **SMALL,
            "model": MODEL,
            "data": {"source": "glyphs", "generated": 24, "hold_out_combinations": True, "background": "white"},
            "objective": {"name": "lsgm", "looks": 4, "sampling": {"num_steps": 4}, **(objective or {})},
            "optimiser": {"lr": 3e-3, "betas": [0.9, 0.99]},
            "precision": "fp32",
            "evaluation": {"every": 1000, "samples": 4},
            **changes,
        }
    )


def test_the_bound_falls_and_is_found_again(tmp_path: Path):
    recipe = lsgm(steps=60)
    run = train(recipe, output=tmp_path / "run")
    falling = list(losses(tmp_path / "run").values())
    assert falling[-1] < falling[0] - 2
    assert run.scores["bits"] == pytest.approx(falling[-1], abs=1)
    assert run.scores["bits"] == run.scores["loss"] < 6  # 8 is what says nothing of a byte
    again = evaluate(tmp_path / "run").scores
    assert again == pytest.approx(run.scores, rel=1e-3)
    with Image.open(next((tmp_path / "run" / "samples").glob("*.png"))) as sheet:
        assert sheet.width > 100

    model = vitrail.load(str(tmp_path / "run" / "model.safetensors"))
    data = open_data(recipe)
    images = data.test.batch(torch.arange(4), None)["images"] / 127.5 - 1
    assert (model(images).clamp(-1, 1) - images).abs().mean() < 0.4  # white is beyond 1: the outermost cell is endless
    assert model.generate(seed=1, num_steps=4)[0].size == (16, 16)


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(tmp_path: Path):
    whole = train(lsgm(steps=6), output=tmp_path / "whole")
    interrupt(lsgm(steps=6), tmp_path / "stopped", before=4)
    assert train(lsgm(steps=6), output=tmp_path / "stopped").scores == pytest.approx(whole.scores, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"model": {"family": "ddpm", "image_size": 16, "widths": [16], "attention": [False], "groups": 4}},
            "use lsgm",
        ),
        ({"objective": {"name": "denoising"}}, "which lsgm is not trained by"),
        ({"objective": {"name": "lsgm", "sampling": {"guidance_scale": 2.0}}}, "an lsgm is not asked"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path):
    recipe = parse_recipe({**lsgm().model_dump(mode="json"), **changes})
    with pytest.raises(UsageError, match=reason):
        train(recipe, output=tmp_path)
