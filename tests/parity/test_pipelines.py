"""Whole pipelines give diffusers' pictures from diffusers' folders, and go back into them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import vitrail
from tests import pipelines
from tests.parity.references import assert_same_tensors
from vitrail.checkpoints.layout import to_theirs
from vitrail.checkpoints.layouts.clip_text_transformers import CLIPTextTransformers
from vitrail.checkpoints.layouts.stable_diffusion_diffusers import (
    StableDiffusionDiffusers,
    StableDiffusionXLDiffusers,
)
from vitrail.checkpoints.schedulers import read_chain, write_chain
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.models.clip_text import CLIPTextEncoder
from vitrail.models.generator import Generator

TOLERANCE = 1e-4
TOLD = {
    "1.5": pipelines.stable_diffusion,
    "2.1": partial(pipelines.stable_diffusion, second=True),
    "XL": pipelines.stable_diffusion_xl,
}
UNTOLD = {"DDPM": pipelines.ddpm, "score SDE": pipelines.score_sde}
PROMPTS = ["a frog!", "an onion, wow"]


def saved(pipeline: DiffusionPipeline, folder: Path) -> tuple[DiffusionPipeline, Generator]:
    """The reference and what Vitrail makes of its folder."""
    pipeline.set_progress_bar_config(disable=True)
    model = vitrail.load(pipelines.save(pipeline, folder / "theirs"))
    assert isinstance(model, Generator)
    return pipeline, model


def theirs(pipeline: DiffusionPipeline, *what: Any, **how: Any) -> Tensor:
    """What the reference makes, in [-1, 1]."""
    images = torch.from_numpy(pipeline(*what, output_type="np", **how).images)
    return images.permute(0, 3, 1, 2) * 2 - 1


def assert_same_pictures(actual: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


def assert_same_parts(one: DiffusionPipeline, other: DiffusionPipeline) -> None:
    """Every network of one has the tensors of the other."""
    for name, part in one.components.items():
        if isinstance(part, nn.Module):
            assert_same_tensors(part, other.components[name])


@pytest.mark.parametrize("kind", TOLD)
@torch.inference_mode()
def test_text_to_picture(kind, tmp_path):
    reference, model = saved(TOLD[kind](tmp_path), tmp_path)
    noise = torch.randn(2, *model.latent_shape(model.usual.size))
    expected = theirs(reference, PROMPTS, num_inference_steps=6, latents=noise)
    cond, negative = model.condition(PROMPTS), model.condition_against([""])
    assert_same_pictures(model.sample(cond, noise, negative=negative, num_steps=6), expected)
    assert (expected[0] - expected[1]).abs().max() > 0.1  # it does matter what is said

    against = model.condition_against(["a hat"])
    one = model.sample(model.condition(PROMPTS[:1]), noise[:1], negative=against, num_steps=2, guidance_scale=3.0)
    said = {"negative_prompt": "a hat", "guidance_scale": 3.0, "latents": noise[:1]}
    assert_same_pictures(one, theirs(reference, PROMPTS[0], num_inference_steps=2, **said))

    vitrail.save(model, tmp_path / "back")
    back = type(reference).from_pretrained(tmp_path / "back")
    back.set_progress_bar_config(disable=True)
    assert_same_parts(back, reference)
    assert type(back.scheduler) is type(reference.scheduler)
    assert_same_pictures(theirs(back, PROMPTS, num_inference_steps=6, latents=noise), expected)

    vitrail.save(model, tmp_path / "ours.safetensors", layout="vitrail")
    again = vitrail.load(tmp_path / "ours.safetensors")
    assert again.config == model.config
    assert torch.equal(again.condition(PROMPTS)["context"], cond["context"])


@torch.inference_mode()
def test_clip_skip(tmp_path):
    reference, model = saved(TOLD["1.5"](tmp_path), tmp_path)
    noise, tower = torch.randn(1, 4, 8, 8), reference.text_encoder
    model.clip_skip = 1
    got = model.sample(model.condition(["a hat"]), noise, num_steps=2)
    ids = reference.tokenizer("a hat", padding="max_length", return_tensors="pt").input_ids
    tokens = tower.final_layer_norm(tower(ids, output_hidden_states=True).hidden_states[-2])
    how = {"num_inference_steps": 2, "latents": noise, "guidance_scale": 1}
    assert_same_pictures(got, theirs(reference, prompt_embeds=tokens, **how))


@pytest.mark.parametrize("kind", UNTOLD)
@torch.inference_mode()
def test_out_of_noise(kind, tmp_path):
    reference, model = saved(UNTOLD[kind](tmp_path), tmp_path)
    expected = theirs(reference, num_inference_steps=6, generator=torch.Generator().manual_seed(7))
    dice = torch.Generator().manual_seed(7)
    noise = torch.randn(1, *model.latent_shape(model.usual.size), generator=dice)
    found = model.sample(None, noise, num_steps=6, generator=dice)
    assert_same_pictures(found, expected.expand(-1, 3, -1, -1))

    vitrail.save(model, tmp_path / "back")
    back = type(reference).from_pretrained(tmp_path / "back")
    assert_same_parts(back, reference)
    assert vitrail.load(tmp_path / "back").config == model.config


@torch.inference_mode()
def test_classes(tmp_path):
    reference, model = saved(pipelines.dit(tmp_path), tmp_path)
    assert model.labels[5] == "thing 5, object 5"
    assert model.condition(["thing 5", "Object 7", "thing 5, object 5", ""]).tolist() == [5, 7, 5, 1000]
    dice = torch.Generator().manual_seed(7)
    noise = torch.randn(2, 4, 8, 8, generator=dice)
    expected = theirs(reference, class_labels=[5, 7], num_inference_steps=6, generator=torch.Generator().manual_seed(7))
    found = model.sample(model.condition(["thing 5", "thing 7"]), noise, negative=model.condition([""]), num_steps=6)
    assert_same_pictures(found, expected)

    vitrail.save(model, tmp_path / "back")
    back = type(reference).from_pretrained(tmp_path / "back")
    assert back.labels["object 7"] == 7
    assert_same_parts(back, reference)


LEADING = {"timestep_spacing": "leading"}
SCHEDULERS: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, LEADING),
    "euler, trailing": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "euler, Karras": (EulerDiscreteScheduler, {**LEADING, "use_karras_sigmas": True}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, LEADING),
    "heun": (HeunDiscreteScheduler, LEADING),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
    "dpm++2m-sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@torch.inference_mode()
def test_other_schedulers(name, tmp_path):
    pipeline = TOLD["1.5"](tmp_path)
    kind, odd = SCHEDULERS[name]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **odd)
    reference, model = saved(pipeline, tmp_path)
    assert model.usual.sampler == name.split(",")[0]
    noise = torch.randn(1, 4, 8, 8)
    how = {"num_inference_steps": 5, "latents": noise, "guidance_scale": 1}
    expected = theirs(reference, PROMPTS[0], generator=torch.Generator().manual_seed(7), **how)
    dice = torch.Generator().manual_seed(7)
    found = model.sample(model.condition(PROMPTS[:1]), noise, num_steps=5, generator=dice)
    assert_same_pictures(found, expected)


KINDS = [kind for kind, _ in SCHEDULERS.values()] + [PNDMScheduler, DDPMScheduler, LCMScheduler]


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS))
@pytest.mark.parametrize("odd", [{}, {"prediction_type": "v_prediction", "steps_offset": 1}])
def test_a_scheduler_s_config_there_and_back(kind, odd):
    said = dict(kind(**pipelines.NOISE, **odd).config)
    chain = read_chain({"_class_name": kind.__name__, **said})
    assert chain == read_chain({"_class_name": kind.__name__, **pipelines.NOISE, **odd})  # what is left out is as there
    written = write_chain(chain)
    assert written["_class_name"] == kind.__name__
    assert read_chain(written) == chain
    shared = said.keys() & written.keys() - {"skip_prk_steps"}  # the Runge-Kutta steps before PNDM's own
    assert {name: said[name] for name in shared} == {name: written[name] for name in shared}
    one, other = kind(**pipelines.NOISE, **odd), kind.from_config(written)
    torch.testing.assert_close(one.alphas_cumprod, other.alphas_cumprod)


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerDiscreteScheduler])
@pytest.mark.parametrize("kind", ["1.5", "XL"])
@torch.inference_mode()
def test_picture_to_picture(kind, scheduler, strength, tmp_path):
    pipeline = TOLD[kind](tmp_path)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, clip_sample=False, **LEADING)
    _, model = saved(pipeline, tmp_path)
    edit = StableDiffusionXLImg2ImgPipeline if kind == "XL" else StableDiffusionImg2ImgPipeline
    unused = {"add_watermarker": False} if kind == "XL" else {"requires_safety_checker": False}
    reference = edit(**pipeline.components, **unused)
    reference.set_progress_bar_config(disable=True)
    start = torch.rand(1, 3, 16, 16)
    dice = torch.Generator().manual_seed(7)
    torch.randn(1, 4, 8, 8, generator=dice)  # what diffusers draws from the autoencoder's posterior
    noise = torch.randn(1, 4, 8, 8, generator=dice)
    how = {"num_inference_steps": 7, "strength": strength, "generator": torch.Generator().manual_seed(7)}
    expected = theirs(reference, PROMPTS[0], image=start, **how)
    found = model.sample(
        model.condition(PROMPTS[:1]),
        noise,
        negative=model.condition_against([""]),
        guidance_scale=5.0 if kind == "XL" else 7.5,
        num_steps=7,
        start=start * 2 - 1,
        strength=strength,
    )
    assert_same_pictures(found, expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("channels", [4, 9])
@torch.inference_mode()
def test_inpainting(channels, strength, tmp_path):
    pipeline = pipelines.stable_diffusion(tmp_path, channels=channels)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    _, model = saved(pipeline, tmp_path)
    reference = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    reference.set_progress_bar_config(disable=True)
    assert model.inpaints == (channels == 9)
    start, noise = torch.rand(1, 3, 16, 16), torch.randn(1, 4, 8, 8)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:13, 2:9] = 1
    how = {"num_inference_steps": 6, "strength": strength, "guidance_scale": 4.0}
    if strength == 1:
        how["latents"] = noise
    else:
        dice = torch.Generator().manual_seed(7)
        torch.randn(1, 4, 8, 8, generator=dice)
        noise = torch.randn(1, 4, 8, 8, generator=dice)
        how["generator"] = torch.Generator().manual_seed(7)
    expected = theirs(reference, PROMPTS[0], image=start, mask_image=mask, **how)
    found = model.sample(
        model.condition(PROMPTS[:1]),
        noise,
        negative=model.condition_against([""]),
        guidance_scale=4.0,
        num_steps=6,
        start=start * 2 - 1,
        strength=strength,
        mask=mask,
    )
    assert_same_pictures(found, expected)


ODD_TEXTS = ["", "  Hat\tAND  onion?", "a" * 40, "an, on, er", "wow"]


def test_texts_become_the_same_tokens(tmp_path):
    reference, model = saved(TOLD["1.5"](tmp_path), tmp_path)
    ids = reference.tokenizer(ODD_TEXTS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(model.tokenizer(ODD_TEXTS), ids)


BANGS = ["!", "a hat!", "wow!! an on", "a ! b", "a!b", "! !", "<|endoftext|> a"]


@pytest.mark.parametrize(
    ("config", "special"),
    [
        ({"pad_token": "<|endoftext|>"}, {"pad_token": "!"}),  # 2.1's
        ({"pad_token": "!"}, {"pad_token": "!"}),  # of XL's second reader
        ({"pad_token": "!"}, None),
        ({"pad_token": "!", "added_tokens_decoder": {}}, {"pad_token": "<|endoftext|>"}),
        ({}, {}),  # 1.5's
    ],
)
def test_what_fills_up_is_a_token_of_its_own_in_texts(config, special, tmp_path):
    vocabulary, merges = pipelines.vocabulary()
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    files = {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps({**ends, "pad_token": "<|endoftext|>", "model_max_length": 12, **config}),
    }
    if special is not None:
        files["special_tokens_map.json"] = json.dumps({**ends, "pad_token": "<|endoftext|>", **special})
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    reference = CLIPTokenizer.from_pretrained(tmp_path)
    texts = [*ODD_TEXTS, *BANGS]
    ids = reference(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    tokenizer = read_clip(files, 12, fixed=True)
    assert tokenizer.pad == reference.pad_token_id
    assert torch.equal(tokenizer(texts), ids)


@torch.inference_mode()
def test_xl_reads_with_two_tokenizers(tmp_path):
    reference, model = saved(TOLD["XL"](tmp_path), tmp_path)
    for prompt in BANGS:
        tokens, _, vector, _ = reference.encode_prompt(prompt, do_classifier_free_guidance=False)
        cond = model.condition([prompt])
        torch.testing.assert_close(cond["context"], tokens, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(cond["vector"], vector, rtol=0, atol=TOLERANCE)


PUBLISHED = {
    "2.1": (
        StableDiffusionDiffusers.published["stabilityai/stable-diffusion-2-1"].config.text,
        CLIPTextModel,
        {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "XL": (
        StableDiffusionXLDiffusers.published["stabilityai/stable-diffusion-xl-base-1.0"].config.text2,
        CLIPTextModelWithProjection,
        {
            "hidden_size": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "intermediate_size": 5120,
            "projection_dim": 1280,
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_text_towers(name):
    config, kind, said = PUBLISHED[name]
    with torch.device("meta"):
        model, reference = CLIPTextEncoder(config), kind(CLIPTextConfig(**said))
    names = {
        f"text_model.{key}".replace("text_model.text_", "text_"): value for key, value in reference.state_dict().items()
    }
    written = to_theirs(CLIPTextTransformers(), model)
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in names.items()}
