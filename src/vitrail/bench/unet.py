"""A step of Stable Diffusion 1.5's UNet, 32×32 latents, beside diffusers."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitrail.bench.contender import Ready, import_library, in_both_precisions
from vitrail.bench.contest import Work
from vitrail.bench.ours import EVERYWHERE, contenders, every_engine
from vitrail.bench.weights import drawn, operations, randomise
from vitrail.engines import prepare
from vitrail.models.unet import UNet, UNetConfig

LATENTS = 32
"""Their side; a picture's is eight times that."""

TIME = 500
TOKENS = 77


def works(folder: Path, engines: Sequence[str], config: UNetConfig | None = None, latents: int = LATENTS) -> list[Work]:
    """What is measured. Every process draws the same weights: they are too many to be written.

    Args:
        folder: not used.
        engines: ours; all that can run it and are quickly made for none.
        config: the network's; Stable Diffusion 1.5's unless said.
        latents: their side.
    """
    config = config or UNetConfig()
    with torch.device("meta"):
        inputs = _inputs(config, latents, torch.float32)
        amount = operations(UNet(config), *(tensor.to("meta") for tensor in inputs))
    return [
        Work(
            f"Stable Diffusion 1.5, a step of the UNet on {latents}×{latents} latents",
            contenders(engines or every_engine(EVERYWHERE), ours, config, latents),
            in_both_precisions("diffusers", by_diffusers, config, latents),
            amount=amount,
        )
    ]


def ours(config: UNetConfig, latents: int, engine: str) -> Ready:
    """Prepared as `vitrail.load` prepares it."""
    model = _drawn(config)
    said = prepare(model, engine)
    inputs = _inputs(config, latents, next(model.parameters()).dtype)
    return Ready(torch.inference_mode()(lambda: model(*inputs)), said)


def by_diffusers(config: UNetConfig, latents: int, precision: str) -> Ready:
    """As a user of diffusers runs it, with our weights."""
    from vitrail.checkpoints.layout import to_theirs
    from vitrail.checkpoints.layouts.unet_diffusers import UNetDiffusers

    diffusers = import_library("diffusers")
    dtype, layout = getattr(torch, precision), UNetDiffusers()
    model = _drawn(config).to(dtype)
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel.from_config(layout.write_config(model))
    theirs.load_state_dict(to_theirs(layout, model), assign=True)
    theirs.eval()
    x, time, text = _inputs(config, latents, dtype)
    return Ready(torch.inference_mode()(lambda: theirs(x, time, text).sample), precision)


def _drawn(config: UNetConfig) -> UNet:
    with torch.device("meta"):
        model = UNet(config)
    model.to_empty(device="cpu")
    randomise(model)
    return model.eval()


def _inputs(config: UNetConfig, latents: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, a time, and what is said of a text."""
    x = drawn(1, config.channels, latents, latents, dtype=dtype)
    return x, torch.tensor(TIME), drawn(1, TOKENS, config.context_width, dtype=dtype)
