"""DDPM and NCSN++ give diffusers' numbers from its files, and go back into them."""

import json
import math

import pytest
import torch
from diffusers import UNet2DModel

import vitrail
from tests.parity.diffusion import assert_same_names, load_diffusers
from tests.parity.references import assert_same, assert_same_tensors, randomise
from vitrail.checkpoints.layouts.ddpm_diffusers import DDPMDiffusers, NCSNppDiffusers

PLAIN = {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
}
SKIPS = {
    **PLAIN,
    "block_out_channels": (32, 128, 64),
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"),
    "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D"),
    "norm_eps": 1e-6,
    "mid_block_scale_factor": 1.41421356237,
    "time_embedding_type": "fourier",
    "norm_num_groups": None,
    "center_input_sample": True,
    "attention_head_dim": None,
}
AS_PUBLISHED = {
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
CASES = {
    "diffusers' own numbers": PLAIN,
    "as published": {**PLAIN, **AS_PUBLISHED},
    "one channel, two outputs": {**PLAIN, "in_channels": 1, "out_channels": 2, "norm_num_groups": 8},
    "no attention at the bottom": {**PLAIN, "add_attention": False, "layers_per_block": 1},
    "skips": SKIPS,
    "skips in [-1, 1], heads of 8": {**SKIPS, "center_input_sample": False, "attention_head_dim": 8},
    "skips, no attention at the bottom": {**SKIPS, "add_attention": False, "layers_per_block": 1},
}


def inputs(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(2, CASES[case].get("in_channels", 3), 16, 24)
    return images, torch.tensor([0.03, 71.0]) if case.startswith("skips") else torch.tensor([0, 999])


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_a_network(case, tmp_path):
    reference = randomise(UNet2DModel(**CASES[case]))
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    images, times = inputs(case)
    expected = reference(images, times).sample
    assert model.family == ("ncsnpp" if case.startswith("skips") else "ddpm")
    rounding = 3e-5 if case.startswith("skips") else 1e-5  # there diffusers is 2e-5 away from its own float64
    for row in (0, 1):  # each alone: the score at little noise is large
        assert_same(model(images, times)[[row]], expected[[row]], rounding)

    vitrail.save(model, tmp_path / "back")
    back = load_diffusers(UNet2DModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images, times).sample, expected)

    exact, found = reference.double()(images.double(), times).sample, model.double()(images.double(), times)
    for row in (0, 1):
        assert_same(found[[row]].float(), exact[[row]].float(), 3e-6)  # the waves are in float32


@pytest.mark.parametrize("case", ["as published", "skips"])
@torch.inference_mode()
def test_in_bfloat16_it_says_nearly_the_same(case, tmp_path):
    randomise(UNet2DModel(**CASES[case])).save_pretrained(tmp_path / "theirs")
    images, times = inputs(case)
    expected = vitrail.load(tmp_path / "theirs")(images, times)
    loaded = vitrail.load(tmp_path / "theirs", dtype=torch.bfloat16)
    cast = vitrail.load(tmp_path / "theirs").bfloat16()
    for model in (loaded, cast):
        found = model(images, times)
        assert found.dtype == torch.bfloat16
        for row in (0, 1):
            away = (found[row].float() - expected[row]).norm() / expected[row].norm()
            assert away < 0.05, f"{away:.3f} of it"


@torch.inference_mode()
def test_names_of_attention_before_diffusers_0_17(tmp_path):
    reference = randomise(UNet2DModel(**PLAIN))
    reference.save_pretrained(tmp_path / "new")
    old = tmp_path / "old"
    old.mkdir()
    state = {}
    for name, tensor in reference.state_dict().items():
        for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{before}.")
        state[name] = tensor
    torch.save(state, old / "diffusion_pytorch_model.bin")
    (old / "config.json").write_text((tmp_path / "new" / "config.json").read_text())
    images, times = inputs("as published")
    assert_same(vitrail.load(old)(images, times), reference(images, times).sample)


PUBLISHED = {**DDPMDiffusers.published, **NCSNppDiffusers.published}


@pytest.mark.parametrize(
    ("name", "widths", "attending"),
    [
        ("google/ddpm-cifar10-32", (128, 256, 256, 256), 1),
        ("google/ddpm-celebahq-256", (128, 128, 256, 256, 512, 512), 4),
        *((f"google/ncsnpp-{of}-256", (128, 128, 256, 256, 256, 256, 256), 4) for of in ("church", "ffhq", "celebahq")),
        ("google/ncsnpp-ffhq-1024", (16, 32, 64, 128, 256, 512, 512, 512), 6),
    ],
)
def test_published_networks(name, widths, attending):
    skips = "ncsnpp" in name
    kinds = [("Attn" if level == attending else "") + ("Skip" if skips else "") for level in range(len(widths))]
    config = {
        **(SKIPS if skips else AS_PUBLISHED),
        "sample_size": int(name.split("-")[-1]),
        "block_out_channels": widths,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in kinds[::-1]),
        "layers_per_block": 1 if name.endswith("1024") else 2,
    }
    layout = NCSNppDiffusers() if skips else DDPMDiffusers()
    assert_same_names(layout, PUBLISHED[f"{name}/unet"].config, UNet2DModel, config)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D", "DownBlock2D"]},
            "only the blocks DownBlock2D",
        ),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D"]}, "only the blocks DownBlock2D"),
        ({"num_class_embeds": 10}, "num_class_embeds"),
        ({"act_fn": "gelu"}, "activation 'gelu'"),
        ({"downsample_padding": 2}, "margin of 0 or 1"),
        ({"attention_head_dim": 7}, "heads of 7"),
        ({"block_out_channels": [32, 64]}, "2 widths"),
        ({"time_embedding_type": "learned"}, "no family"),
        ({**SKIPS, "block_out_channels": [32, 64, 64]}, "at least 128"),
        ({**SKIPS, "mid_block_scale_factor": 1}, "root of two"),
    ],
)
def test_what_is_not_known_is_refused(changed, reason, tmp_path):
    UNet2DModel(**PLAIN).save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, **changed}))
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.load(tmp_path)


def test_the_root_of_two_is_written(tmp_path):
    reference = UNet2DModel(**SKIPS)
    reference.save_pretrained(tmp_path / "theirs")
    vitrail.save(vitrail.load(tmp_path / "theirs"), tmp_path / "back")
    said = json.loads((tmp_path / "back" / "config.json").read_text())
    assert said["mid_block_scale_factor"] == math.sqrt(2)
