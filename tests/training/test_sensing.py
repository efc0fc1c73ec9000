"""Learning to name pictures, films and sounds with one network: its scores, and a run that learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vitrail
from tests.training.small import SMALL, small
from tests.training.test_loop import losses
from vitrail.errors import UsageError
from vitrail.evaluation.sensing import SenseScores
from vitrail.training.family import build_model
from vitrail.training.loop import evaluate, open_data, train
from vitrail.training.recipe import Recipe, parse_recipe

SENSES: dict[str, Any] = {
    **SMALL,
    "model": {
        "family": "perceiver-senses",
        "image_size": 24,
        "frames": 4,
        "patch_frames": 4,
        "samples": 1024,
        "element_width": 48,
        "latents": {"count": 8, "width": 48, "depth": 1, "repeats": 1, "heads": 3, "attend_in": "queries"},
    },
    "data": {"source": "senses", "generated": 4, "frames": 4, "samples": 1024, "test_length": 60},
    "objective": {"name": "sensing"},
    "precision": "fp32",
}


def senses(**changes: Any) -> Recipe:
    return parse_recipe({**SENSES, **changes})


def test_scores_are_by_sense_beside_chance():
    scores = SenseScores({"picture": range(2), "sound": range(2, 5)})
    logits = torch.zeros(4, 2, 5)
    logits[[0, 1, 2, 3], 0, [0, 0, 1, 3]] = 1.0
    logits[[0, 1, 2, 3], 1, [4, 2, 0, 1]] = 1.0
    scores.update(logits[:3], torch.tensor([[0, 4], [0, 3], [1, 4]]))
    scores.update(logits[3:], torch.tensor([[0, 2]]))
    assert scores.compute() == pytest.approx(
        {
            "accuracy": 0.5,
            "accuracy_picture": 3 / 4,
            "chance_picture": 3 / 4,
            "accuracy_sound": 1 / 4,
            "chance_sound": 1 / 2,
        }
    )


def test_a_run_learns_and_tells_a_sound_from_a_picture(tmp_path: Path):
    recipe = senses(steps=100, optimiser={"name": "muon", "lr": 3e-3}, checkpoint={"every": 100})
    run = train(recipe, output=tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert curve[99] < 0.7 * curve[3]
    assert run.scores["accuracy_picture"] > run.scores["chance_picture"] + 0.1
    chance = sum(run.scores[f"chance_{sense}"] for sense in ("picture", "video", "sound")) / 3
    assert run.scores["accuracy"] > chance + 0.06
    again = evaluate(run.folder).scores
    assert again["accuracy"] == pytest.approx(run.scores["accuracy"], abs=0.02)
    (sheet,) = (tmp_path / "run" / "samples").glob("*.png")
    assert Image.open(sheet).width > 4 * 96

    model = vitrail.load(str(run.folder / "model.safetensors"))
    batch = open_data(recipe).test.batch(torch.arange(5), None)
    picture = Image.fromarray(batch["images"][0].permute(1, 2, 0).numpy())
    assert model.labels is not None
    with torch.inference_mode():
        seen, heard = model(model.preprocess([picture])), model(sounds=batch["sounds"])
    assert model.labels[int(seen.argmax())] in open_data(recipe).labels[:4]
    assert all(model.labels[number].startswith("sound: ") for number in heard.argmax(1).tolist())


def test_data_and_objectives_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="come films and sounds"):
        open_data(senses(objective={"name": "classification"}))
    with pytest.raises(UsageError, match="come no films and sounds"):
        open_data(small(objective={"name": "sensing"}))
    recipe = senses(model=SMALL["model"])
    vit = build_model("vit", recipe.model.config(3))
    with pytest.raises(UsageError, match="use perceiver-senses"):
        recipe.objective.trainable(vit)
