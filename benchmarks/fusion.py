"""What each way of fusing a picture's vector with a question's weighs and costs: `OMP_NUM_THREADS=1 python
benchmarks/fusion.py`.

At the sizes of `recipes/vqa-fusion.yaml`; and, weights alone, at the widths of BERT-Base beside ViT-B. Weights are
counted with biases, in float32. Times are the processor's on one thread, in bfloat16, the best of several turns taken
side by side: of the tile forwards and backwards, for one question in a batch; and of a whole update with Muon.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from machine import describe, side_by_side, table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitrail.models.bert import BERTConfig
from vitrail.models.vit import ViTConfig
from vitrail.models.vqa import VQA, VQAConfig
from vitrail.nn.fusion import FactorisedOuterProduct, Gate, OuterProduct, Sum
from vitrail.training.optimiser import build_optimiser
from vitrail.training.recipe import OptimiserSection

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


def update(fusion: str, pictures: int, questions: int) -> Callable[[], None]:
    """A contender that trains the recipe's network with this fusion, on noise."""
    network = VQA(
        VQAConfig(
            image=ViTConfig(image_size=64, patch_size=8, width=192, depth=6, heads=3, mlp_width=768, classes=0),
            text=BERTConfig(vocabulary=1024, context=32, width=128, depth=2, heads=4, mlp_width=512),
            fusion=fusion,
            width=RECIPE[2],
            rank=RECIPE[3],
            classes=100,
        )
    )
    optimiser = build_optimiser(network, OptimiserSection(name="muon"))
    images, ids = torch.randn(pictures, 3, 64, 64), torch.randint(1, 1024, (questions, 20))
    of, answers = torch.arange(questions) % pictures, torch.randint(100, (questions,))

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            logits = network(images, ids, of)
        torch.nn.functional.cross_entropy(logits.float(), answers).backward()
        optimiser.step()
        optimiser.zero_grad()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=160, help="questions at once")
    parser.add_argument("--pictures", type=int, default=32, help="that they are about")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each")
    options = parser.parse_args()
    print(f"{describe()}, {options.batch} questions at once\n")
    with torch.device("meta"):
        large = {kind: weigh(tile) for kind, tile in fusions(*BASE).items()}
    picture, question = (torch.randn(options.batch, width, requires_grad=True) for width in RECIPE[:2])
    tiles = fusions(*RECIPE)
    timed = partial(side_by_side, rounds=options.rounds, clock=time.process_time)
    times = timed({kind: learning(tile, picture, question) for kind, tile in tiles.items()})
    updates = timed({kind: update(kind, options.pictures, options.batch) for kind in tiles})
    rows = [
        [kind, weigh(tile), f"{times[kind] / options.batch * 1e6:.1f} µs", f"{updates[kind]:.2f} s", large[kind]]
        for kind, tile in tiles.items()
    ]
    print(table(["fusion", "weights", "a question", "an update", "weights at base"], rows))


if __name__ == "__main__":
    main()
