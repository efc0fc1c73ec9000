"""A training step in bfloat16 autocast: ViT-S/16 beside timm, DDPM's UNet beside diffusers.

A step is forwards, backwards and an update by AdamW. Of both sides: what comes before, reading pictures and augmenting
them, and what a recipe of ours may add, an average of the weights, is left out.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from vitrail.bench.contender import Contender, Ready, import_library
from vitrail.bench.contest import Work
from vitrail.bench.weights import drawn, operations, randomise
from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.vit import ViT, ViTConfig

SMALL = ViTConfig(width=384, heads=6, mlp_width=1536)
"""ViT-S/16."""

PASSES = 3
"""Forwards once; backwards twice as much, to the inputs of every product and to its weights."""


def works(
    folder: Path,
    engines: Sequence[str],
    vit: ViTConfig = SMALL,
    ddpm: DDPMConfig | None = None,
    batches: tuple[int, int] = (16, 16),
) -> list[Work]:
    """What is measured. Engines are for networks that are trained already: here there are none to choose from.

    Args:
        folder: not used.
        engines: not used.
        vit: the classifier's config; ViT-S/16's unless said.
        ddpm: the denoiser's; DDPM's for CIFAR-10 unless said.
        batches: how many pictures the one sees in a step, and the other.
    """
    ddpm = ddpm or DDPMConfig()
    with torch.device("meta"):
        seeing = operations(ViT(vit), _pictures(vit, batches[0]).to("meta"))
        denoising = operations(DDPM(ddpm), _pictures(ddpm, batches[1]).to("meta"), torch.zeros(batches[1]))
    return [
        Work(
            f"ViT-S/16, a training step of {batches[0]} pictures",
            (Contender("vitrail", partial(our_classifier, vit, batches[0])),),
            (Contender("timm", partial(by_timm, vit, batches[0])),),
            amount=PASSES * seeing,
        ),
        Work(
            f"DDPM's UNet for CIFAR-10, a training step of {batches[1]} pictures",
            (Contender("vitrail", partial(our_denoiser, ddpm, batches[1])),),
            (Contender("diffusers", partial(by_diffusers, ddpm, batches[1])),),
            amount=PASSES * denoising,
        ),
    ]


def our_classifier(config: ViTConfig, batch: int) -> Ready:
    """As `vitrail train` does it."""
    model, targets = _classifier(config), _targets(config, batch)
    return _our_step(model, (_pictures(config, batch),), lambda logits: nn.functional.cross_entropy(logits, targets))


def by_timm(config: ViTConfig, batch: int) -> Ready:
    """As PyTorch's documentation trains a network of timm's, with our weights."""
    from vitrail.checkpoints.layout import to_theirs
    from vitrail.checkpoints.layouts.vit_timm import ViTTimm

    timm = import_library("timm")
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_width / config.width,
        num_classes=config.classes,
    )
    model.load_state_dict(to_theirs(ViTTimm(), _classifier(config)))
    targets = _targets(config, batch)
    return _their_step(model, (_pictures(config, batch),), lambda out: nn.functional.cross_entropy(out, targets))


def our_denoiser(config: DDPMConfig, batch: int) -> Ready:
    """As `vitrail train` does it."""
    pictures, times = _pictures(config, batch), _times(batch)
    return _our_step(_denoiser(config), (pictures, times), lambda noise: nn.functional.mse_loss(noise, pictures))


def by_diffusers(config: DDPMConfig, batch: int) -> Ready:
    """As PyTorch's documentation trains a network of diffusers', with our weights."""
    from vitrail.checkpoints.layout import to_theirs
    from vitrail.checkpoints.layouts.ddpm_diffusers import DDPMDiffusers

    diffusers = import_library("diffusers")
    layout, model = DDPMDiffusers(), _denoiser(config)
    theirs = diffusers.UNet2DModel.from_config(layout.write_config(model))
    theirs.load_state_dict(to_theirs(layout, model))
    pictures, times = _pictures(config, batch), _times(batch)
    return _their_step(theirs, (pictures, times), lambda out: nn.functional.mse_loss(out.sample, pictures))


def _our_step(model: nn.Module, inputs: tuple[Tensor, ...], loss_of: Callable[[Tensor], Tensor]) -> Ready:
    from accelerate import Accelerator

    from vitrail.training.optimiser import build_optimiser
    from vitrail.training.passes import Passes
    from vitrail.training.recipe import OptimiserSection

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs do not know it
    optimiser = build_optimiser(model, OptimiserSection())
    passes = Passes(accelerator.prepare_model(model), accelerator)

    def step() -> Tensor:
        loss = loss_of(passes.forward(*inputs))
        passes.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return Ready(step, "bfloat16")


def _their_step(model: nn.Module, inputs: tuple[Tensor, ...], loss_of: Callable[..., Tensor]) -> Ready:
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model(*inputs))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return Ready(step, "bfloat16")


def _classifier(config: ViTConfig) -> ViT:
    model = ViT(config)
    randomise(model)
    return model


def _denoiser(config: DDPMConfig) -> DDPM:
    model = DDPM(config)
    randomise(model)
    return model


def _pictures(config: ViTConfig | DDPMConfig, batch: int) -> Tensor:
    size = config.image_size
    return drawn(batch, config.channels, *((size, size) if isinstance(size, int) else size))


def _targets(config: ViTConfig, batch: int) -> Tensor:
    return torch.arange(batch) % config.classes


def _times(batch: int) -> Tensor:
    return torch.arange(batch) * 37 % 1000
