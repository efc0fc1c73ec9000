"""Generators as other programs run them: the written networks and the README's lines do what `vitrail` does."""

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import exporting
from tests.engines.small import relative
from tests.models.test_generator import CONTEXT, VOCABULARY, lively
from tests.models.test_latent_diffusion import tiny
from tests.models.test_lsgm import SMALL
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoderConfig
from vitrail.models.ddpm import DDPMConfig
from vitrail.models.ddpm_pipeline import DDPMPipeline, DDPMPipelineConfig
from vitrail.models.dit import DiTConfig
from vitrail.models.dit_pipeline import DiTPipeline, DiTPipelineConfig
from vitrail.models.generator import Generator, to_image
from vitrail.models.lsgm import LSGM
from vitrail.models.ncsnpp import NCSNppConfig
from vitrail.models.score_sde_pipeline import ScoreSDEPipeline, ScoreSDEPipelineConfig
from vitrail.models.stable_diffusion import StableDiffusion, StableDiffusionConfig
from vitrail.models.stable_diffusion_xl import StableDiffusionXL, StableDiffusionXLConfig
from vitrail.models.unet import UNetConfig
from vitrail.tasks.exports.generating import compared, files, graphs
from vitrail.text.tokenizer import Tokenizer

CODER = AutoencoderKLConfig(image_size=4, widths=(8,), depth=1, middle_attention=False, groups=4)
TEXT = CLIPTextConfig(vocabulary=len(VOCABULARY), context=CONTEXT, width=8, depth=2, heads=2, mlp_width=16)
UNET = UNetConfig(
    image_size=4, widths=(16,), depths=(1,), transformer_depths=(0,), heads=(2,), context_width=8, groups=8
)
LONG = "a cab, a b" + " c a b" * CONTEXT  # more than is read


def words() -> Tokenizer:
    return read_clip({"vocab.json": json.dumps(VOCABULARY), "merges.txt": "#version: 0.2\n"}, CONTEXT, fixed=True)


def stable(channels: int = 4) -> StableDiffusion:
    tower = CLIPTextEncoderConfig(replace(TEXT, depth=1))
    model = StableDiffusion(StableDiffusionConfig(replace(UNET, channels=channels), CODER, tower))
    model.tokenizer = words()
    return model


def xl() -> StableDiffusionXL:
    unet = replace(UNET, context_width=16, added_width=4 + 6 * 8, number_width=8)
    towers = CLIPTextEncoderConfig(TEXT), CLIPTextEncoderConfig(TEXT, 4)
    model = StableDiffusionXL(StableDiffusionXLConfig(unet, CODER, *towers, pad2=2))
    model.tokenizer = words()
    return model


def dit() -> DiTPipeline:
    network = DiTConfig(image_size=8, patch_size=2, width=16, depth=1, heads=2, classes=3)
    model = DiTPipeline(DiTPipelineConfig(network, CODER))
    model.labels = ("tench, Tinca\ntinca", 'a "crane"', "a cat's cradle")
    return model


def ddpm() -> DDPMPipeline:
    """In grey."""
    network = DDPMConfig(image_size=8, channels=1, outputs=1, widths=(8,), depth=1, attention=(True,), groups=4)
    return DDPMPipeline(DDPMPipelineConfig(network))


def score() -> ScoreSDEPipeline:
    """Of pictures in [0, 1]."""
    network = NCSNppConfig(image_size=8, widths=(8, 8), depth=1, attention=(False, False), middle_attention=False)
    return ScoreSDEPipeline(ScoreSDEPipelineConfig(network, steps=20, sigma_max=2.0))


def lsgm() -> LSGM:
    prior = replace(SMALL.prior, widths=(8,), attention=(False,))
    return LSGM(replace(SMALL, autoencoder=replace(CODER, latent_channels=2), prior=prior))


MODELS = {
    "latent-diffusion": tiny,
    "stable-diffusion": lambda: lively(stable()),
    "stable-diffusion-xl": lambda: lively(xl()),
    "dit-pipeline": lambda: lively(dit()),
    "ddpm-pipeline": lambda: lively(ddpm()),
    "score-sde-pipeline": lambda: lively(score()),
    "lsgm": lambda: lively(lsgm()),
}
PROMPTS = {  # XL's is filled up, by each of its readers with another token
    "latent-diffusion": "a red frog on a mat 青蛙",
    "stable-diffusion-xl": "a b",
    "dit-pipeline": 'a "crane"',
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """A second would do nothing for networks so small but wait, in a loop, and for a processor that others use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Written:
    """A network, the folder it was written to, and what runs it there."""

    model: Generator
    folder: Path
    run: dict[str, Any]
    prompt: str


@pytest.fixture(
    scope="module",
    params=[
        ("latent-diffusion", "onnx"),
        ("latent-diffusion", "openvino"),
        ("stable-diffusion", "onnx"),
        ("stable-diffusion-xl", "openvino"),
        ("dit-pipeline", "onnx"),
        ("ddpm-pipeline", "openvino"),
        ("score-sde-pipeline", "openvino"),
        ("lsgm", "openvino"),
    ],
    ids="-".join,
)
def written(request, tmp_path_factory) -> Written:
    family, engine = request.param
    exporting.need(engine)
    model, folder = MODELS[family](), tmp_path_factory.mktemp("written")
    run = exporting.written(model, graphs(model), engine, folder)
    for name, text in files(model, engine, "float32").items():
        (folder / name).write_text(text, encoding="utf-8")
    return Written(model, folder, run, PROMPTS.get(family, LONG))


@pytest.mark.filterwarnings("ignore:the prompt is longer")
@torch.no_grad()
def test_a_step_at_any_level_for_any_batch(written):
    model, size = written.model, written.model.usual.size
    prompts = ["", written.prompt] * 2
    for rows, levels in ((1, [0.7]), (2, [1e-3, 1.3]), (4, [0.02, 0.5, 3.0, model.schedule.sigma_max])):
        cond = model.condition(prompts[-rows:]) if model.prompted else None
        told = list(cond.values()) if isinstance(cond, dict) else [] if cond is None else [cond]
        sigma = torch.tensor(levels)
        x = torch.randn(rows, *model.latent_shape(size)) * (1 + sigma[:, None, None, None])
        expected = model.denoiser()(x, sigma, model.look_at(cond, size))
        for found, row in zip(written.run["denoiser"](x, sigma, *told), expected, strict=True):
            assert relative(found, row) < 1e-4
        if "decoder" in written.run:
            latents = torch.randn_like(x)
            assert relative(written.run["decoder"](latents), model.decode(latents)) < 1e-4


@pytest.mark.filterwarnings("ignore:the prompt is longer")
@torch.no_grad()
def test_what_is_told(written):
    if not written.model.reads:
        assert "text" not in written.run
        return
    tokenizers = {"ids": written.model.tokenizer}
    if isinstance(written.model, StableDiffusionXL):
        tokenizers["ids2"] = written.model.second_tokenizer
    for prompts in (["a b"], ["", "a b", "c" * 99]):
        found = written.run["text"](*(tokenizer(prompts) for tokenizer in tokenizers.values()))
        expected = written.model.condition(prompts)
        for name, values in zip(expected, found if isinstance(found, tuple) else [found], strict=True):
            assert relative(values.float(), expected[name].float()) < 1e-4


@pytest.mark.filterwarnings("ignore:the prompt is longer")
def test_the_program_in_the_readme(written):
    model, folder = written.model, written.folder
    code = exporting.program(folder)
    if model.prompted:
        code, changed = re.subn('prompt = ".*?"(?=\n|  #)', lambda _: f"prompt = {written.prompt!r}", code)
        assert changed == 1
    exporting.run_program(code, folder)
    shape = (1, *model.latent_shape(model.usual.size))
    images = model.sample(
        model.condition([written.prompt]) if model.prompted else None,
        torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32)),
        negative=model.condition_against([""]) if model.prompted else None,
        num_steps=len((folder / "sigmas.txt").read_text().splitlines()) - 1,
        sampler="euler",
    )
    expected = np.array(to_image(images[0])).astype(int)
    with Image.open(folder / "picture.png") as picture:
        found = np.array(picture).astype(int)
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= 2
    assert ((expected > 0) & (expected < 255)).mean() > 0.1  # and not everything is cut off
    assert expected.std() > 10


def test_how_far_it_is_from_pytorch(written):
    found = compared(written.model, written.run)
    assert found.kind == "noise"
    assert found.error < 1e-4
    for name, right in written.run.items():  # a fault in any of them is seen

        def wrong(*given: torch.Tensor, right: Any = right) -> Any:
            said = right(*given)
            first, *others = said if isinstance(said, tuple) else (said,)
            return (1.1 * first, *others) if others else 1.1 * first

        assert compared(written.model, {**written.run, name: wrong}).error > 1e-3


def test_steps_and_files():
    for name, steps in (("ddpm-pipeline", 50), ("latent-diffusion", 20), ("stable-diffusion", 50)):
        model = MODELS[name]()
        beside = files(model, "onnx", "float32")
        levels = [float(line) for line in beside["sigmas.txt"].splitlines()]
        assert levels == model.sigmas(steps, "euler").tolist()
        assert set(beside) == {"README.md", "sigmas.txt", *(["tokenizer.json"] if model.reads else [])}
    assert files(MODELS["dit-pipeline"](), "onnx", "float32")["labels.txt"].splitlines() == [
        "tench, Tinca tinca",
        'a "crane"',
        "a cat's cradle",
    ]


def test_weights_of_another_float_type_are_compared_as_they_are_written():
    model = tiny().bfloat16()
    plain = tiny()
    with torch.no_grad():
        for parameter, rounded in zip(plain.parameters(), model.parameters(), strict=True):
            parameter.copy_(rounded)
    made = graphs(model)
    assert all(given.dtype != torch.bfloat16 for graph in made.values() for given in graph.inputs.values())
    with torch.no_grad():
        assert compared(model, {name: partial(graph.call, plain) for name, graph in made.items()}).error < 1e-6
    assert model.text.projection.weight.dtype == torch.bfloat16


def test_what_cannot_be_exported():
    inpainting = stable(9)
    with pytest.raises(UsageError, match=r"'stable-diffusion' inpaints, and reads a mask and a picture at every step"):
        graphs(inpainting)
    with pytest.raises(UsageError, match="inpaints"):
        files(inpainting, "onnx", "float32")
    model = stable()
    with pytest.raises(UsageError, match="int8 is calibrated on pictures, and 'stable-diffusion' sees none"):
        files(model, "openvino", "int8")
    model.tokenizer = None
    with pytest.raises(UsageError, match="came without a tokenizer"):
        graphs(model)
