"""GIT-base captions a picture: ours beside transformers, the same weights and picture in one run.

    python benchmarks/generate.py [--rounds 7] [--tokens 32] [--threads 2] [--clock wall] [--json FILE]

The network has the published size and random weights; one row of the head's bias keeps either library from ending its
text, so that both write the same number of tokens. Both decode greedily with a cache through their `generate`. In every
round each contender has a turn at one token (which is to look at the picture, mostly) and a turn at `--tokens` more;
stated are medians over the rounds, and the median of the rounds' ratios, which a neighbour on the machine disturbs less
than it disturbs the times. `--clock processor` counts processor time instead: with one thread that is what a crowded
machine would take were it empty, but for the memory and caches that are shared.

The last column is the time it takes to read once the weights that a token needs, those of the decoder and the head, at
the rate at which this machine sums a large array: no float of them can be left out, so nothing can be faster.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import describe, table
from torch import Tensor, nn

from vitrail.evaluation.torchmetrics import declare_missing_operators

declare_missing_operators()  # or transformers could not import beside a CPU build of torch
import transformers  # noqa: E402

import vitrail  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
READ = 2**29  # bytes that are summed to see how fast memory is: no cache holds them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=32, help="how many are written behind the first")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path, help="where to write the numbers, besides printing them")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()

    results = []
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        for dtype in (torch.float32, torch.bfloat16):
            results.append(compare(folder, dtype, arguments.rounds, arguments.tokens, CLOCKS[arguments.clock]))
    print(describe() + f", transformers {transformers.__version__}, {arguments.clock} time in ms\n")
    header = ["dtype", "", "vitrail", "transformers", "ratio", "reading the weights"]
    print(table(header, [row for result in results for row in rows(result)]))
    if arguments.json:
        said = {"machine": describe(), "clock": arguments.clock, "tokens": arguments.tokens, "results": results}
        arguments.json.write_text(json.dumps(said, indent=2) + "\n")


def build(folder: str) -> None:
    """Save a GIT-base of random weights that never ends a text, in transformers' form."""
    config = transformers.GitConfig()
    model = transformers.GitForCausalLM(config)
    with torch.no_grad():
        model.output.bias[config.eos_token_id] = -1e4
    model.save_pretrained(folder)


def compare(folder: str, dtype: torch.dtype, rounds: int, tokens: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Both libraries' times in one precision, in ms."""
    ours = vitrail.load(folder, dtype=dtype)
    theirs = transformers.GitForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    pixels, ids = torch.randn(1, 3, 224, 224).to(dtype), torch.tensor([[ours.config.begin]])
    memory = torch.ones(READ // 8, dtype=torch.int64)

    def write(model: nn.Module, count: int) -> Tensor:
        if model is ours:
            return ours.generate(pixels, ids, max_new_tokens=count)
        return theirs.generate(pixel_values=pixels, input_ids=ids, max_new_tokens=count, do_sample=False)

    def seconds(call: Callable[[], object]) -> float:
        start = clock()
        call()
        return clock() - start

    with torch.inference_mode():
        same = check(write(ours, 1 + tokens), write(theirs, 1 + tokens), dtype)
        first: dict[str, list[float]] = {"vitrail": [], "transformers": []}
        each: dict[str, list[float]] = {"vitrail": [], "transformers": []}
        reading = []
        for _ in range(rounds):
            for name, model in (("vitrail", ours), ("transformers", theirs)):
                first[name].append(seconds(lambda model=model: write(model, 1)))
                all_of_it = seconds(lambda model=model: write(model, 1 + tokens))
                each[name].append((all_of_it - first[name][-1]) / tokens)
            reading.append(seconds(memory.sum))
    needed = sum(parameter.numel() for part in (ours.blocks, ours.head) for parameter in part.parameters())
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "engine": ours.origin.engine,
        "same ids": same,
        "first token": summary(first),
        "a token": summary(each),
        "reading the weights": 1e3 * statistics.median(reading) * needed * dtype.itemsize / READ,
    }


def check(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> int:
    """How many ids agree before the first that does not: all of them in float32, where a difference is a defect."""
    assert ours.shape == theirs.shape, "one of them ended its text"
    same = int((ours == theirs)[0].cumprod(0).sum())
    assert dtype != torch.float32 or same == ours.shape[1], f"the texts differ after {same} ids"
    return same


def summary(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Medians in ms, and the median of how many times faster we were in a round."""
    ratios = [theirs / ours for ours, theirs in zip(seconds["vitrail"], seconds["transformers"], strict=True)]
    return {
        **{name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "ratio": statistics.median(ratios),
    }


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Two rows of the table."""
    return [
        [
            result["dtype"],
            what,
            f"{result[what]['vitrail']:.1f}",
            f"{result[what]['transformers']:.1f}",
            f"{result[what]['ratio']:.2f}×",
            f"{result['reading the weights']:.1f}" if what == "a token" else "",
        ]
        for what in ("first token", "a token")
    ]


if __name__ == "__main__":
    main()
