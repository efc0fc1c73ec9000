"""Peak memory and time of loading ViT-L/16: ours beside transformers, each in a process of its own.

    python benchmarks/load.py

Peak memory is the most resident memory of the process less what it held before loading, over the size of the weights;
for "load and run" one picture has gone through the network, so that every page of the mapped file has been read.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from machine import describe, table

import vitrail
from vitrail.checkpoints.layouts.vit_transformers import ViTTransformers
from vitrail.imaging.preprocess import standard
from vitrail.models.vit import ViT

PROBE = """
import json, sys, time
sys.path.insert(0, "{tests}")
import conftest, torch  # conftest lets transformers import beside a CPU build of torch
from {imports}
folder, run = sys.argv[1], sys.argv[2] == "run"
def held():  # the most this program has held; getrusage would count what its parent held
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.nn.Linear(8, 8)(torch.zeros(1, 8))
before, start = held(), time.perf_counter()
model = {load}
seconds = time.perf_counter() - start
if run:
    with torch.inference_mode():
        model(torch.zeros(1, 3, 224, 224))
print(json.dumps([held() - before, seconds]))
"""
TESTS = Path(__file__).parent.parent / "tests"
CONTENDERS = {
    "vitrail": PROBE.format(
        tests=TESTS, imports="vitrail.checkpoints.load import load", load="load(folder, device='cpu')"
    ),
    "transformers": PROBE.format(
        tests=TESTS,
        imports="transformers import ViTForImageClassification",
        load="ViTForImageClassification.from_pretrained(folder)",
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = ViTTransformers.published["google/vit-large-patch16-224"].config
        model = ViT(config)
        model.preprocess = standard(224)
        weights = sum(tensor.nbytes for tensor in model.state_dict().values())
        vitrail.save(model, f"{folder}/large", layout="transformers")
        del model
        rows = []
        for what in ("load", "run"):
            for name, code in CONTENDERS.items():
                printed = subprocess.run(
                    [sys.executable, "-c", code, f"{folder}/large", what], check=True, capture_output=True, text=True
                ).stdout
                peak, seconds = json.loads(printed.splitlines()[-1])
                rows.append(
                    [name, {"load": "load", "run": "load and run"}[what], f"{peak / weights:.2f}", f"{seconds:.2f} s"]
                )
    print(f"{describe()}; ViT-L/16 in float32, {weights / 1e6:.0f} MB\n")
    print(table(["library", "work", "peak memory / weights", "time to load"], rows))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
