"""ViT-B/16: ours beside timm and transformers, the same weights and pictures in one run.

    python benchmarks/vit.py [--rounds 5] [--threads 2]

Times are the best of several turns taken one after the other; the ratio is the faster reference's time over ours. The
last column is ours as a fraction of the rate at which `torch.nn.functional.linear` multiplies matrices of these sizes
and this dtype here: above 100 % where the packed weights beat it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from machine import describe, matrix_rate, side_by_side, table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import conftest  # noqa: F401 - lets timm import beside a CPU build of torch
import timm
import transformers

import vitrail

OPERATIONS = 2 * 17.56e9  # of one picture: multiplications and additions (FlopCounterMode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    with tempfile.TemporaryDirectory() as folder:
        reference = timm.create_model("vit_base_patch16_224")
        timm.models.save_for_hf(reference, f"{folder}/timm", safe_serialization=True)
        vitrail.convert(f"{folder}/timm", f"{folder}/transformers", layout="transformers")
        rows = []
        for dtype in (torch.float32, torch.bfloat16):
            models = {
                "vitrail": vitrail.load(f"{folder}/timm", dtype=dtype),
                "timm": reference.eval().to(dtype),
                "transformers": transformers.ViTForImageClassification.from_pretrained(
                    f"{folder}/transformers", dtype=dtype
                ).eval(),
            }
            for batch in (1, 8):
                rows.append(measure(models, dtype, batch, arguments.rounds))
    print(describe() + f", timm {timm.__version__}, transformers {transformers.__version__}\n")
    print(table(["dtype", "batch", "vitrail", "timm", "transformers", "ratio", "of the matrix rate"], rows))


def measure(models: dict[str, torch.nn.Module], dtype: torch.dtype, batch: int, rounds: int) -> list[str]:
    pictures = torch.randn(batch, 3, 224, 224).to(dtype)
    contenders = {name: lambda model=model: model(pictures) for name, model in models.items()}
    with torch.inference_mode():
        seconds = side_by_side({**contenders, "matrix": matrix_rate(dtype)}, rounds=rounds)
    rate = 2 * 1576 * 768 * 3072 / seconds["matrix"]
    ours, theirs = seconds["vitrail"], min(seconds["timm"], seconds["transformers"])
    return [
        str(dtype).removeprefix("torch."),
        str(batch),
        *(f"{1000 * seconds[name]:.0f} ms" for name in models),
        f"{theirs / ours:.2f}×",
        f"{OPERATIONS * batch / ours / rate:.0%}",
    ]


if __name__ == "__main__":
    main()
