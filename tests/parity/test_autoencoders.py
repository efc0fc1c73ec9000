"""The autoencoders give diffusers' numbers from diffusers' files, and go back into them."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import load_file, save_file
from torch import nn

import vitrail
from tests.parity.references import assert_same, assert_same_tensors, randomise
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.autoencoder_diffusers import AutoencoderKLDiffusers, VQAutoencoderDiffusers
from vitrail.errors import CheckpointError

WEIGHTS = "diffusion_pytorch_model.safetensors"
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


def levels(count: int, *attention: int) -> dict:
    """The kinds of so many levels, some with attention."""
    down = [f"Attn{DOWN}" if level in attention else DOWN for level in range(count)]
    return {"down_block_types": down, "up_block_types": [kind.replace(DOWN, UP) for kind in reversed(down)]}


SMALL = {
    **levels(3),
    "block_out_channels": [8, 16, 24],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 32,
}
KL: dict[str, dict] = {
    "plain": {},
    "two blocks a level": {"layers_per_block": 2},
    "one level": {**levels(1), "block_out_channels": [8]},
    "attention": levels(3, 0, 2),
    "no attention": {"mid_block_add_attention": False},
    "FLUX's": {
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "one channel": {"in_channels": 1, "out_channels": 1, "sample_size": [32, 48]},
    "float16": {"force_upcast": False, "act_fn": "swish"},
}
VQ: dict[str, dict] = {
    "plain": {},
    "wide words": {"vq_embed_dim": 5, "num_vq_embeddings": 50},
    "attention": {**levels(3, 1), "layers_per_block": 2},
    "aMUSEd's": {"latent_channels": 6, "mid_block_add_attention": False, "lookup_from_codebook": True},
}


def kl(odd: str = "plain") -> AutoencoderKL:
    """A small AutoencoderKL with random weights."""
    return randomise(AutoencoderKL(**{**SMALL, **KL[odd]}))


def vq(odd: str = "plain") -> VQModel:
    """A small VQModel with random weights, and words as large as its latents."""
    model = randomise(VQModel(**{**SMALL, **VQ[odd]}))
    nn.init.normal_(model.quantize.embedding.weight)
    return model


def load_back(kind, folder: Path):
    """Load a folder in diffusers; every tensor must be there and be known."""
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info[said] for said in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("odd", KL)
@torch.inference_mode()
def test_kl(odd, tmp_path):
    reference = kl(odd)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    images = torch.randn(2, reference.config.in_channels, 16, 24)
    expected = reference.encode(images).latent_dist
    assert model.family == "autoencoder-kl"
    assert model.origin.layout == "diffusers"
    assert not model.training
    assert_same(model.encode(images), expected.mean)
    assert_same(model.posterior(images).log_variance, expected.logvar)
    torch.testing.assert_close(model.posterior(images).kl(), expected.kl(), rtol=1e-4, atol=0)
    drawn = model.posterior(images).sample(torch.Generator().manual_seed(3))
    assert_same(drawn, expected.sample(torch.Generator().manual_seed(3)))
    assert_same(model.decode(drawn), reference.decode(drawn).sample)
    assert_same(model(images), reference(images).sample)

    vitrail.save(model, tmp_path / "back")
    back = load_back(AutoencoderKL, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images).sample, reference(images).sample)
    said = {key: value for key, value in reference.config.items() if key != "act_fn" and key[0] != "_"}
    assert {key: back.config[key] for key in said} == said


@pytest.mark.parametrize("odd", VQ)
@torch.inference_mode()
def test_vq(odd, tmp_path):
    reference = vq(odd)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    images = torch.randn(2, 3, 16, 24)
    latents = reference.encode(images).latents
    words, _, (_, _, ids) = reference.quantize(latents)
    quantised = model.quantise(latents)
    assert model.family == "vq-autoencoder"
    assert_same(model.encode(images), latents)
    assert torch.equal(quantised.ids.flatten(), ids)
    assert len(ids.unique()) > 5
    assert_same(quantised.latents, words)
    torch.testing.assert_close(quantised.loss, reference.quantize(latents)[1])  # β stands at the other term there
    expected = reference.decode(latents).sample
    assert_same(model.decode(latents), expected)
    assert_same(model.decode_ids(quantised.ids), expected)
    assert_same(model(images)[0], expected)

    vitrail.save(model, tmp_path / "back")
    back = load_back(VQModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images).sample, expected)
    said = {key: value for key, value in reference.config.items() if key != "lookup_from_codebook" and key[0] != "_"}
    assert {key: back.config[key] or model.config.code_width for key in said} == {
        key: value or model.config.code_width for key, value in said.items()
    }


@pytest.mark.parametrize("form", ["sharded", "pickled", "names of old"])
@torch.inference_mode()
def test_every_form_of_the_files(form, tmp_path):
    reference = kl()
    reference.save_pretrained(
        tmp_path, safe_serialization=form != "pickled", max_shard_size="50KB" if form == "sharded" else "5GB"
    )
    if form == "names of old":
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(tmp_path / WEIGHTS)
        for new, name in old.items():
            state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): state[key] for key in state}
        assert "encoder.mid_block.attentions.0.proj_attn.bias" in state
        save_file(state, tmp_path / WEIGHTS)
    written = {"sharded": f"{WEIGHTS}.index.json", "pickled": "diffusion_pytorch_model.bin", "names of old": WEIGHTS}
    assert (tmp_path / written[form]).is_file()
    images = torch.randn(1, 3, 16, 16)
    assert_same(vitrail.load(tmp_path)(images), reference(images).sample)


STABLE = {
    **levels(4),
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
}
CELEBA = {
    **levels(3),
    "_class_name": "VQModel",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512],
    "in_channels": 3,
    "latent_channels": 3,
    "layers_per_block": 2,
    "num_vq_embeddings": 8192,
    "out_channels": 3,
    "sample_size": 256,
}
PUBLISHED: dict[str, dict] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5, vae": STABLE,
    "stabilityai/stable-diffusion-2-1, vae": {**STABLE, "sample_size": 768},
    "stabilityai/stable-diffusion-xl-base-1.0, vae": {
        **STABLE,
        "force_upcast": True,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    },
    "stabilityai/sd-vae-ft-mse": {**STABLE, "sample_size": 256},
    "black-forest-labs/FLUX.1-schnell, vae": {
        **STABLE,
        "force_upcast": True,
        "latent_channels": 16,
        "latents_mean": None,
        "latents_std": None,
        "mid_block_add_attention": True,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_post_quant_conv": False,
        "use_quant_conv": False,
    },
    "CompVis/ldm-celebahq-256, vqvae": CELEBA,
    "amused/amused-256, vqvae": {
        **CELEBA,
        **levels(5),
        "block_out_channels": [128, 256, 256, 512, 768],
        "latent_channels": 64,
        "layers_per_block": 2,
        "lookup_from_codebook": True,
        "mid_block_add_attention": False,
        "norm_num_groups": 32,
        "norm_type": "group",
        "vq_embed_dim": 64,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_reference_s_tensors(name):
    said = PUBLISHED[name]
    layout, kind = (
        (AutoencoderKLDiffusers(), AutoencoderKL)
        if said["_class_name"] == "AutoencoderKL"
        else (VQAutoencoderDiffusers(), VQModel)
    )
    with torch.device("meta"):
        ours = layout.model(layout.read_config(Description(said)))
        theirs = kind.from_config(said)
        again = kind.from_config(layout.write_config(ours))
    expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, ours).items()} == expected
    assert {key: tensor.shape for key, tensor in again.state_dict().items()} == expected


def test_published_configs_are_those_of_the_hub():
    layout = AutoencoderKLDiffusers()
    assert layout.published["stabilityai/sd-vae-ft-mse"].config == layout.read_config(
        Description(PUBLISHED["stabilityai/sd-vae-ft-mse"])
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"act_fn": "gelu"}, "activation 'gelu'"),
        ({"latents_mean": [0.1, 0.2, 0.3, 0.4]}, "'latents_mean'"),
        ({"out_channels": 4}, "'out_channels' 4"),
        ({"up_block_types": [UP, UP, f"Attn{UP}"]}, "does not mirror"),
        ({"up_block_types": [UP]}, "does not mirror"),
        ({"down_block_types": [DOWN, DOWN, "SkipDownBlock2D"]}, "a level 'SkipDownBlock2D'"),
        ({"norm_num_groups": 5}, "makes no sense"),
        ({"block_out_channels": [], "down_block_types": [], "up_block_types": []}, "one level at least"),
        ({"latent_channels": 8}, "is wanted"),
    ],
)
def test_what_it_cannot_be_is_said(changes, said, tmp_path):
    kl().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=said):
        vitrail.load(tmp_path)


def test_movq_is_not_known(tmp_path):
    VQModel(norm_type="spatial").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="'norm_type' 'spatial'"):
        vitrail.load(tmp_path)
