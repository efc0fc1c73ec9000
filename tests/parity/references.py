"""Reference models with random weights, saved as their libraries save them, and how a network is compared with one."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor, nn

TRANSFORMERS_FORMS = ("published", "sharded", "in memory")


def randomise(model: nn.Module) -> nn.Module:
    """Random numbers in every parameter, so large that a wrong mapping of any of them shows; in eval mode."""
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if isinstance(module, nn.Linear | nn.Conv2d) and parameter.ndim > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
                else:  # biases, norms, tokens, positions, gains
                    parameter.add_(torch.randn_like(parameter), alpha=0.15)
    return model.eval()


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` relative to the largest number, in float32."""
    assert actual.dtype == expected.dtype == torch.float32
    assert expected.std() > 1e-3  # a network that says the same of everything would hide differences
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def save_transformers(model: Any, folder: Path, form: str = "published") -> Path:
    """Save a transformers model: as it is published, in shards, or by the names its parameters have in memory now."""
    if form == "in memory":
        model.config.save_pretrained(folder)
        save_file(model.state_dict(), folder / "model.safetensors")
    else:
        model.save_pretrained(folder, max_shard_size="100KB" if form == "sharded" else "5GB")
        assert (folder / "model.safetensors.index.json").is_file() == (form == "sharded")
    return folder


def load_transformers(kind: Any, folder: Path, **how: Any) -> Any:
    """Load a folder in transformers; every tensor must be there and be known."""
    model, info = kind.from_pretrained(folder, output_loading_info=True, **how)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


def save_timm(model: nn.Module, folder: Path, form: str = "safetensors") -> Path:
    """Save a timm model as a hub folder; "flat config" is the oldest form, with pretrained_cfg's keys at the top."""
    save_for_hf(model, folder, safe_serialization=form != "bin")
    if form == "flat config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config.pop("pretrained_cfg"), **config}))
    return folder


def load_timm(folder: Path, **how: Any) -> nn.Module:
    """Load a folder in timm, which refuses tensors that are missing or left over."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True, **how).eval()


def assert_same_tensors(one: nn.Module, other: nn.Module) -> None:
    """The same names, and under each the same numbers."""
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def assert_same_files(one: Path, other: Path) -> None:
    """Two folders hold the same tensors by the same names."""
    ours, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
