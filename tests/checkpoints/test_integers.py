"""Weights kept as 8-bit integers on disk."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import vitrail
from tests.tiny import tiny_vit
from vitrail.checkpoints.integers import scaled
from vitrail.errors import CheckpointError, UsageError


def test_a_row_is_off_by_half_a_step_of_its_own_at_most():
    torch.manual_seed(0)
    weight = torch.randn(16, 8, 3, 3) * torch.logspace(-3, 2, 16)[:, None, None, None]
    weight[5] = 0
    parts = scaled("w").split(weight)
    assert parts[0].dtype == torch.int8
    again = scaled("w").join(list(parts))
    largest = weight.flatten(1).abs().amax(1)
    assert ((again - weight).flatten(1).abs().amax(1) <= largest / 254 * 1.001).all()
    assert (again[5] == 0).all()


def test_a_network_comes_back_nearly_the_same_from_a_smaller_file(tmp_path: Path):
    model = tiny_vit()
    plain, small = tmp_path / "plain.safetensors", tmp_path / "small.safetensors"
    vitrail.save(model, plain)
    vitrail.save(model, small, integers=True)
    assert small.stat().st_size < 0.5 * plain.stat().st_size
    again = vitrail.load(str(small), engine="eager")
    x = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        before, after = model(x), again(x)
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)
    assert (after - before).norm() < 0.05 * before.norm()
    vitrail.save(again, tmp_path / "again.safetensors", integers=True)
    with torch.inference_mode():
        assert torch.allclose(vitrail.load(str(tmp_path / "again.safetensors"), engine="eager")(x), after, atol=1e-2)


def test_a_file_without_its_scales_is_named(tmp_path: Path):
    path = tmp_path / "small.safetensors"
    vitrail.save(tiny_vit(), path, integers=True)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        header = file.metadata()
    name = next(name for name in tensors if name.endswith(".scale"))
    broken = dict(tensors)
    broken[name] = broken[name][:-1].clone()
    save_file(broken, path, header)
    with pytest.raises(CheckpointError, match="scale"):
        vitrail.load(str(path))
    del broken[name]
    save_file(broken, path, header)
    with pytest.raises(CheckpointError, match="lacks"):
        vitrail.load(str(path))


def test_other_layouts_keep_floats(tmp_path: Path):
    with pytest.raises(UsageError, match="own layout alone"):
        vitrail.save(tiny_vit(), tmp_path / "x", layout="transformers", integers=True)
