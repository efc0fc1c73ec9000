"""Muon beside AdamW: who takes which weight, and a run that goes on where it was cut."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training.small import small
from vitrail.models.vit import ViT, ViTConfig
from vitrail.training.loop import train
from vitrail.training.optimiser import Together, build_optimiser
from vitrail.training.recipe import OptimiserSection

TINY = {"image_size": 24, "patch_size": 6, "width": 12, "depth": 1, "heads": 2, "mlp_width": 24, "classes": 3}
MUON = OptimiserSection(name="muon", lr=0.01, weight_decay=0.0)


def test_muon_takes_the_matrices_inside_and_adamw_the_rest():
    model = ViT(ViTConfig(**TINY))
    optimiser = build_optimiser(model, MUON)
    assert isinstance(optimiser, Together)
    muon = {id(weight) for group in optimiser.parts[0].param_groups for weight in group["params"]}
    assert {name for name, weight in model.named_parameters() if id(weight) in muon} == {
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.out.weight",
        "blocks.0.mlp.up.weight",
        "blocks.0.mlp.down.weight",
    }
    everything = [id(weight) for group in optimiser.param_groups for weight in group["params"]]
    assert sorted(everything) == sorted(id(weight) for weight in model.parameters())


def test_a_step_of_muon_moves_a_matrix_evenly_in_all_directions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16, bias=False))
    before = model[0].weight.detach().clone()
    optimiser = build_optimiser(model, MUON)
    model(torch.randn(64, 16)).square().mean().backward()
    gradient = torch.linalg.svdvals(model[0].weight.grad)
    optimiser.step()
    moved = torch.linalg.svdvals(model[0].weight.detach() - before)
    assert gradient[0] / gradient[-1] > 10
    assert moved[0] / moved[-1] < 4
    assert moved.square().mean().sqrt() / 16**0.5 == pytest.approx(0.2 * 0.01, rel=0.3)  # the size of AdamW's step


def test_a_network_without_such_matrices_is_adamws():
    optimiser = build_optimiser(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), MUON)
    assert isinstance(optimiser, torch.optim.AdamW)


def test_a_resumed_run_of_muon_ends_with_the_same_weights(tmp_path):
    recipe = small(steps=6, optimiser={"name": "muon", "lr": 3e-3}, checkpoint={"every": 3})
    whole = train(recipe, output=tmp_path / "whole")
    train(recipe, output=tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    next((tmp_path / "cut" / "checkpoints").glob("*6.safetensors")).unlink()
    resumed = train(recipe, output=tmp_path / "cut")
    assert resumed.scores == whole.scores
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
