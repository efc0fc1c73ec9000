"""`vitrail.morph`: the way from one prompt to another, a strip of pictures, or a film."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.files import appearing
from vitrail.imaging.open import printable
from vitrail.models.generator import Generator, to_image
from vitrail.models.model import Model
from vitrail.tasks.generate import Settings, Size, Watch, checked_prompt, draw_seed, get_generator, watching
from vitrail.tasks.loras import Loras, adapted, find_loras
from vitrail.tasks.recipe import Recipe, Way, cannot_run, save_with_recipe

FRAMES = 8
"""How many pictures a way has where nobody says otherwise."""

_FRAME_MILLISECONDS = 120


@dataclass(frozen=True)
class Morph:
    """The pictures on the way from one prompt to another.

    Attributes:
        frames: from the first prompt's picture to the second's, RGB; of a way that was broken off those made so far.
        recipe: all it takes to make them again, and the rest.
    """

    frames: tuple[Image.Image, ...] = field(repr=False, compare=False)
    recipe: Recipe

    @property
    def way(self) -> Way:
        """Where they lead."""
        assert self.recipe.way is not None
        return self.recipe.way

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "towards": …, "recipe": …}."""
        return {"input": self.recipe.prompt, "towards": self.way.prompt, "recipe": self.recipe.to_dict()}

    def __str__(self) -> str:
        ends = f"{printable(self.recipe.prompt)} → {printable(self.way.prompt)}"
        seeds = str(self.recipe.seed) + (f" → {self.way.seed}" if self.way.seed != self.recipe.seed else "")
        return f"{ends}\n  {len(self.frames)} pictures, seed {seeds}"

    def draw(self) -> Image.Image:
        """The pictures side by side, RGB."""
        width, height = self.frames[0].size
        strip = Image.new("RGB", (width * len(self.frames), height))
        for number, frame in enumerate(self.frames):
            strip.paste(frame, (number * width, 0))
        return strip

    def save(self, path: str | os.PathLike) -> None:
        """Write a strip to a .png, .jpg or .webp file, a PNG file holding the recipe; or a film to a .gif file.

        The film runs there and back, for ever.

        Raises:
            UsageError: the file has another ending.
            VitrailError: it cannot be written.
        """
        if Path(path).suffix.lower() != ".gif":
            return save_with_recipe(self.draw(), path, self.recipe)
        first, *others = [*self.frames, *self.frames[-2:0:-1]]
        with appearing(Path(path)) as scratch:
            first.save(
                scratch, "GIF", save_all=True, append_images=others, duration=_FRAME_MILLISECONDS, loop=0, disposal=2
            )


def morph(
    prompt: str,
    towards: str,
    *,
    frames: int = FRAMES,
    seed: int | None = None,
    towards_seed: int | None = None,
    num_steps: int | None = None,
    sampler: str | None = None,
    guidance_scale: float | None = None,
    negative: str = "",
    size: Size | None = None,
    lora: Loras | None = None,
    model: str | os.PathLike | Model | None = None,
    engine: str = "auto",
    device: str | None = None,
    watch: Watch | None = None,
) -> Morph:
    """Go from one prompt to another: the condition is mixed, more and more of the second, and the noise turned.

    Args:
        prompt: where the way begins.
        towards: where it leads.
        frames: how many pictures, both ends among them, at least 2.
        seed: of the noise; by default one is drawn.
        towards_seed: of the noise at the end; by default it is the same.
        num_steps, sampler, guidance_scale, negative, size, lora, model, engine, device: as for `generate`.
        watch: called after every step of every picture.

    Raises:
        UsageError: a number is out of its range, the network takes no prompts or not these, or knows nothing between
            two prompts.
        CheckpointError: the network or a LoRA cannot be loaded.
        VitrailError: a picture does not fit in memory.
    """
    settings = Settings(num_steps, sampler, guidance_scale, negative, size, find_loras(lora))
    network = get_generator(model, engine=engine, device=device)
    recipe = way_between(prompt, towards, network, settings, frames=frames, seed=seed, towards_seed=towards_seed)
    return morph_again(recipe, network, watch=watch)


def way_between(
    prompt: str,
    towards: str,
    model: Generator,
    settings: Settings,
    *,
    frames: int = FRAMES,
    seed: int | None = None,
    towards_seed: int | None = None,
) -> Recipe:
    """What `morph_again` makes the way of; arguments and errors are those of `morph`."""
    if frames < 2:
        raise UsageError(f"a way from one prompt to another has at least 2 pictures, not {frames}")
    if not model.prompted:
        raise UsageError("only a network that is told what to make knows a way from one prompt to another")
    prompt, towards = checked_prompt(model, prompt), checked_prompt(model, towards)
    first = draw_seed() if seed is None else seed
    last = settings.recipe(model, towards, first if towards_seed is None else towards_seed)
    return replace(settings.recipe(model, prompt, first), way=Way(towards, last.seed, frames))


def morph_again(
    recipe: Recipe,
    model: Generator,
    *,
    watch: Watch | None = None,
    keep: Callable[[Morph], None] | None = None,
) -> Morph:
    """The way that a recipe describes.

    Args:
        recipe: of a way.
        model: the network.
        watch: called after every step of every picture.
        keep: called after every picture with the way so far.

    Raises:
        UsageError, CheckpointError, VitrailError: as `morph`.
    """
    way = recipe.way
    assert way is not None  # who calls this has looked
    shape = model.latent_shape(recipe.size)
    noises = [torch.randn(1, *shape, generator=torch.Generator().manual_seed(one)) for one in (recipe.seed, way.seed)]
    pictures: list[Image.Image] = []
    with adapted(model, recipe.loras):
        with torch.inference_mode():
            ends = [model.condition([text]) for text in (recipe.prompt, way.prompt)]
            negative = model.condition_against([recipe.negative])
        for number in range(way.frames):
            share = number / (way.frames - 1)
            generator = torch.Generator().manual_seed(recipe.seed)
            torch.randn(1, *shape, generator=generator)  # the first noise, which stands before what the sampler draws
            try:
                images = model.sample(
                    mixed(ends[0], ends[1], share),
                    turned(noises[0], noises[1], share),
                    negative=negative,
                    num_steps=recipe.num_steps,
                    sampler=recipe.sampler,
                    guidance_scale=recipe.guidance_scale,
                    generator=generator,
                    preview=watching(watch, model, recipe.num_steps),
                )
            except (RuntimeError, MemoryError) as error:
                raise cannot_run(model, recipe.size, error) from error
            pictures.append(to_image(images[0]))
            if keep:
                keep(Morph(tuple(pictures), recipe))
    return Morph(tuple(pictures), recipe)


def mixed(first: Any, second: Any, share: float) -> Any:
    """Two conditions, linearly mixed: `share` of the second. Which tokens count is what counts in either.

    Raises:
        UsageError: they are no numbers between which there is anything, or not as many.
    """
    if share in (0, 1) or first is None:
        return second if share == 1 else first
    if isinstance(first, tuple):
        return tuple(mixed(one, other, share) for one, other in zip(first, second, strict=True))
    if isinstance(first, dict):
        return {name: mixed(one, second[name], share) for name, one in first.items()}
    if first.shape != second.shape or not (first.is_floating_point() or first.equal(second) or _is_mask(first)):
        raise UsageError("this network is told what to make by number or at different lengths: nothing lies between")
    if first.is_floating_point():
        return torch.lerp(first, second, share)
    return first | second


def turned(first: Tensor, second: Tensor, share: float) -> Tensor:
    """From one noise to another on the arc between them: spherical linear interpolation. Shoemake 1985, eq. in §3.3.

    Args:
        first: of any shape.
        second: of the same shape.
        share: 0 gives the first, 1 the second.
    """
    if share in (0, 1):
        return second if share == 1 else first
    cosine = torch.dot(first.flatten(), second.flatten()) / (first.norm() * second.norm())
    angle = math.acos(max(-1.0, min(1.0, float(cosine))))
    if angle < 1e-3:  # the same noise
        return first
    weights = [math.sin(part * angle) / math.sin(angle) for part in (1 - share, share)]
    return weights[0] * first + weights[1] * second


def _is_mask(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool
