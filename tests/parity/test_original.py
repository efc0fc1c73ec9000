"""Single files by the original names are what diffusers' own conversion reads, and are read and written back."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
from tests.parity.references import randomise
from vitrail.checkpoints.layout import Layout, Published, to_theirs
from vitrail.checkpoints.layouts import stable_diffusion_original
from vitrail.checkpoints.layouts.autoencoder_diffusers import AutoencoderKLDiffusers
from vitrail.checkpoints.layouts.clip_text_transformers import CLIPTextTransformers
from vitrail.checkpoints.layouts.stable_diffusion_original import StableDiffusionOriginal, StableDiffusionXLOriginal
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers
from vitrail.checkpoints.original import PARTS
from vitrail.errors import CheckpointError
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoderConfig
from vitrail.models.model import Model
from vitrail.models.stable_diffusion import StableDiffusionConfig
from vitrail.models.stable_diffusion_xl import StableDiffusionXLConfig
from vitrail.models.unet import UNetConfig

NAMES = {
    "1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "2": "stabilityai/stable-diffusion-2-1",
    "xl": "stabilityai/stable-diffusion-xl-base-1.0",
}
SMALL_UNET = UNetConfig(
    image_size=8,
    widths=(16, 32, 48),
    depths=(2, 2, 2),
    transformer_depths=(1, 1, 0),
    heads=(2, 2, 2),
    context_width=24,
    groups=8,
)
SMALL_CODER = AutoencoderKLConfig(image_size=16, widths=(8, 16, 16), depth=2, groups=4)
SMALL_TEXT = CLIPTextConfig(vocabulary=50, context=9, width=24, depth=2, heads=2, mlp_width=48)
OPEN_TEXT = replace(SMALL_TEXT, activation="gelu")
SMALL = {
    "1": StableDiffusionConfig(SMALL_UNET, SMALL_CODER, CLIPTextEncoderConfig(SMALL_TEXT)),
    "2": StableDiffusionConfig(
        replace(SMALL_UNET, linear_projection=True), SMALL_CODER, CLIPTextEncoderConfig(OPEN_TEXT)
    ),
    "xl": StableDiffusionXLConfig(
        replace(
            SMALL_UNET,
            transformer_depths=(0, 2, 3),
            middle_depth=3,
            context_width=48,
            added_width=24 + 6 * 8,
            number_width=8,
            linear_projection=True,
        ),
        SMALL_CODER,
        CLIPTextEncoderConfig(SMALL_TEXT),
        CLIPTextEncoderConfig(OPEN_TEXT, 24),
    ),
}


def layout_for(kind: str) -> Layout:
    return StableDiffusionXLOriginal() if kind == "xl" else StableDiffusionOriginal()


def pipeline(kind: str) -> Model:
    """A small pipeline with random weights."""
    layout = layout_for(kind)
    model = randomise(layout.model(SMALL[kind]))
    model.preprocess = layout.read_preprocess(None, model.config)
    return model


def by_diffusers(kind: str, file: dict[str, Tensor], model: Model) -> dict[str, dict[str, Tensor]]:
    """A file's parts by diffusers' names, as diffusers converts them."""
    unet = UNetDiffusers().write_config(model.unet)
    coder = AutoencoderKLDiffusers().write_config(model.autoencoder)
    found = {
        "unet": convert_ldm_unet_checkpoint(dict(file), unet),
        "autoencoder": convert_ldm_vae_checkpoint(dict(file), coder),
    }
    reader = SimpleNamespace(config=SimpleNamespace(hidden_size=SMALL_TEXT.width))
    if kind == "2":
        found["text"] = convert_open_clip_checkpoint(reader, file, prefix="cond_stage_model.model.")
    else:
        found["text"] = convert_ldm_clip_checkpoint(file)
    if kind == "xl":
        found["text2"] = convert_open_clip_checkpoint(reader, file, prefix="conditioner.embedders.1.model.")
    return found


PUBLISHERS = {
    "unet": UNetDiffusers(),
    "autoencoder": AutoencoderKLDiffusers(),
    "text": CLIPTextTransformers(),
    "text2": CLIPTextTransformers(),
}


@pytest.mark.parametrize("kind", PARTS)
def test_diffusers_converts_it_to_what_it_publishes(kind):
    model = pipeline(kind)
    found = by_diffusers(kind, to_theirs(layout_for(kind), model), model)
    assert found.keys() == PARTS[kind].keys()
    for part, theirs in found.items():
        expected = to_theirs(PUBLISHERS[part], model.get_submodule(part))
        assert theirs.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(theirs[name], tensor), name


@pytest.mark.parametrize("kind", PARTS)
def test_a_published_size_has_the_names_that_diffusers_reads(kind):
    layout = layout_for(kind)
    with torch.device("meta"):
        model = layout.model(stable_diffusion_original._NETWORKS[NAMES[kind]].config)
    file = to_theirs(layout, model)
    unet = convert_ldm_unet_checkpoint(dict(file), UNetDiffusers().write_config(model.unet))
    expected = to_theirs(UNetDiffusers(), model.unet)
    assert {name: tensor.shape for name, tensor in unet.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    assert layout.write_config(model) == {}


def saved(kind: str, model: Model, folder: Path) -> Path:
    """A file as it is passed around: with averages, training's tensors and positions that are no weights."""
    text = PARTS[kind]["text"]
    odd = {
        "model_ema.decay": torch.tensor(0.99),
        "alphas_cumprod": torch.ones(10),
        "first_stage_model.loss.logvar": torch.zeros(1),
        f"{text}text_model.embeddings.position_ids": torch.arange(9)[None],
        f"{text}logit_scale": torch.tensor(1.0),
    }
    if kind == "2":
        odd[f"{text}transformer.resblocks.23.ln_1.weight"] = torch.ones(24)
    folder.mkdir(exist_ok=True)
    save_file({**to_theirs(layout_for(kind), model), **odd}, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.fixture(autouse=True)
def _small_networks(request, monkeypatch):
    """Where a test reads files, the published networks are small ones."""
    if "published" not in request.node.name:
        networks = {name: Published(SMALL[kind], name, "MIT") for kind, name in NAMES.items()}
        monkeypatch.setattr(stable_diffusion_original, "_NETWORKS", networks)


@pytest.mark.parametrize("kind", PARTS)
def test_a_file_is_read_and_written_back(kind, tmp_path):
    model = pipeline(kind)
    path = saved(kind, model, tmp_path / "theirs")
    read = vitrail.load(path)
    assert read.family == model.family
    assert read.config == model.config
    assert read.origin.layout == "original"
    assert read.tokenizer is None
    ours = model.weights()
    for name, tensor in read.weights().items():
        assert torch.equal(tensor, ours[name]), name

    vitrail.save(read, tmp_path / "back")
    back, theirs = load_file(tmp_path / "back" / "model.safetensors"), load_file(path)
    assert back.keys() < theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in back)
    assert vitrail.load(tmp_path / "back").config == model.config


def test_a_file_that_inpaints(tmp_path):
    config = replace(SMALL["1"], unet=replace(SMALL_UNET, channels=9))
    model = randomise(StableDiffusionOriginal().model(config))
    read = vitrail.load(saved("1", model, tmp_path))
    assert read.config == config
    assert read.inpaints


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lacks", "lacks 'model.diffusion_model.out.2.bias'"),
        ("misshapen", r"'model.diffusion_model.out.2.bias' of shape \(5,\)"),
        ("more", "has 'first_stage_model.extra', which a stable-diffusion network does not know"),
        ("another", "these are not the weights of 'stabilityai/stable-diffusion-xl-base-1.0'; .*are those of stable-"),
        ("a UNet alone", "nothing says of which network"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change, said, tmp_path):
    path = saved("1", pipeline("1"), tmp_path)
    state, bias = load_file(path), "model.diffusion_model.out.2.bias"
    if change == "lacks":
        del state[bias]
    elif change == "misshapen":
        state[bias] = torch.zeros(5)
    elif change == "more":
        state["first_stage_model.extra"] = torch.zeros(1)
    elif change == "a UNet alone":
        state = {name: tensor for name, tensor in state.items() if name.startswith("model.")}
    save_file(state, path)
    with pytest.raises(CheckpointError, match=said):
        vitrail.load(path, architecture=NAMES["xl"] if change == "another" else None)


def test_another_config_than_a_published_one_is_refused(tmp_path):
    model = pipeline("1")
    model.config = replace(model.config, unet=replace(SMALL_UNET, norm_eps=1e-3))
    with pytest.raises(CheckpointError, match="can say the published networks alone"):
        vitrail.save(model, tmp_path / "it", layout="original")
