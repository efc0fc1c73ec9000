"""A recipe that trains in seconds on generated glyphs."""

from typing import Any

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


def small(**changes: Any) -> Recipe:
    """The small recipe with other keys; a dictionary changes only the keys of a section that it names."""
    raw = {**SMALL}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_recipe(raw)
