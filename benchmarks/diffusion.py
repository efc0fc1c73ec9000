"""A step of Stable Diffusion 1.5's UNet: ours beside diffusers, the same weights and input in one run.

    python benchmarks/diffusion.py [--rounds 5] [--size 32] [--batch 1] [--threads 2] [--clock wall] [--json FILE]

The network has the published size (860 million parameters) and random weights; latents of 32×32 are a picture of 256
pixels. Nothing is read or written: ours is made first, prepared as `vitrail.load` prepares it, and diffusers' is given
its tensors. In every round each contender has a turn; stated are medians over the rounds and the median of the rounds'
ratios, which a neighbour on the machine disturbs less than it disturbs the times. `--clock processor` counts processor
time instead: with one thread that is what a crowded machine would take were it empty, but for the memory and caches
that are shared.

The last column is how long the step's products and convolutions alone would take at the rate of one large product with
a packed weight, in the same precision.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import describe, table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitrail.evaluation.torchmetrics import declare_missing_operators

declare_missing_operators()  # or diffusers could not import beside a CPU build of torch
import diffusers  # noqa: E402

from vitrail.checkpoints.layout import to_theirs  # noqa: E402
from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers  # noqa: E402
from vitrail.engines import prepare  # noqa: E402
from vitrail.engines.packed import pack  # noqa: E402
from vitrail.models.unet import UNet, UNetConfig  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # of the largest number: what rounding may do in 22 blocks
ROWS, INNER, COLUMNS = 1576, 768, 3072  # the matrices whose rate is taken for the machine's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32, help="side of the latents")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path, help="where to write the numbers, besides printing them")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    results = []
    for dtype in (torch.float32, torch.bfloat16):
        results.append(compare(dtype, arguments.batch, arguments.size, arguments.rounds, CLOCKS[arguments.clock]))
        gc.collect()
    print(describe() + f", diffusers {diffusers.__version__}, {arguments.clock} time in seconds a step\n")
    print(table(["dtype", "vitrail", "", "diffusers", "ratio", "its products alone"], [row(one) for one in results]))
    if arguments.json:
        said = {"machine": describe(), "clock": arguments.clock, "size": arguments.size, "results": results}
        arguments.json.write_text(json.dumps(said, indent=2) + "\n")


def compare(dtype: torch.dtype, batch: int, size: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Both libraries' seconds a step in one precision."""
    ours = build(dtype)
    theirs = given_to_diffusers(ours)
    engine = prepare(ours, "auto")
    x, text = torch.randn(batch, 4, size, size, dtype=dtype), torch.randn(batch, 77, 768, dtype=dtype)
    contenders = {
        "vitrail": lambda: ours(x, 500, text),
        "diffusers": lambda: theirs(x, 500, text).sample,
        "product": one_product(dtype),
    }
    with torch.inference_mode():
        contenders["product"]()  # packs
        assert_alike(contenders["vitrail"](), contenders["diffusers"](), dtype)
        with FlopCounterMode(display=False) as counted:
            contenders["diffusers"]()
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, call in contenders.items():
                start = clock()
                call()
                seconds[name].append(clock() - start)
    ratios = [slow / fast for fast, slow in zip(seconds["vitrail"], seconds["diffusers"], strict=True)]
    rate = 2 * ROWS * INNER * COLUMNS / min(seconds["product"])
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "engine": engine,
        "vitrail": statistics.median(seconds["vitrail"]),
        "diffusers": statistics.median(seconds["diffusers"]),
        "ratio": statistics.median(ratios),
        "products": counted.get_total_flops() / rate,
    }


def build(dtype: torch.dtype) -> UNet:
    """Ours, with random weights under which numbers neither grow nor vanish on their way."""
    with torch.device("meta"):
        model = UNet(UNetConfig())
    model.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                reach = module.weight[0].numel() ** -0.5
                for parameter in module.parameters(recurse=False):
                    parameter.uniform_(-reach, reach)
    return model.eval()


def given_to_diffusers(ours: UNet) -> nn.Module:
    """Theirs, with the same weights; most of them are held once."""
    layout = UNetDiffusers()
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel.from_config(layout.write_config(ours))
    theirs.load_state_dict(to_theirs(layout, ours), assign=True)
    return theirs.eval()


def one_product(dtype: torch.dtype) -> Callable[[], object]:
    """A contender that multiplies large matrices, one of them packed."""
    linear = nn.Linear(INNER, COLUMNS, bias=False, dtype=dtype)
    pack(linear)
    rows = torch.randn(ROWS, INNER, dtype=dtype)
    return lambda: linear(rows)


def assert_alike(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    """The same numbers but for the order of summation, or the comparison says nothing."""
    difference = (ours.float() - theirs.float()).abs().max() / theirs.float().abs().max()
    assert difference < TOLERANCE[dtype], f"they differ by {difference:.2g} of the largest number in {dtype}"


def row(result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    times = [f"{result[name]:.2f}" for name in ("vitrail", "diffusers")]
    return [
        result["dtype"],
        times[0],
        result["engine"],
        times[1],
        f"{result['ratio']:.2f}×",
        f"{result['products']:.2f}",
    ]


if __name__ == "__main__":
    main()
