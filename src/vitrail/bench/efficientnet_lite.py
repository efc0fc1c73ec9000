"""EfficientNet-Lite0 of the box, from a file to its label, beside timm: a small picture, and a photograph."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from vitrail.bench.contender import Contender, Ready, import_library
from vitrail.bench.contest import Work
from vitrail.bench.ours import contenders, every_engine
from vitrail.bench.pictures import write_photographs
from vitrail.checkpoints.load import load
from vitrail.checkpoints.save import save
from vitrail.tasks.models import engine_of

NAME = "efficientnet-lite0"

SIZES = ((500, 375), (4000, 3000))
"""(width, height) in pixels: a usual picture of ImageNet's, and a photograph of 12 million pixels."""


def works(folder: Path, engines: Sequence[str], sizes: Sequence[tuple[int, int]] = SIZES) -> list[Work]:
    """What is measured.

    Args:
        folder: where a checkpoint for timm and the pictures are written.
        engines: ours; all that can run it and are quickly made for none.
        sizes: (width, height) in pixels of the picture in each.
    """
    save(load(NAME, device="cpu"), folder / "timm", layout="timm")
    found = []
    for width, height in sizes:
        [picture] = write_photographs(folder / f"{width}x{height}", 1, (width, height))
        found.append(
            Work(
                f"EfficientNet-Lite0, a JPEG file of {width}×{height} to its label",
                contenders(engines or every_engine(), ours, picture),
                (Contender("timm float32", partial(by_timm, folder / "timm", picture)),),
            )
        )
    return found


def ours(picture: Path, engine: str) -> Ready:
    """`vitrail.classify`, with the network loaded before."""
    from vitrail.tasks.classify import Classification, classify

    model = load(NAME, device="cpu", engine=engine)

    def call() -> float:
        result = classify(picture, model=model, top=1)
        assert isinstance(result, Classification)  # one picture, one result
        return result.labels[0].score

    return Ready(call, engine_of(model, 1))


def by_timm(folder: Path, picture: Path) -> Ready:
    """As timm's documentation runs it: its own transform on what Pillow opens."""
    from PIL import Image

    timm = import_library("timm")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)

    @torch.inference_mode()
    def call() -> float:
        with Image.open(picture) as image:
            scores = model(transform(image.convert("RGB"))[None])[0].softmax(-1)
        return scores.max().item()

    return Ready(call)
