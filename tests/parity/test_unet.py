"""The conditional UNet gives diffusers' numbers from diffusers' files, and goes back into them."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel

import vitrail
from tests.parity.diffusion import assert_same_names, load_diffusers
from tests.parity.references import assert_same, assert_same_tensors, randomise
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers
from vitrail.errors import CheckpointError

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
SMALL = {
    "sample_size": 8,
    "block_out_channels": [16, 32, 48, 48],
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
TWO = {**SMALL, "use_linear_projection": True, "attention_head_dim": [2, 4, 6, 6], "upcast_attention": True}
XL = {
    **TWO,
    "block_out_channels": [16, 32, 48],
    "attention_head_dim": [2, 4, 6],
    "down_block_types": [PLAIN, CROSS, CROSS],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 3],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 10,
    "projection_class_embeddings_input_dim": 75,
}
CONFIGS: dict[str, dict] = {
    "1.5": SMALL,
    "2.1": TWO,
    "XL": XL,
    "XL's refiner": {
        **XL,
        "block_out_channels": [16, 32, 48, 48],
        "attention_head_dim": [2, 4, 6, 6],
        "down_block_types": [PLAIN, CROSS, CROSS, PLAIN],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": 2,
    },
    "inpainting": {**SMALL, "in_channels": 9},
    "uneven": {**SMALL, "layers_per_block": [1, 3, 2, 1], "norm_eps": 1e-2, "sample_size": [8, 16]},
    "one level": {**SMALL, "block_out_channels": [16], "down_block_types": [PLAIN], "up_block_types": ["UpBlock2D"]},
}


def unet(odd: str = "1.5") -> UNet2DConditionModel:
    """A small UNet2DConditionModel with random weights."""
    return randomise(UNet2DConditionModel(**CONFIGS[odd]))


def inputs(reference: UNet2DConditionModel, size: tuple[int, int] = (8, 8)) -> tuple:
    """Noisy pictures, times, texts, and what XL is told besides."""
    x, text = torch.randn(2, reference.config.in_channels, *size), torch.randn(2, 5, 12)
    added = (torch.randn(2, 15), torch.randint(0, 1024, (2, 6)))
    return x, torch.tensor([3, 801]), text, added if reference.config.addition_embed_type else None


def asked(reference: UNet2DConditionModel, x, t, text, added=None):
    """What diffusers says."""
    told = None if added is None else dict(zip(("text_embeds", "time_ids"), added, strict=True))
    return reference(x, t, text, added_cond_kwargs=told).sample


@pytest.mark.parametrize("odd", CONFIGS)
@torch.inference_mode()
def test_it_says_what_diffusers_says_and_goes_back(odd, tmp_path):
    reference = unet(odd)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    what = inputs(reference)
    expected = asked(reference, *what)
    assert model.family == "unet"
    assert not model.training
    assert_same(model(*what), expected)

    vitrail.save(model, tmp_path / "back")
    back = load_diffusers(UNet2DConditionModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(asked(back, *what), expected)


@pytest.mark.parametrize("size", [(9, 8), (15, 5), (1, 1), (16, 24)])
@torch.inference_mode()
def test_sizes_that_cannot_be_halved(size, tmp_path):
    reference = unet()
    reference.save_pretrained(tmp_path)
    what = inputs(reference, size)
    assert_same(vitrail.load(tmp_path)(*what), asked(reference, *what))


@pytest.mark.parametrize("time", [7, 500.25, torch.tensor(999)])
@torch.inference_mode()
def test_one_time_for_all(time, tmp_path):
    reference = unet()
    reference.save_pretrained(tmp_path)
    x, _, text, _ = inputs(reference)
    assert_same(vitrail.load(tmp_path)(x, time, text), asked(reference, x, time, text))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_engines_agree(dtype, tmp_path):
    reference = unet("XL")
    reference.save_pretrained(tmp_path)
    eager, chosen = vitrail.load(tmp_path, dtype=dtype, engine="eager"), vitrail.load(tmp_path, dtype=dtype)
    x, t, text, (vector, numbers) = inputs(reference)
    what = x.to(dtype), t, text.to(dtype), (vector.to(dtype), numbers)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    assert_same(chosen(*what).float(), eager(*what).float(), tolerance)
    assert_same(chosen(*what).float(), asked(reference, x, t, text, (vector, numbers)), tolerance)


STABLE = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [CROSS, CROSS, CROSS, PLAIN],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
STABLE_2 = {
    **STABLE,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": True,
}
STABLE_XL = {
    **STABLE_2,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": [PLAIN, CROSS, CROSS],
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "upcast_attention": None,
}
PUBLISHED: dict[str, dict] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": STABLE,
    "stable-diffusion-v1-5/stable-diffusion-inpainting": {**STABLE, "in_channels": 9},
    "stabilityai/stable-diffusion-2-1": {**STABLE_2, "sample_size": 96, "upcast_attention": True},
    "stabilityai/stable-diffusion-2-1-base": STABLE_2,
    "stabilityai/stable-diffusion-xl-base-1.0": STABLE_XL,
    "stabilityai/stable-diffusion-xl-refiner-1.0": {
        **STABLE_XL,
        "attention_head_dim": [6, 12, 24, 24],
        "block_out_channels": [384, 768, 1536, 1536],
        "cross_attention_dim": 1280,
        "down_block_types": [PLAIN, CROSS, CROSS, PLAIN],
        "projection_class_embeddings_input_dim": 2560,
        "transformer_layers_per_block": 4,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name):
    layout = UNetDiffusers()
    assert_same_names(layout, layout.published[f"{name}/unet"].config, UNet2DConditionModel, PUBLISHED[name])


def test_every_published_network_is_compared():
    assert {f"{name}/unet" for name in PUBLISHED} == UNetDiffusers.published.keys()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_class_embeds": 10}, "told a class \\('num_class_embeds' 10\\): Vitrail's are told texts alone"),
        ({"class_embed_type": "timestep"}, "told a class"),
        ({"time_cond_proj_dim": 256}, "'time_cond_proj_dim' 256"),
        ({"addition_embed_type": "image"}, "'addition_embed_type' 'image'"),
        ({"down_block_types": ["KDownBlock2D"] * 4}, "a block 'KDownBlock2D'"),
        ({"down_block_types": [CROSS] * 4}, "not the same on the way down"),
        ({"attention_head_dim": 5}, "makes no sense: width 16 cannot be shared by 8 groups and 5 heads"),
        ({"attention_head_dim": [4, 4]}, r"makes no sense: heads \(4, 4\) are not one for each"),
        ({"block_out_channels": "many"}, "makes no sense|not the same"),
        ({"layers_per_block": 10**8}, "blocks of a checkpoint with"),
        ({"transformer_layers_per_block": 10**8}, "blocks of a checkpoint with"),
        ({"addition_embed_type": "text_time"}, "makes no sense: added_width is None"),
        ({"cross_attention_dim": [12, 12, 12, 12]}, "makes no sense: context_width"),
    ],
)
def test_what_it_cannot_be_is_said(changes, said, tmp_path):
    unet().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=said):
        vitrail.load(tmp_path)
