"""Networks that make pictures, for other programs: what reads the prompt, what denoises, what decodes; and the program.

A run is the same few lines whatever the family: noise, a denoiser D(x, sigma, told) -> clean latents asked at falling
noise levels with Euler's steps between them, and a decoder. So the networks are written as they are asked, with their
times and scales inside, and the lines stand in the README.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrail.engines.exported import Graph, twin
from vitrail.engines.guard import Comparison, compare
from vitrail.errors import UsageError
from vitrail.models.generator import Generator
from vitrail.models.pixels import PixelGenerator
from vitrail.models.stable_diffusion_xl import StableDiffusionXL
from vitrail.tasks.exports.readme import RUNTIMES, readme
from vitrail.tasks.models import name_of
from vitrail.text.tokenizer import Tokenizer

SAMPLER = "euler"
"""What the README's program runs: it draws nothing, remembers nothing, and is written in a line."""

_PROMPTS = ("", "a smiling cat")  # nothing, which guidance pushes away from, and something
_CHAIN_STEPS = 50  # in place of every step of the chain, where a network is usually run through all: see `Usual`

_RUN = {
    "onnx": [
        'networks = {{name: onnxruntime.InferenceSession(f"{{name}}.onnx") for name in {names}}}',
        "",
        "",
        "def run(name, *given):",
        "    names = [one.name for one in networks[name].get_inputs()]",
        "    return networks[name].run(None, dict(zip(names, given)))",
    ],
    "openvino": [
        'settings = {{"INFERENCE_PRECISION_HINT": "f32"}}',
        'networks = {{name: openvino.compile_model(f"{{name}}.xml", "CPU", settings) for name in {names}}}',
        "",
        "",
        "def run(name, *given):",
        "    return list(networks[name](list(given)).values())",
    ],
}


def graphs(model: Generator) -> dict[str, Graph]:
    """What is written, by the names of the files.

    For any B, and pictures of the network's usual size:

    - "text", where it reads: "ids" (B, N) int64, of Stable Diffusion XL also "ids2", -> what the denoiser is told.
    - "denoiser": "latents" (B, C, h, w) with noise of level "sigma" (B,) on them, and what it is told, -> "clean"
      (B, C, h, w). It is told "text", "mask" and "vector" by latent diffusion, "context" by Stable Diffusion, and by XL
      a "vector", too; "classes" (B,) int64 by DiT; others nothing.
    - "decoder", where latents are not pictures already: "latents" -> "images" (B, 3, H, W) in [-1, 1], or a little
      beyond.

    Raises:
        UsageError: the network inpaints, or came without its tokenizer.
    """
    _check(model)
    model = _in_float32(model)
    model.sigmas(1, SAMPLER)  # the levels are computed now: a tracer would keep its own stand-ins for them in the model
    latents = {"latents": torch.zeros(2, *model.latent_shape(model.usual.size))}
    told, made = _told(model), {}
    if model.reads:
        made["text"] = Graph(lambda model, *ids: tuple(model.read(*ids).values()), _ids(model), tuple(told))
    made["denoiser"] = Graph(
        lambda model, latents, sigma, *values: _clean(model, latents, sigma, dict(zip(told, values, strict=True))),
        {**latents, "sigma": torch.ones(2), **told},
        ("clean",),
    )
    if type(model).decode is not PixelGenerator.decode:
        made["decoder"] = Graph(lambda model, latents: model.decode(latents), latents, ("images",))
    return made


def files(model: Generator, engine: str, precision: str) -> dict[str, str]:
    """The files beside the networks, by name.

    They are `README.md` with the program; `sigmas.txt`, the noise levels of its run, one a line; `tokenizer.json`, of
    Stable Diffusion XL also `tokenizer2.json`, where the network reads; `labels.txt`, a class a line, where it is told
    classes.

    Args:
        model: the network.
        engine: "onnx" or "openvino".
        precision: what it is written in.

    Raises:
        UsageError: as `graphs` raises it; or the precision is int8, whose ranges are taken from what a network sees.
    """
    if precision == "int8":
        raise UsageError(f"int8 is calibrated on pictures, and '{name_of(model)}' sees none: write it in float16")
    written = graphs(model)
    made = {f"{name.replace('ids', 'tokenizer')}.json": one for name, one in _tokenizers(model).items()}
    beside = {name: tokenizer.backend.to_str(pretty=True) for name, tokenizer in made.items()}
    if "classes" in written["denoiser"].inputs:
        beside["labels.txt"] = "".join(" ".join(label.split()) + "\n" for label in _labels(model))
    beside["sigmas.txt"] = "".join(f"{sigma!r}\n" for sigma in _levels(model).tolist())
    packages = ["pillow", *(["tokenizers"] if model.reads else [])]
    code, about = _program(model, engine, written), _about(model, written)
    return {**beside, "README.md": readme(model, engine, packages, code, about)}


@torch.no_grad()
def compared(model: Generator, run: Mapping[str, Callable[..., Any]]) -> Comparison:
    """What was written beside PyTorch in float32: the clean latents of a step in the middle of a run, and the picture.

    Args:
        model: the network.
        run: its graphs by name: tensors in, a tensor or a tuple of them out.

    Returns:
        The larger of both errors, each |a - b| / |b|. The written networks go one after the other, so that what reads
        the prompt is seen in what follows.

    Raises:
        UsageError: as `graphs` raises it.
    """
    _check(model)
    model = _in_float32(model)
    levels = _levels(model)
    sigma = levels[len(levels) // 2].float().expand(2)
    noise = torch.randn(2, *model.latent_shape(model.usual.size), generator=torch.Generator().manual_seed(0))
    latents = model.begin(noise, sigma[0].item(), SAMPLER)
    told = _told(model)
    clean = _clean(model, latents, sigma, told)
    values = _several(run["text"](*_ids(model).values())) if "text" in run else tuple(told.values())
    (found,) = _several(run["denoiser"](latents, sigma, *values))
    comparisons = [compare("noise", [clean], [found])]
    if "decoder" in run:
        (images,) = _several(run["decoder"](found))
        comparisons.append(compare("noise", [model.decode(clean)], [images]))
    return max(comparisons, key=lambda comparison: comparison.error)


def _check(model: Generator) -> None:
    """See that the network can be written.

    Raises:
        UsageError: it cannot.
    """
    if model.inpaints:
        raise UsageError(
            f"'{name_of(model)}' inpaints, and reads a mask and a picture at every step: exported are networks that "
            "make pictures from noise alone"
        )
    if model.reads and model.tokenizer is None:
        raise UsageError(f"'{name_of(model)}' came without a tokenizer, so it could not be told what to make")


def _in_float32(model: Generator) -> Generator:
    """The network, or a copy of it, as `exported` writes it."""
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return model
    cast: Any = twin(model).float()
    return cast


def _levels(model: Generator) -> Tensor:
    """The falling noise levels of the README's run, (num_steps + 1,) float64, the last 0."""
    usual = model.usual
    return model.sigmas(_CHAIN_STEPS if usual.sampler == "ddpm" else usual.num_steps, SAMPLER).double()


def _tokenizers(model: Generator) -> dict[str, Tokenizer]:
    """What makes each input of "text", all of one length; empty if it reads none."""
    if not model.reads or model.tokenizer is None:
        return {}
    made = {"ids": model.tokenizer}
    if isinstance(model, StableDiffusionXL):
        made["ids2"] = model.second_tokenizer
    return {name: replace(tokenizer, fixed=True) for name, tokenizer in made.items()}


def _ids(model: Generator) -> dict[str, Tensor]:
    """Two texts, as "text" takes them."""
    return {name: tokenizer(_PROMPTS) for name, tokenizer in _tokenizers(model).items()}


def _labels(model: Generator) -> Sequence[str]:
    """The classes' names, or their numbers where the checkpoint names none; no class comes behind them."""
    return model.labels or [str(number) for number in range(int(model.condition([""])))]


@torch.no_grad()
def _told(model: Any) -> dict[str, Tensor]:
    """What the denoiser is told about two texts, or of no class and the first, by name; empty if it is told nothing."""
    if model.reads:
        return model.read(*_ids(model).values())
    return {"classes": model.condition(["", _labels(model)[0]])} if model.prompted else {}


def _clean(model: Generator, latents: Tensor, sigma: Tensor, told: dict[str, Tensor]) -> Tensor:
    """D(x, sigma, cond), told by name."""
    cond: Any = told.get("classes", told or None)
    return model.denoiser()(latents, sigma, model.look_at(cond, model.usual.size))


def _several(said: Any) -> tuple[Tensor, ...]:
    return said if isinstance(said, tuple) else (said,)


def _about(model: Generator, written: Mapping[str, Graph]) -> list[str]:
    """What was written, in words."""
    return [
        "| network | takes | gives |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {', '.join(map(_described, graph.inputs, graph.inputs.values()))} "
            f"| {', '.join(graph.outputs)} |"
            for name, graph in written.items()
        ),
        "",
        '"denoiser" sees the clean latents in clean + sigma · noise, at any sigma above 0, so any sampler will do.',
        f"`sigmas.txt` holds the noise levels of {len(_levels(model)) - 1} steps of Euler's, which the program takes; "
        f"`vitrail generate` takes {model.usual.num_steps} of {model.usual.sampler}.",
    ]


def _described(name: str, example: Tensor) -> str:
    """ "latents (B, 4, 64, 64) float32"."""
    shape = ", ".join(["B", *map(str, example.shape[1:])]) if example.ndim > 1 else "B,"
    return f"{name} ({shape}) {str(example.dtype).removeprefix('torch.')}"


def _program(model: Generator, engine: str, written: Mapping[str, Graph]) -> list[str]:
    """The lines from a prompt to "picture.png"."""
    sigmas = _levels(model)
    shape = (1, *model.latent_shape(model.usual.size))
    start = model.begin(torch.ones(1).double(), sigmas[0].item(), SAMPLER).item()
    return [
        "import numpy as np",
        f"import {RUNTIMES[engine][0]}",
        "from PIL import Image",
        *(["from tokenizers import Tokenizer"] if model.reads else []),
        "",
        *_asked(model),
        "seed = 0",
        "",
        *(line.format(names=json.dumps(list(written))) for line in _RUN[engine]),
        "",
        "",
        *_telling(model),
        'sigmas = np.loadtxt("sigmas.txt").tolist()',
        f"x = {start!r} * np.random.default_rng(seed).standard_normal({shape}, np.float32)",
        "for sigma, to in zip(sigmas, sigmas[1:]):",
        *_steps(model),
        "    x = clean + to / sigma * (x - clean)  # Euler's step of dx / dsigma = (x - clean) / sigma",
        _decoded(shape[1], "decoder" in written),
        "levels = np.rint((images[0].transpose(1, 2, 0) + 1) * 127.5).clip(0, 255)",
        'Image.fromarray(levels.astype(np.uint8)).save("picture.png")',
    ]


def _asked(model: Generator) -> list[str]:
    """What a reader may change."""
    if not model.prompted:
        return []
    prompt = _PROMPTS[1] if model.reads else " ".join(_labels(model)[0].split())
    return [
        f"prompt = {json.dumps(prompt, ensure_ascii=False)}{'' if model.reads else '  # a line of labels.txt'}",
        f"guidance_scale = {model.usual.guidance_scale!r}",
    ]


def _telling(model: Generator) -> list[str]:
    """What becomes of the prompt: `told`, a batch of two, the first of which says nothing."""
    if not model.prompted:
        return []
    if not model.reads:
        return [
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            f"told = [np.array([{int(model.condition(['']))}, labels.index(prompt)])]  # no class, and the prompt's",
        ]
    lines = ['texts = ["", prompt]  # the first is what the picture is pushed away from']
    for name in _tokenizers(model):
        lines += [
            f'tokenizer = Tokenizer.from_file("{name.replace("ids", "tokenizer")}.json")',
            f"{name} = np.array([text.ids for text in tokenizer.encode_batch(texts)])",
        ]
    lines.append(f'told = run("text", {", ".join(_tokenizers(model))})')
    if isinstance(model, StableDiffusionXL) and model.config.zeros:
        lines.append("for values in told:")
        lines.append("    values[0] = 0  # nothing was zeros in training, and not the empty text")
    return lines


def _steps(model: Generator) -> list[str]:
    """From `x` to `clean`, guided if there is anything to be guided by."""
    if not model.prompted:
        return ['    (clean,) = run("denoiser", x, np.full(1, sigma, np.float32))']
    return [
        '    (both,) = run("denoiser", x.repeat(2, axis=0), np.full(2, sigma, np.float32), *told)',
        "    clean = both[:1] + guidance_scale * (both[1:] - both[:1])",
    ]


def _decoded(channels: int, decoder: bool) -> str:
    """From `x` to `images`, (1, 3, H, W) in [-1, 1]."""
    if decoder:
        return '(images,) = run("decoder", x)'
    return "images = x" if channels == 3 else "images = x.repeat(3, axis=1)"
