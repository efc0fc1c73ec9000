"""Recipes that train in seconds on generated glyphs, and a training that is interrupted."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from vitrail.training.loop import Trainer, train
from vitrail.training.recipe import Recipe, parse_recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "model": {"family": "vit", "image_size": 24, "patch_size": 6, "width": 48, "depth": 2, "heads": 3, "mlp_width": 96},
    "data": {"source": "glyphs", "generated": 12, "hold_out_style": "shaded"},
    "objective": {"name": "classification"},
    "optimiser": {"lr": 3e-3},
    "steps": 24,
    "batch_size": 16,
    "ema": 0.9,
    "log_every": 3,
    "evaluation": {"every": 1000, "samples": 4},
    "checkpoint": {"every": 4},
}

TOWER = {"width": 48, "depth": 2, "heads": 3, "mlp_width": 96}
PAIRS: dict[str, Any] = {
    **SMALL,
    "model": {
        "family": "clip",
        "image": {"image_size": 24, "patch_size": 6, **TOWER},
        "text": {"context": 24, **TOWER},
    },
    "data": {
        "source": "pairs",
        "generated": 48,
        "hold_out_style": "shaded",
        "hold_out_concepts": True,
        "vocabulary": 500,
    },
    "objective": {"name": "contrastive"},
    "batch_size": 48,
    "precision": "fp32",
}

TALK: dict[str, Any] = {
    **SMALL,
    "model": {
        "family": "vit-gpt",
        "image": {"image_size": 24, "patch_size": 6, **TOWER},
        "text": {"context": 96, **TOWER},
    },
    "data": {"source": "talk", "generated": 12, "length": 2000, "test_length": 6, "count": [1, 2], "vocabulary": 400},
    "objective": {"name": "talking", "max_new_tokens": 12},
    "batch_size": 8,
}


def small(**changes: Any) -> Recipe:
    """The small recipe with other keys; a dictionary changes only the keys of a section that it names."""
    return parse_recipe(_changed(SMALL, changes))


def pairs(**changes: Any) -> Recipe:
    """The same for the recipe that learns from pairs."""
    return parse_recipe(_changed(PAIRS, changes))


def talk(**changes: Any) -> Recipe:
    """The same for the recipe that learns from conversations."""
    return parse_recipe(_changed(TALK, changes))


def interrupt(recipe: Recipe, folder: Path, before: int) -> None:
    """Train into a folder until somebody presses Ctrl-C, just before the update of this number."""
    update = Trainer.update

    def interrupted(self: Trainer, step: int, parts: Any) -> Tensor:
        if step == before:
            raise KeyboardInterrupt
        return update(self, step, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, output=folder)


def _changed(raw: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    raw = {**raw}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return raw
