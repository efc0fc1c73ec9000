"""Stable Diffusion 1.5 beside diffusers, the same weights and input in one run: a step of its UNet, and whole pictures.

    python benchmarks/diffusion.py [--what step picture] [--rounds 5] [--size 32] [--batch 1] [--num-steps 4]
        [--threads 2] [--clock wall] [--json FILE]

The networks have the published sizes (the UNet 860 million parameters, the autoencoder 84, the text tower 123) and
random weights; latents of 32×32 are a picture of 256 pixels. Nothing is read or written: ours is made first, prepared
as `vitrail.load` prepares it, and diffusers' are given its tensors. A picture is all that lies between a prompt's token
ids and pixels: the text tower on the prompt and on nothing, the steps of DDIM, each of them guided (7.5, so that the
UNet sees two rows), and the decoder, from the same noise. That both give the same numbers, and make the same picture,
is checked before anything is timed.

In every round each contender has a turn; stated are medians over the rounds and the median of the rounds' ratios, which
a neighbour on the machine disturbs less than it disturbs the times. `--clock processor` counts processor time instead:
with one thread that is what a crowded machine would take were it empty, but for the memory and caches that are shared.

The last column is how long the products and convolutions alone would take at the rate of one large product with a
packed weight, in the same precision.
"""

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import describe, table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitrail.bench.machine import CLOCKS, PRODUCT, product
from vitrail.bench.weights import randomise
from vitrail.evaluation.torchmetrics import declare_missing_operators

declare_missing_operators()  # or diffusers could not import beside a CPU build of torch
import diffusers  # noqa: E402
import transformers  # noqa: E402

from vitrail.checkpoints.layout import Layout, to_theirs  # noqa: E402
from vitrail.checkpoints.layouts.autoencoder_diffusers import AutoencoderKLDiffusers  # noqa: E402
from vitrail.checkpoints.layouts.clip_text_transformers import CLIPTextTransformers  # noqa: E402
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers  # noqa: E402
from vitrail.checkpoints.schedulers import write_chain  # noqa: E402
from vitrail.engines import prepare  # noqa: E402
from vitrail.models.chain import Chain  # noqa: E402
from vitrail.models.clip_text import CLIPTextEncoder  # noqa: E402
from vitrail.models.stable_diffusion import StableDiffusion, StableDiffusionConfig  # noqa: E402

TOLERANCE = {  # of the largest number: what rounding may do in 22 blocks, and in a few guided steps of them
    "step": {torch.float32: 1e-4, torch.bfloat16: 0.05},
    "picture": {torch.float32: 1e-3, torch.bfloat16: 0.2},
}
SAMPLER, GUIDANCE = "ddim", 7.5
START, END = 49406, 49407  # the tokens around a prompt

Contenders = dict[str, Callable[[], Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=COMPARED, nargs="+", default=list(COMPARED))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="side of the latents")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--num-steps", type=int, default=4, help="of a picture")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path, help="where to write the numbers, besides printing them")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)

    print(describe() + f", diffusers {diffusers.__version__}, {asked.clock} time in seconds")
    print(f"a picture: {8 * asked.size} pixels, {asked.num_steps} steps of {SAMPLER}, guidance {GUIDANCE}\n")
    header = ["", "dtype", "vitrail", "", "diffusers", "ratio", "its products alone", "they differ by"]
    print(table(header, []), flush=True)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        ours = build(dtype)
        theirs = given_to_diffusers(ours)
        engine = prepare(ours, "auto")
        for what in asked.what:
            said = {"what": what, "dtype": str(dtype).removeprefix("torch."), "engine": engine}
            contenders = COMPARED[what](ours, theirs, asked)
            result = compare(contenders, dtype, TOLERANCE[what][dtype], asked.rounds, CLOCKS[asked.clock])
            results.append({**said, **result})
            print(row(results[-1]), flush=True)
        del ours, theirs, contenders
        gc.collect()
    if asked.json:
        said = {"machine": describe(), "clock": asked.clock, "size": asked.size, "num_steps": asked.num_steps}
        asked.json.write_text(json.dumps({**said, "results": results}, indent=2) + "\n")


def step(ours: StableDiffusion, theirs: Any, asked: argparse.Namespace) -> Contenders:
    """One look at the UNet."""
    dtype = ours.unet.stem.weight.dtype
    x = torch.randn(asked.batch, 4, asked.size, asked.size, dtype=dtype)
    text = torch.randn(asked.batch, 77, 768, dtype=dtype)
    return {"vitrail": lambda: ours.unet(x, 500, text), "diffusers": lambda: theirs.unet(x, 500, text).sample}


def picture(ours: StableDiffusion, theirs: Any, asked: argparse.Namespace) -> Contenders:
    """From token ids to pixels in [-1, 1]."""
    dtype = ours.unet.stem.weight.dtype
    noise = torch.randn(asked.batch, 4, asked.size, asked.size)
    nothing = torch.full((asked.batch, 77), END)
    nothing[:, 0] = START
    prompt = nothing.clone()
    prompt[:, 1:9] = torch.randint(START, (asked.batch, 8))

    def by_vitrail() -> Tensor:
        cond, negative = ({"context": ours.text.read(ids)[0]} for ids in (prompt, nothing))
        how = {"num_steps": asked.num_steps, "sampler": SAMPLER, "guidance_scale": GUIDANCE}
        return ours.sample(cond, noise, negative=negative, **how)

    def by_diffusers() -> Tensor:
        tokens, none = (theirs.text_encoder(ids).last_hidden_state for ids in (prompt, nothing))
        said = {"prompt_embeds": tokens, "negative_prompt_embeds": none, "guidance_scale": GUIDANCE}
        how = {"num_inference_steps": asked.num_steps, "latents": noise.to(dtype), "output_type": "pt"}
        return theirs(**said, **how).images.float() * 2 - 1

    return {"vitrail": by_vitrail, "diffusers": by_diffusers}


COMPARED = {"step": step, "picture": picture}


def compare(
    contenders: Contenders, dtype: torch.dtype, tolerance: float, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Both libraries' seconds in one precision, and how far apart what they give is."""
    contenders = {**contenders, "product": product(dtype)}
    with torch.inference_mode():
        contenders["product"]()  # packs
        with FlopCounterMode(display=False) as counted:
            expected = contenders["diffusers"]()
        difference = how_far(contenders["vitrail"](), expected)
        if not difference < tolerance:
            raise SystemExit(f"in {dtype} they differ by {difference:.2g} of the largest number: this compares nothing")
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                start = clock()
                call()
                seconds[name].append(clock() - start)
    ratios = [slow / fast for fast, slow in zip(seconds["vitrail"], seconds["diffusers"], strict=True)]
    rate = PRODUCT / min(seconds["product"])
    return {
        "vitrail": statistics.median(seconds["vitrail"]),
        "diffusers": statistics.median(seconds["diffusers"]),
        "ratio": statistics.median(ratios),
        "products": counted.get_total_flops() / rate,
        "difference": difference,
    }


def build(dtype: torch.dtype) -> StableDiffusion:
    """Ours, with random weights under which numbers neither grow nor vanish on their way."""
    with torch.device("meta"):
        model = StableDiffusion(StableDiffusionConfig(chain=Chain(sampler=SAMPLER)))
    model.to(dtype).to_empty(device="cpu")
    randomise(model)
    return model.eval()


def given_to_diffusers(ours: StableDiffusion) -> Any:
    """Theirs, with the same weights; most of them are held once."""
    pipeline: Any = diffusers.StableDiffusionPipeline(
        unet=given(diffusers.UNet2DConditionModel, UNetDiffusers(), ours.unet),
        vae=given(diffusers.AutoencoderKL, AutoencoderKLDiffusers(), ours.autoencoder),
        text_encoder=text_tower_given(ours.text),
        tokenizer=None,
        scheduler=diffusers.DDIMScheduler.from_config(write_chain(ours.config.chain)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def given(kind: Any, layout: Layout, ours: Any) -> nn.Module:
    """A network of diffusers', by the config that we write, with our weights."""
    with torch.device("meta"):
        theirs = kind.from_config(layout.write_config(ours))
    theirs.load_state_dict(to_theirs(layout, ours), assign=True)
    return theirs.eval()


def text_tower_given(ours: CLIPTextEncoder) -> nn.Module:
    """transformers' text tower with our weights; its fifth version has left out what their names begin with."""
    layout = CLIPTextTransformers()
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**layout.write_config(ours)))
    weights = {name.removeprefix("text_model."): tensor for name, tensor in to_theirs(layout, ours).items()}
    theirs.load_state_dict(weights, assign=True)
    return theirs.eval()


def how_far(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, of the largest number."""
    return ((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max()).item()


def row(result: dict[str, Any]) -> str:
    """A row of the table."""
    times = [f"{result[name]:.2f}" for name in ("vitrail", "diffusers", "products")]
    said = [result["what"], result["dtype"], times[0], result["engine"], times[1], f"{result['ratio']:.2f}×", times[2]]
    return "| " + " | ".join([*said, f"{result['difference']:.1g}"]) + " |"


if __name__ == "__main__":
    main()
