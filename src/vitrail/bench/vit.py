"""ViT-B/16, one forward pass, beside timm: a batch of one, and of eight."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vitrail.bench.contender import Ready, import_library, in_both_precisions
from vitrail.bench.contest import Work
from vitrail.bench.ours import contenders, every_engine
from vitrail.bench.weights import drawn, operations, randomise
from vitrail.checkpoints.load import load
from vitrail.checkpoints.save import save
from vitrail.imaging.preprocess import standard
from vitrail.models.vit import ViT, ViTConfig
from vitrail.tasks.models import engine_of


def works(
    folder: Path, engines: Sequence[str], config: ViTConfig | None = None, batches: Sequence[int] = (1, 8)
) -> list[Work]:
    """What is measured.

    Args:
        folder: where checkpoints are written.
        engines: ours; all that can run it and are quickly made for none.
        config: the network's; ViT-B/16's unless said.
        batches: pictures in each.
    """
    config = config or ViTConfig()
    model = ViT(config)
    randomise(model)
    model.preprocess = standard(config.image_size)
    save(model, folder / "timm", layout="timm")
    model.to("meta")
    return [
        Work(
            f"ViT-B/16, a forward pass of {batch} picture{'s' if batch > 1 else ''}",
            contenders(engines or every_engine(), ours, folder / "timm", batch),
            in_both_precisions("timm", by_timm, folder / "timm", batch),
            amount=operations(model, torch.empty(batch, *shape(config), device="meta")),
        )
        for batch in batches
    ]


def shape(config: ViTConfig) -> tuple[int, int, int]:
    """(C, H, W) of a picture."""
    size = config.image_size
    return (config.channels, size, size) if isinstance(size, int) else (config.channels, *size)


def ours(folder: Path, batch: int, engine: str) -> Ready:
    """As a user of Vitrail runs it."""
    model = load(str(folder), device="cpu", engine=engine)
    pictures = drawn(batch, *shape(model.config), dtype=next(model.parameters()).dtype)
    return Ready(torch.inference_mode()(lambda: model(pictures)), engine_of(model, batch))


def by_timm(folder: Path, batch: int, precision: str) -> Ready:
    """As a user of timm runs it."""
    timm = import_library("timm")
    dtype = getattr(torch, precision)
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().to(dtype)
    pictures = drawn(batch, *model.pretrained_cfg["input_size"], dtype=dtype)
    return Ready(torch.inference_mode()(lambda: model(pictures)), precision)
