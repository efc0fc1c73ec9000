"""From the start of a process to its answer: `vitrail classify one.jpg`, beside transformers' pipeline."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from vitrail.bench.contender import Contender, Ready
from vitrail.bench.contest import Work
from vitrail.bench.ours import contenders, every_engine
from vitrail.bench.pictures import write_photographs
from vitrail.bench.weights import randomise
from vitrail.checkpoints.save import save
from vitrail.errors import VitrailError
from vitrail.imaging.preprocess import standard
from vitrail.models.vit import ViT, ViTConfig

PIPELINE = """
import json, sys
from vitrail.evaluation.torchmetrics import declare_missing_operators
declare_missing_operators()
from transformers import pipeline
[best] = pipeline("image-classification", model=sys.argv[1])(sys.argv[2], top_k=1)
print(json.dumps(best["score"]))
"""
"""As transformers' documentation runs it. The second line is for machines where its torchvision is broken."""


def works(folder: Path, engines: Sequence[str], config: ViTConfig | None = None) -> list[Work]:
    """What is measured.

    Args:
        folder: where a checkpoint and a picture are written.
        engines: ours; all that can run it and are quickly made for none.
        config: the network's; ViT-B/16's unless said.
    """
    model = ViT(config or ViTConfig())
    randomise(model)
    assert isinstance(model.config.image_size, int)
    model.preprocess = standard(model.config.image_size, crop_fraction=1.0)
    checkpoint = save(model, folder / "transformers", layout="transformers")
    [picture] = write_photographs(folder / "pictures", 1, (640, 480))
    chosen = engines or every_engine()
    return [
        Work(
            "ViT-B/16, from the start of a process to the label of a JPEG file of 640×480",
            contenders(chosen, by_vitrail, checkpoint, picture),
            (Contender("transformers float32", partial(by_pipeline, checkpoint, picture)),),
        ),
        Work(
            "the box's network, from the start of a process to the label of a JPEG file of 640×480",
            contenders(chosen, by_vitrail, None, picture),
        ),
    ]


def by_vitrail(checkpoint: Path | None, picture: Path, engine: str) -> Ready:
    """The command as a user types it; None is the network in the box."""
    model = [] if checkpoint is None else ["--model", str(checkpoint)]
    command = ["-m", "vitrail", "classify", str(picture), *model, "--engine", engine, "--top", "1", "--json"]
    said = json.loads(_printed(command))["engine"]
    return Ready(lambda: json.loads(_printed(command))["labels"][0]["score"], said)


def by_pipeline(checkpoint: Path, picture: Path) -> Ready:
    """The shortest program that does it with transformers."""
    command = ["-c", PIPELINE, str(checkpoint), str(picture)]
    return Ready(lambda: json.loads(_printed(command)))


def _printed(arguments: list[str]) -> str:
    """What a Python of its own prints, on as many threads as this one computes on.

    Raises:
        ModuleNotFoundError: it cannot import something.
        VitrailError: it failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        if reason.startswith("ModuleNotFoundError: No module named "):
            raise ModuleNotFoundError(reason, name=reason.split("'")[1])
        raise VitrailError(reason.removeprefix("Error: "))
    return done.stdout.splitlines()[-1]
