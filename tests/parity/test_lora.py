"""LoRA files in every common form change pictures as they do in diffusers, and can be taken out again."""

import copy
import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vitrail
from tests.parity.references import assert_same
from tests.pipelines import stable_diffusion, stable_diffusion_xl
from vitrail.checkpoints.layout import find_rows
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers
from vitrail.checkpoints.original import unet_rows
from vitrail.errors import CheckpointError, UsageError
from vitrail.models.model import Model

RANK = 3
PARTS = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
WIDER = (*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "fc1", "fc2")
KERNELS = (*WIDER, "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "time_emb_proj")

Pairs = dict[str, tuple[Tensor, Tensor]]
Pipeline = StableDiffusionPipeline | StableDiffusionXLPipeline


def pairs(model: nn.Module, ends: tuple[str, ...]) -> Pairs:
    """A and B of random numbers for every layer of a network whose name ends so."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(ends):
            shape = module.weight.shape
            down = torch.randn(RANK, *shape[1:]) * shape[1:].numel() ** -0.5
            up = torch.randn(shape[0], RANK, *[1] * (len(shape) - 2)) * 0.5
            found[name] = (down, up)
    assert found
    return found


def kohya(parts: dict[str, Pairs], *, alpha: float | None = 2.0) -> dict[str, Tensor]:
    """As kohya's scripts save them: every dot of a name an underscore."""
    xl = "text_encoder_2" in parts
    state = {}
    for part, found in parts.items():
        prefix = "lora_te1" if xl and part == "text_encoder" else PARTS[part]
        for name, (down, up) in found.items():
            text = part != "unet" and not name.startswith("text_model.")  # transformers 5 has left it out
            stem = f"{prefix}_{'text_model.' if text else ''}{name}".replace(".", "_")
            state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = down, up
            if alpha is not None:
                state[f"{stem}.alpha"] = torch.tensor(alpha)
    return state


def peft(parts: dict[str, Pairs], a: str = ".lora_A.weight", b: str = ".lora_B.weight") -> dict[str, Tensor]:
    """As diffusers saves them now, or as it did."""
    state = {}
    for part, found in parts.items():
        for name, (down, up) in found.items():
            state[f"{part}.{name}{a}"], state[f"{part}.{name}{b}"] = down, up
    return state


def written(state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, metadata)
    return path


def fused(reference: Pipeline, path: Path, scale: float) -> None:
    reference.load_lora_weights(path)
    reference.fuse_lora(lora_scale=scale)
    reference.unload_lora_weights()


@torch.inference_mode()
def assert_same_networks(model: Model, reference: Pipeline) -> None:
    """UNet and text encoders say the same."""
    config = reference.unet.config
    x, text, t = torch.randn(2, 4, 8, 8), torch.randn(2, 5, config.cross_attention_dim), torch.tensor([10, 700])
    added = None
    if config.addition_embed_type:
        added = torch.randn(2, 24), torch.randint(0, 64, (2, 6)).float()
    told = None if added is None else dict(zip(("text_embeds", "time_ids"), added, strict=True))
    expected = reference.unet(x, t, text, added_cond_kwargs=told).sample
    assert_same(model.unet(x, t, text, added), expected, 1e-4)
    ids = torch.randint(5, 40, (2, 12))
    assert_same(model.text(ids), reference.text_encoder(ids).last_hidden_state, 1e-4)
    if config.addition_embed_type:
        assert_same(model.text2(ids), reference.text_encoder_2(ids).last_hidden_state, 1e-4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[bool, tuple[Path, Pipeline]]:
    """Both pipelines, XL's under True, and the folders they are in."""
    made = {}
    for xl, make in ((False, stable_diffusion), (True, stable_diffusion_xl)):
        folder = tmp_path_factory.mktemp("pipelines") / "it"
        reference = make(folder.parent)
        reference.save_pretrained(folder)
        made[xl] = folder, reference
    return made


def loaded(saved: dict[bool, tuple[Path, Pipeline]], *, xl: bool = False) -> tuple[Model, Pipeline]:
    """One of them in both libraries, to be changed at will."""
    folder, reference = saved[xl]
    return vitrail.load(folder), copy.deepcopy(reference)


@pytest.mark.parametrize("form", ["kohya", "kohya without alphas", "kohya, every kernel", "peft", "peft's alphas"])
def test_1_5(form, saved, tmp_path):
    model, reference = loaded(saved)
    ends = KERNELS if form.endswith("kernel") else WIDER
    parts = {part: pairs(getattr(reference, part), ends) for part in ("unet", "text_encoder")}
    if form.startswith("kohya"):
        path = written(kohya(parts, alpha=None if "without" in form else 2.0), tmp_path / "it.safetensors")
    else:
        told = {f"{part}.{key}": value for part in parts for key, value in {"r": RANK, "lora_alpha": 7}.items()}
        targets = {f"{part}.target_modules": sorted(found) for part, found in parts.items()}
        header = {"lora_adapter_metadata": json.dumps({**told, **targets})} if "alphas" in form else None
        path = written(peft(parts), tmp_path / "it.safetensors", header)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    assert_same_networks(model, reference)

    fused(reference, path, 0.7)
    lora = vitrail.apply_lora(model, path, 0.7)
    assert_same_networks(model, reference)
    changed = [name for name, tensor in model.weights().items() if not torch.equal(tensor, before[name])]
    assert set(changed) == set(lora.changed)

    lora.remove()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())


@pytest.mark.parametrize("names", ["diffusers", "original"])
def test_xl(names, saved, tmp_path):
    model, reference = loaded(saved, xl=True)
    parts = {part: pairs(getattr(reference, part), WIDER) for part in ("unet", "text_encoder", "text_encoder_2")}
    state = kohya(parts)
    path = written(state, tmp_path / "theirs.safetensors")
    fused(reference, path, 1.0)
    if names == "original":  # kohya trains XL's UNet by the names of its authors' code
        path = written(originally_named(state, model), tmp_path / "ours.safetensors")
        assert not load_file(path).keys() <= state.keys()
    vitrail.apply_lora(model, path)
    assert_same_networks(model, reference)


def originally_named(state: dict[str, Tensor], model: Model) -> dict[str, Tensor]:
    """The same file with the UNet's layers by their original names."""
    names = model.unet.weights()
    published, original = (
        find_rows(names, rows) for rows in (UNetDiffusers().rows(model.unet.config), unet_rows(model.unet.config))
    )
    renamed = {
        "lora_unet_" + theirs.removesuffix(".weight").replace(".", "_"): "lora_unet_"
        + first.removesuffix(".weight").replace(".", "_")
        for name in names
        for theirs, first in zip(published[name][0], original[name][0], strict=True)
    }
    return {
        f"{renamed.get(stem, stem)}.{rest}": state[f"{stem}.{rest}"]
        for stem, _, rest in (n.partition(".") for n in state)
    }


@pytest.mark.parametrize(
    ("of", "a", "b"),
    [
        ("", ".lora.down.weight", ".lora.up.weight"),
        (".processor", "_lora.down.weight", "_lora.up.weight"),
        ("", ".lora_A.default.weight", ".lora_B.default.weight"),
    ],
)
def test_older_forms_are_the_same_thing(of, a, b, saved, tmp_path):
    model, reference = loaded(saved)
    found = pairs(reference.unet, ATTENTION)
    new = written(peft({"unet": found}), tmp_path / "new.safetensors")
    old = {}
    for name, both in found.items():
        stem, _, last = name.removesuffix(".0").rpartition(".")
        old[f"{stem}{of}.{last}"] = both
    path = written(peft({"unet": old}, a, b), tmp_path / "old.safetensors")
    lora = vitrail.apply_lora(model, path)
    weights = model.weights()
    lora.remove()
    vitrail.apply_lora(model, new)
    assert len(lora.changed) > 5
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.weights().items())


def test_a_unet_alone_and_a_folder(saved, tmp_path):
    _, reference = loaded(saved)
    parts = {"unet": pairs(reference.unet, ATTENTION)}
    written(peft(parts), tmp_path / "pytorch_lora_weights.safetensors")
    unet = vitrail.load(saved[False][0] / "unet")
    fused(reference, tmp_path / "pytorch_lora_weights.safetensors", 1.0)
    vitrail.apply_lora(unet, tmp_path)
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32)
    with torch.inference_mode():
        assert_same(unet(x, 3, text), reference.unet(x, 3, text).sample, 1e-4)


def test_two_are_taken_out_in_turn(saved, tmp_path):
    model, reference = loaded(saved)
    path = written(peft({"unet": pairs(reference.unet, ATTENTION)}), tmp_path / "it.safetensors")
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    first, second = vitrail.apply_lora(model, path), vitrail.apply_lora(model, path, -1.0)
    for name, tensor in model.weights().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="take out first what was put in after it"):
        first.remove()
    second.remove()
    first.remove()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())
    with pytest.raises(UsageError, match="is not as this LoRA left it"):
        first.remove()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("another layer", "has a LoRA of 'unet.nothing.to_q', which this stable-diffusion network does not have"),
        ("another width", r"'unet.*to_q' of shapes \(16, 3\) and \(3, 17\), for a weight of shape \(16, 16\)"),
        ("half", "without 'unet.*lora_B.weight'"),
        ("LoHa", "has 'unet.it.hada_w1_a', which is no part of a plain LoRA"),
        ("nothing", "holds no LoRA that Vitrail reads"),
        ("a number", "is no matrix"),
        ("header", "the header of .* makes no sense: ranks"),
        ("no file", "there is no LoRA file"),
        ("no safetensors", "is not a whole safetensors file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_changed(change, said, saved, tmp_path):
    model, reference = loaded(saved)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    state = peft({"unet": pairs(reference.unet, ("to_q",))})
    first = next(name for name in state if "lora_A" in name)
    metadata = None
    if change == "another layer":
        state["unet.nothing.to_q.lora_A.weight"] = torch.ones(3, 4)
        state["unet.nothing.to_q.lora_B.weight"] = torch.ones(4, 3)
    elif change == "another width":
        state[first] = torch.ones(3, 17)
    elif change == "half":
        del state[first.replace("lora_A", "lora_B")]
    elif change == "LoHa":
        state["unet.it.hada_w1_a"] = torch.ones(2)
    elif change == "nothing":
        state = {"unet.weight": torch.ones(2)}
    elif change == "a number":
        state[first] = torch.ones(3)
    elif change == "header":
        metadata = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 3})}
    path = tmp_path / "it.safetensors"
    if change == "no safetensors":
        path.write_bytes(b"nothing")
    elif change != "no file":
        written(state, path, metadata)
    with pytest.raises(CheckpointError, match=said):
        vitrail.apply_lora(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())


def test_networks_and_scales_that_make_no_sense(saved, tmp_path):
    model, _ = loaded(saved)
    with pytest.raises(UsageError, match="a finite scale, not nan"):
        vitrail.apply_lora(model, tmp_path, float("nan"))
    with pytest.raises(UsageError, match="not to networks of the family autoencoder-kl"):
        vitrail.apply_lora(model.autoencoder, tmp_path)
