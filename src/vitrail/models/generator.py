"""What makes pictures from noise: text to picture, picture to picture and inpainting, over any network that denoises.

A family says how prompts become a condition, how its network becomes a denoiser, and what lies between pictures and the
space it denoises in; everything else is here, once.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser
from vitrail.diffusion.guidance import classifier_free
from vitrail.diffusion.inpainting import inpainting
from vitrail.diffusion.noise import Dice
from vitrail.diffusion.samplers import SAMPLERS, Preview, Sampler
from vitrail.diffusion.schedules import Schedule
from vitrail.errors import UsageError
from vitrail.imaging.open import Source, open_picture
from vitrail.models.model import Model

__all__ = ["Generator", "Preview", "Usual", "to_image"]


@dataclass(frozen=True)
class Usual:
    """How a checkpoint is run where nobody says otherwise.

    Attributes:
        num_steps: the steps from noise to picture.
        sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`.
        guidance_scale: how far a picture is pushed from the negative condition; 1 is not at all.
        size: (height, width) of a picture, in pixels.
    """

    num_steps: int
    sampler: str
    guidance_scale: float
    size: tuple[int, int]


class Generator(Model):
    """A network, or several, that makes pictures from noise.

    Attributes:
        usual: how it is run where nobody says otherwise.
        schedule: the noise it was trained on.
        prompted: whether it is told what to make: by texts or names of classes.
    """

    usual: Usual
    schedule: Schedule
    prompted: ClassVar[bool] = True

    @abstractmethod
    def condition(self, prompts: Sequence[str]) -> Any:
        """Prompts -> what the denoiser is told, one row a prompt: a tensor, or a tuple or dict of tensors.

        Raises:
            UsageError: a prompt is empty where the network knows no picture of nothing, or is none it knows.
        """

    def condition_against(self, prompts: Sequence[str]) -> Any:
        """The same for prompts to be pushed away from, which may be empty."""
        return self.condition(prompts)

    @abstractmethod
    def denoiser(self) -> Denoiser:
        """The network as D(x, sigma, cond) -> x0, x being x0 + sigma * noise; (B, C, h, w) float32."""

    @abstractmethod
    def sigmas(self, num_steps: int, sampler: str) -> Tensor:
        """The falling noise levels of a run, (num_steps + 1,)."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> where the denoiser works, (B, C, h, w) float32."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> pictures (B, 3, H, W) float32 in [-1, 1], or a little beyond."""

    @abstractmethod
    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Pictures' (height, width) in pixels -> (C, h, w).

        Raises:
            UsageError: there are no pictures of this size.
        """

    def begin(self, noise: Tensor, sigma: float, sampler: str) -> Tensor:
        """Standard normal noise (B, C, h, w) -> what a run of that sampler from pure noise at this level starts from.

        By default it has the variance of pictures of unit variance with that much noise on them: n / scale(sigma).
        """
        return noise * math.hypot(1, sigma)

    def sampler(self, name: str) -> Sampler:
        """The sampler of that name, as the checkpoint wants it run.

        Raises:
            UsageError: there is none.
        """
        if name not in SAMPLERS:
            raise UsageError(f"there is no sampler '{name}'; there are {', '.join(SAMPLERS)}")
        return SAMPLERS[name]

    @property
    def inpaints(self) -> bool:
        """Whether the network was trained to inpaint, and reads the mask and what is around it."""
        return False

    def look_at(self, cond: Any, size: tuple[int, int], hole: tuple[Tensor, Tensor] | None = None) -> Any:
        """A condition -> what the denoiser is told at every step of a run, made once.

        Args:
            cond: of `condition`.
            size: (height, width) of the pictures, in pixels.
            hole: for a network that inpaints: the mask (B, 1, h, w), 1 where it paints, and the latents (B, C, h, w) of
                the picture with this part blanked.
        """
        return cond

    def guided(
        self,
        cond: Any,
        negative: Any,
        scale: float,
        size: tuple[int, int],
        hole: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Denoiser, Any]:
        """The denoiser, pushed by `scale` away from `negative` where there is one, and what it is told at every step.

        `cond`, `size` and `hole` are those of `look_at`, and `negative` is as `cond`.
        """
        denoise = self.denoiser()
        if negative is not None and scale != 1:
            denoise = classifier_free(denoise, self.look_at(negative, size, hole), scale)
        return denoise, self.look_at(cond, size, hole)

    def ended(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What a run gives at its last level, (B, C, h, w) -> latents of the size of clean ones.

        Some checkpoints stop a little before there is no noise, and leave what there is.
        """
        return x * self.schedule.scale(sigma).item() if sigma > 0 else x

    @torch.inference_mode()
    def sample(
        self,
        cond: Any,
        noise: Tensor,
        *,
        negative: Any = None,
        num_steps: int | None = None,
        sampler: str | None = None,
        guidance_scale: float | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        generator: Dice = None,
        preview: Preview | None = None,
    ) -> Tensor:
        """From noise to pictures.

        Args:
            cond: what `condition` gives for the prompts; None where there are no prompts.
            noise: (B, C, h, w), standard normal, float32; its shape says the pictures' (`latent_shape`).
            negative: the condition to be pushed away from, B rows or one; without it there is no guidance.
            num_steps: the steps from pure noise; as `usual` unless said.
            sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`; as `usual` unless said.
            guidance_scale: 1 is no guidance; as `usual` unless said.
            start: pictures (B, 3, H, W) in [-1, 1] to begin from, or one for all.
            strength: how much of `start` is made anew, above 0 and at most 1: so many of the steps are run.
            mask: (B, 1, H, W) of 0 and 1, or one for all: 1 where `start` is painted anew, 0 where it stays.
            generator: where a sampler that adds noise on its way draws it; several are one for each row.
            preview: called after each step with the number of steps done and the clean latents it saw.

        Returns:
            Pictures (B, 3, H, W) float32 in [-1, 1].

        Raises:
            UsageError: there is no such sampler, or a number is out of its range.
        """
        name = sampler or self.usual.sampler
        run = self.sampler(name)
        num_steps = self.usual.num_steps if num_steps is None else num_steps
        scale = self.usual.guidance_scale if guidance_scale is None else guidance_scale
        _check(num_steps, scale, strength)
        if mask is not None and start is None:
            raise UsageError("a mask says which part of a picture is painted anew: give the picture, too")
        noise = noise.to(next(self.parameters()).device)
        factor = self.usual.size[0] // self.latent_shape(self.usual.size)[1]
        size = (noise.shape[2] * factor, noise.shape[3] * factor)
        known = small = hole = None
        if start is not None:
            start = start.to(noise)
            known = self.encode(start)
        if mask is not None:
            mask = mask.to(noise)
            small = F.interpolate(mask, size=noise.shape[2:])
        if self.inpaints:
            hole = self._hole(start, mask, noise, size)
        denoise, told = self.guided(cond, negative, scale, size, hole)
        sigmas = self.sigmas(num_steps, name)
        from_noise = known is None or (mask is not None and strength == 1)
        if known is None or from_noise:
            x = self.begin(noise, sigmas[0].item(), name)
        else:
            sigmas = sigmas[num_steps - max(1, int(num_steps * strength)) :]
            x = known + sigmas[0].item() * noise
        if small is not None and known is not None and not self.inpaints:
            denoise = inpainting(denoise, known, noise, small, below=sigmas[0].item() if from_noise else math.inf)
        x = self.ended(run(denoise, x, sigmas, told, generator=generator, preview=preview), sigmas[-1])
        if small is not None and known is not None and not self.inpaints:
            x = small * x + (1 - small) * known
        return self.decode(x).clamp(-1, 1)

    @torch.inference_mode()
    def generate(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        count: int = 1,
        seed: int | None = None,
        num_steps: int | None = None,
        sampler: str | None = None,
        guidance_scale: float | None = None,
        negative: str = "",
        size: int | tuple[int, int] | None = None,
        picture: Source | None = None,
        strength: float = 0.8,
        mask: Source | None = None,
        preview: Preview | None = None,
    ) -> list[Image.Image]:
        """Prompts -> pictures, `count` of each prompt, those of the first prompt first. One at a time is in memory.

        Args:
            prompt: what to make, or several such; None or "" where the network is not told.
            count: how many pictures of each prompt.
            seed: fixes the noise: picture k is the same whatever the count, and is picture 0 of `seed + k`. By default
                one is drawn.
            num_steps: the steps from noise to picture; as `usual` unless said.
            sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`; as `usual` unless said.
            guidance_scale: how far pictures are pushed from `negative`; 1 is not at all; as `usual` unless said.
            negative: what the pictures shall not be.
            size: a side, or (height, width), in pixels; as `usual` unless said, or that of `picture`, which is made
                smaller where it has more pixels than usual, and cut to what the network's grid allows.
            picture: what to begin from; it is scaled and cut to `size`.
            strength: how much of `picture` is made anew, above 0 and at most 1.
            mask: as large as `picture`: where it is white the picture is painted anew, where it is black it stays.
            preview: called after each step with the number of steps done and the clean latents it saw.

        Raises:
            UsageError: an argument is out of its range, or the network takes none such.
            ImageError: `picture` or `mask` cannot be opened.
        """
        prompts = [""] if prompt is None else [prompt] if isinstance(prompt, str) else list(prompt)
        if count < 1:
            raise UsageError(f"make at least 1 picture, not {count}")
        if not self.prompted and any(prompts):
            raise UsageError(f"a network of the family {self.family} is not told what to make: leave the prompt out")
        if mask is not None and picture is None:
            raise UsageError("a mask says which part of a picture is painted anew: give the picture, too")
        first = int(torch.randint(2**31, ()).item()) if seed is None else seed
        original = None if picture is None else open_picture(picture).image
        if size is None:
            size = self.usual.size if original is None else self._size_for(original)
        height, width = (size, size) if isinstance(size, int) else size
        shape = self.latent_shape((height, width))
        stencil = None if mask is None or original is None else _stencil(mask, original, (width, height))
        if original is not None:
            original = ImageOps.fit(original, (width, height), Image.Resampling.LANCZOS)
        against = self.condition_against([negative]) if self.prompted else None
        made = []
        for text in prompts:
            cond = self.condition([text]) if self.prompted else None
            for number in range(count):
                dice = torch.Generator().manual_seed(first + number)
                images = self.sample(
                    cond,
                    torch.randn(1, *shape, generator=dice),
                    negative=against,
                    num_steps=num_steps,
                    sampler=sampler,
                    guidance_scale=guidance_scale,
                    start=None if original is None else to_tensor(original),
                    strength=1.0 if original is None else strength,
                    mask=None if stencil is None else _mask_tensor(stencil),
                    generator=dice,
                    preview=preview,
                )
                image = to_image(images[0])
                if stencil is not None and original is not None:
                    image = Image.composite(image, original, stencil)  # to the pixel, whatever the decoder made of it
                made.append(image)
        return made

    def _hole(
        self, start: Tensor | None, mask: Tensor | None, noise: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What a network that inpaints reads: where to paint, and the picture around it; without any, everywhere."""
        if start is None:
            start = noise.new_zeros(1, 3, *size)
        if mask is None:
            mask = noise.new_ones(1, 1, *size)
        small = F.interpolate(mask, size=noise.shape[2:])
        around = self.encode(start * (mask < 0.5))
        return small.expand(len(noise), -1, -1, -1), around.expand(len(noise), -1, -1, -1)

    def _size_for(self, picture: Image.Image) -> tuple[int, int]:
        """(height, width) for a picture: of its shape, with no more pixels than usual, on the network's grid."""
        height, width = self.usual.size
        shrink = min(1.0, math.sqrt(height * width / (picture.height * picture.width)))
        grid = height // self.latent_shape((height, width))[1]
        height, width = (max(grid, round(side * shrink) // grid * grid) for side in (picture.height, picture.width))
        return height, width


def to_tensor(image: Image.Image) -> Tensor:
    """A picture in RGB -> (1, 3, H, W) float32 in [-1, 1]."""
    values = torch.from_numpy(np.array(image, dtype=np.float32))
    return values.permute(2, 0, 1)[None] / 127.5 - 1


def to_image(values: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1], or (1, H, W) in grey -> a picture in RGB."""
    levels = ((values.float() + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(levels.expand(3, -1, -1).permute(1, 2, 0).numpy())


def _stencil(mask: Source, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask in black and white, scaled and cut as the picture is, to (width, height)."""
    opened = open_picture(mask).image
    if opened.size != picture.size:
        raise UsageError(
            f"the mask has {opened.width}×{opened.height} pixels and the picture {picture.width}×{picture.height}: "
            "both must be equally large"
        )
    fitted = ImageOps.fit(opened.convert("L"), size, Image.Resampling.BILINEAR)
    return fitted.point(lambda value: 255 if value >= 128 else 0)


def _mask_tensor(stencil: Image.Image) -> Tensor:
    """Black and white -> (1, 1, H, W) of 0 and 1."""
    return torch.from_numpy(np.array(stencil, dtype=np.float32))[None, None] / 255


def _check(num_steps: int, guidance_scale: float, strength: float) -> None:
    if num_steps < 1:
        raise UsageError(f"a picture takes at least 1 step, not {num_steps}")
    if not math.isfinite(guidance_scale):
        raise UsageError(f"a guidance scale is a number, not {guidance_scale}")
    if not 0 < strength <= 1:
        raise UsageError(f"the strength of a change is above 0 and at most 1, not {strength:g}")
