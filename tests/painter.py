"""A network that makes pictures, worked out by hand: what it knows is a Gaussian mixture, whose denoiser is exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from vitrail import registry
from vitrail.diffusion.denoiser import Denoiser, rows
from vitrail.diffusion.schedules import VarianceExploding, karras
from vitrail.errors import UsageError
from vitrail.imaging.preprocess import Preprocess, Resize
from vitrail.models.generator import Generator, Usual

COLOURS = {"red": (1.0, -0.8, -0.8), "green": (-0.8, 0.8, -0.8), "blue": (-0.8, -0.8, 1.0), "yellow": (1.0, 0.9, -0.8)}
SHAPES = ("disc", "square")
SPREAD = 0.04
"""How far pictures stray from the eight that it knows, each value by itself."""


@dataclass(frozen=True)
class PainterConfig:
    """How large its pictures usually are."""

    side: int = 32


class Painter(Generator):
    """Paints a red, green, blue or yellow disc or square on white: as it is told, or as it comes."""

    family: ClassVar[str] = "painter"
    config: PainterConfig

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.config = config
        self.colours = nn.Parameter(torch.tensor(list(COLOURS.values())))
        self.head = nn.Identity()
        self.preprocess = Preprocess(Resize((8, 8)), mean=None, std=None)
        self.usual = Usual(8, "heun", 1.5, (config.side, config.side))
        self.schedule = VarianceExploding(0.02, 20.0)
        self.eval()

    def knows(self, height: int, width: int) -> Tensor:
        """Every picture it knows, (8, 3, height, width): the four discs, then the four squares."""
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        inside = torch.stack([x.hypot(y) < 0.7, x.abs().maximum(y.abs()) < 0.6])[:, None, None]
        return torch.where(inside, self.colours[None, :, :, None, None], 1.0).flatten(0, 1)

    def condition(self, prompts: Sequence[str]) -> Any:
        """How likely each of the eight is, (B, 8)."""
        told = []
        for prompt in prompts:
            words = prompt.split()
            if len(words) > 4:
                raise UsageError(f"a prompt of {len(words)} words is too long: this network reads 4")
            if unknown := [word for word in words if word not in ("a", *COLOURS, *SHAPES)]:
                raise UsageError(f"this network knows no '{unknown[0]}'")
            colours = torch.tensor([colour in words or not set(words) & set(COLOURS) for colour in COLOURS])
            shapes = torch.tensor([shape in words or not set(words) & set(SHAPES) for shape in SHAPES])
            likely = (shapes[:, None] & colours).flatten().float()
            told.append(likely / likely.sum())
        return torch.stack(told)

    def denoiser(self) -> Denoiser:
        """E[x0 | x]: every picture it knows, pulled a little towards x, by its probability."""

        def denoise(x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
            known, variance = self.knows(*x.shape[-2:])[None], rows(sigma, x)[:, None] ** 2
            distance = (x[:, None] - known).square().flatten(2).sum(2)
            odds = (cond.log() - distance / (2 * (variance.flatten()[:, None] + SPREAD**2))).softmax(1)
            pulled = (x[:, None] * SPREAD**2 + known * variance) / (variance + SPREAD**2)
            return (odds[:, :, None, None, None] * pulled).sum(1)

        return denoise

    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        return karras(0.02, 20.0, num_steps)

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        if size[0] % 8 or size[1] % 8:
            raise UsageError(f"sides are multiples of 8 pixels, not {size[1]}×{size[0]}")
        return 3, *size


class Dreamer(Painter):
    """The same, but nobody tells it what to paint."""

    family: ClassVar[str] = "dreamer"
    prompted: ClassVar[bool] = False

    def denoiser(self) -> Denoiser:
        denoise, all_alike = super().denoiser(), self.condition([""])
        return lambda x, sigma, cond: denoise(x, sigma, all_alike)


def painter(side: int = 32) -> Painter:
    """The network, ready to paint."""
    return Painter(PainterConfig(side))


def register() -> None:
    """Let `vitrail.load` know the families, in this process."""
    for name in ("painter", "dreamer"):
        registry.FAMILIES[name] = registry.Family(
            name, name, "nobody", f"tests.painter:{name.title()}", "tests.painter:PainterConfig", ()
        )


def saved_painter(folder: Path, kind: type[Painter] = Painter) -> str:
    """It in a `.safetensors` file; its name. The family must be registered."""
    return str(vitrail.save(kind(PainterConfig()), folder / f"{kind.family}.safetensors"))


def looks_like(image: Image.Image, number: int) -> bool:
    """Whether it is the picture of this number in `Painter.knows`."""
    values = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)
    known = painter().knows(image.height, image.width).detach()
    distances = (known - (values / 127.5 - 1)).square().mean((1, 2, 3))
    return int(distances.argmin()) == number and float(distances[number]) < 0.02
