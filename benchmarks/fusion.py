"""What each way of fusing a picture's vector with a question's weighs and costs: `OMP_NUM_THREADS=1 python
benchmarks/fusion.py`.

At the widths of `recipes/vqa-fusion.yaml`, and, weights alone, at those of BERT-Base beside ViT-B. Weights are counted
with biases, in float32; a time is that of one question in a batch, forwards and backwards in bfloat16, the best of
several turns taken side by side.
"""

import argparse
from collections.abc import Callable, Mapping

import torch
from machine import describe, side_by_side, table
from torch import nn

from vitrail.nn.fusion import FactorisedOuterProduct, Gate, OuterProduct, Sum

RECIPE, BASE = (192, 128, 192, 384), (768, 768, 768, 1200)
"""D_v, D_q and D_o, and the rank of the factorised form."""


def fusions(picture: int, question: int, out: int, rank: int) -> Mapping[str, nn.Module]:
    return {
        "sum": Sum(picture, question, out),
        "outer": OuterProduct(picture, question, out),
        "factorised": FactorisedOuterProduct(picture, question, out, rank),
        "gate": Gate(picture, question, out),
    }


def weigh(tile: nn.Module) -> str:
    weights = sum(weight.numel() for weight in tile.parameters())
    return f"{weights:,} ({weights * 4 / 2**20:.1f} MiB)"


def learning(fusion: nn.Module, picture: torch.Tensor, question: torch.Tensor) -> Callable[[], None]:
    """A contender that runs a fusion forwards and backwards."""

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            out = fusion(picture, question)
        out.sum().backward()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=160, help="questions at once")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    options = parser.parse_args()
    print(f"{describe()}, {options.batch} questions at once\n")
    with torch.device("meta"):
        large = {kind: weigh(tile) for kind, tile in fusions(*BASE).items()}
    picture, question = (torch.randn(options.batch, width, requires_grad=True) for width in RECIPE[:2])
    tiles = fusions(*RECIPE)
    times = side_by_side(
        {kind: learning(tile, picture, question) for kind, tile in tiles.items()}, rounds=options.rounds
    )
    rows = [
        [kind, weigh(tile), f"{times[kind] / options.batch * 1e6:.1f} µs", large[kind]] for kind, tile in tiles.items()
    ]
    print(table(["fusion", "weights", "time a question", "weights at base"], rows))


if __name__ == "__main__":
    main()
