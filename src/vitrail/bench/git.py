"""GIT-base writes a caption, beside transformers: the first token, which is to look, and each one after it."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.bench.contender import Ready, import_library, in_both_precisions
from vitrail.bench.contest import Work
from vitrail.bench.ours import EVERYWHERE, contenders, every_engine
from vitrail.bench.weights import drawn, randomise
from vitrail.checkpoints.load import load
from vitrail.checkpoints.save import save
from vitrail.imaging.preprocess import standard
from vitrail.models.git import GIT, GITConfig
from vitrail.tasks.models import engine_of

TOKENS = 32
"""That are written behind the first."""


def works(folder: Path, engines: Sequence[str], config: GITConfig | None = None, tokens: int = TOKENS) -> list[Work]:
    """What is measured. Both decode greedily with a cache, and neither can end its text.

    Args:
        folder: where a checkpoint is written.
        engines: ours; all that can run it and are quickly made for none.
        config: the network's; GIT-base's unless said.
        tokens: that are written behind the first.
    """
    config = config or GITConfig()
    model = GIT(config)
    randomise(model)
    with torch.no_grad():
        for end in config.ends:
            model.get_parameter("head.bias")[end] = -1e4
    assert isinstance(config.image_size, int)
    model.preprocess = standard(config.image_size)
    checkpoint = save(model, folder / "transformers", layout="transformers")
    read = sum(parameter.numel() for part in (model.blocks, model.head) for parameter in part.parameters())
    return [
        Work(
            f"GIT-base, {what}",
            contenders(engines or every_engine(EVERYWHERE), ours, checkpoint, count),
            in_both_precisions("transformers", by_transformers, checkpoint, count),
            bound="reading",
            loose=math.inf,  # a rounded choice between two tokens changes all that follow
            amount=read if count else None,
        )
        for what, count in (("the first token", 0), (f"each of {tokens} further tokens", tokens))
    ]


def ours(checkpoint: Path, tokens: int, engine: str) -> Ready:
    """As a user of Vitrail runs it."""
    model = load(str(checkpoint), device="cpu", engine=engine)
    assert isinstance(model, GIT)
    pixels = _picture(model.config.image.image_size, next(model.parameters()).dtype)
    begin = torch.tensor([[model.config.begin]])
    write = partial(_generate, model, inputs=(pixels, begin))
    return _timed(write, tokens, engine_of(model))


def by_transformers(checkpoint: Path, tokens: int, precision: str) -> Ready:
    """As a user of transformers runs it."""
    transformers = import_library("transformers")
    transformers.utils.logging.disable_progress_bar()
    dtype = getattr(torch, precision)
    model = transformers.GitForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
    begin = torch.tensor([[model.config.bos_token_id]])
    given = {"pixel_values": _picture(model.config.vision_config.image_size, dtype), "input_ids": begin}

    def write(count: int) -> Tensor:
        return model.generate(**given, max_new_tokens=count, do_sample=False)

    return _timed(write, tokens, precision)


def _generate(model: GIT, count: int, inputs: tuple[Tensor, Tensor]) -> Tensor:
    return model.generate(*inputs, max_new_tokens=count)


def _picture(size: Any, dtype: torch.dtype) -> Tensor:
    return drawn(1, 3, size, size, dtype=dtype)


def _timed(write: Any, tokens: int, engine: str) -> Ready:
    """The first token; or `tokens` more, less the first."""
    write = torch.inference_mode()(write)
    if not tokens:
        return Ready(lambda: write(1), engine)
    return Ready(lambda: write(1 + tokens), engine, lambda: write(1), tokens)
