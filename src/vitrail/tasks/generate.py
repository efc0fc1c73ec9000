"""`vitrail.generate`: pictures of what was asked for, out of noise."""

import os
import re
import secrets
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vitrail.checkpoints.box import box_names
from vitrail.errors import UsageError
from vitrail.files import read_lines
from vitrail.imaging import draw
from vitrail.imaging.open import printable
from vitrail.models.generator import Generator, Preview, to_image
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure
from vitrail.tasks.loras import Added, Loras, adapted, find_loras
from vitrail.tasks.models import get_any_model, name_of
from vitrail.tasks.recipe import Recipe, provenance, save_with_recipe

DEFAULT_GENERATOR = "emoji/imagine-nano"
"""In the box, trained on Emoji World; it reads English and Chinese."""

EXAMPLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""A published network that makes pictures, for sentences that ask for one."""

Size = int | tuple[int, int]
"""The side of a square picture, or (height, width), in pixels."""


@dataclass(frozen=True)
class Step:
    """One step on the way from noise to a picture.

    Attributes:
        number: of this step, from 1.
        total: how many there will be.
        latents: the denoised picture so far, (1, C, h, w), where the network works.
        model: the network.
    """

    number: int
    total: int
    latents: Tensor = field(repr=False)
    model: Generator = field(repr=False)

    def picture(self) -> Image.Image:
        """What the picture looks like so far, RGB. For a network that works in a latent space it takes its decoder."""
        with torch.inference_mode():
            return to_image(self.model.decode(self.latents[:1])[0].clamp(-1, 1))


Watch = Callable[[Step], None]
"""Called after every step of every picture."""


@dataclass(frozen=True)
class Made:
    """A picture and its recipe.

    Attributes:
        image: RGB.
        recipe: all it takes to make it again.
    """

    image: Image.Image = field(repr=False, compare=False)
    recipe: Recipe

    def save(self, path: str | os.PathLike) -> None:
        """Write it to a .png, .jpg or .webp file; a PNG file holds the recipe.

        Raises:
            UsageError: the file has another ending.
            VitrailError: it cannot be written.
        """
        save_with_recipe(self.image, path, self.recipe)


@dataclass(frozen=True)
class Generated:
    """The pictures of one prompt, or those that an edited picture became.

    Attributes:
        input: the prompt; of an edited picture, what the user would recognise it by.
        pictures: as many as were asked for.
    """

    input: str
    pictures: tuple[Made, ...]

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.pictures[0].image

    @property
    def recipe(self) -> Recipe:
        """The first picture's."""
        return self.pictures[0].recipe

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "pictures": [a recipe each]}."""
        return {"input": self.input, "pictures": [made.recipe.to_dict() for made in self.pictures]}

    def __str__(self) -> str:
        seeds = ", ".join(str(made.recipe.seed) for made in self.pictures)
        how = self.recipe
        height, width = how.size
        return (
            f"{printable(self.input) or 'out of noise'}\n  {len(self.pictures)} × {width}×{height} pixels, "
            f"{how.num_steps} steps of {how.sampler}, seed {seeds}"
        )

    def draw(self) -> Image.Image:
        """The picture; of several, a sheet with the seed of each, RGB."""
        if len(self.pictures) == 1:
            return self.image
        return sheet(self.pictures, printable(self.input))


@dataclass(frozen=True)
class Settings:
    """How pictures are made; what is None is as usual for the checkpoint.

    Attributes:
        num_steps: the steps from noise to picture.
        sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`.
        guidance_scale: how far the picture is pushed from `negative`; 1 is not at all.
        negative: what the picture shall not be.
        size: in pixels.
        loras: what is added to the network's weights, in that order.
    """

    num_steps: int | None = None
    sampler: str | None = None
    guidance_scale: float | None = None
    negative: str = ""
    size: Size | None = None
    loras: tuple[Added, ...] = ()

    def recipe(
        self,
        model: Generator,
        prompt: str,
        seed: int,
        size: tuple[int, int] | None = None,
        *,
        by: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """What makes the picture of this prompt and seed.

        Args:
            model: the network.
            prompt: what to make.
            seed: of the noise.
            size: (height, width) where these settings say none.
            by: what `provenance` says of the network; needed where its LoRAs are put in already.

        Raises:
            UsageError: there is no such size or seed.
        """
        usual = model.usual
        if not 0 <= seed < 2**63:
            raise UsageError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed}")
        wanted = (self.size, self.size) if isinstance(self.size, int) else self.size
        if wanted is not None and min(wanted) < 1:
            raise UsageError(f"a picture has at least 1 pixel a side, not {wanted[1]}×{wanted[0]}")
        return Recipe(
            **(by or provenance(model)),
            prompt=prompt,
            negative=self.negative,
            seed=seed,
            num_steps=usual.num_steps if self.num_steps is None else self.num_steps,
            sampler=self.sampler or usual.sampler,
            guidance_scale=float(usual.guidance_scale if self.guidance_scale is None else self.guidance_scale),
            size=wanted or size or usual.size,
            loras=self.loras,
        )


def generate(
    prompt: str | Sequence[str] | None = None,
    *,
    count: int = 1,
    seed: int | None = None,
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
) -> "Generated | list[Generated | Failure]":
    """Make pictures of what is asked for, out of noise.

    Args:
        prompt: what to make; or many, a list or tuple. None where the network takes no prompt.
        count: how many pictures of each prompt.
        seed: of the noise; picture k of a prompt has the seed `seed` + k, whatever the count. By default one is drawn.
        num_steps: the steps from noise to picture: more take longer and err less. The checkpoint's own unless said.
        sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`; the checkpoint's own unless said.
        guidance_scale: how far the picture is pushed away from `negative`, towards the prompt; 1 is not at all. The
            checkpoint's own unless said.
        negative: what the picture shall not be.
        size: the side, or (height, width), in pixels; the checkpoint's own unless said.
        lora: the file of a LoRA that is added to the network for these pictures, or several files, each with its
            strength: {"ink.safetensors": 0.8}. See `vitrail.apply_lora` for what is read.
        model: what `vitrail.load` takes, or a loaded network; emoji/imagine-nano unless said, which draws emoji.
        engine: how the network runs.
        device: where it runs.
        watch: called after every step of every picture.

    Returns:
        For one prompt its Generated; for many a list, with a Failure in the place of each the network does not take.

    Raises:
        UsageError: a number is out of its range, there is no such sampler or size; the network makes no pictures, or
            does not take the one prompt.
        CheckpointError: the network or a LoRA cannot be loaded.
        VitrailError: a picture does not fit in memory.
    """
    settings = Settings(num_steps, sampler, guidance_scale, negative, size, find_loras(lora))
    network = get_generator(model, engine=engine, device=device)
    prompts = [prompt or ""] if prompt is None or isinstance(prompt, str) else list(prompt)
    results = list(generate_each(prompts, network, settings, count=count, seed=seed, watch=watch))
    if prompt is not None and not isinstance(prompt, str):
        return results
    (result,) = results
    if isinstance(result, Failure):
        raise result.cause
    return result


def generate_each(
    prompts: Iterable[str],
    model: Generator,
    settings: Settings | None = None,
    *,
    count: int = 1,
    seed: int | None = None,
    watch: Watch | None = None,
    keep: Callable[[Made], None] | None = None,
) -> Iterator[Generated | Failure]:
    """`generate` for a stream: each prompt's pictures as soon as they are there, in order.

    Args:
        prompts: what to make.
        model: the network.
        settings: how.
        count: how many pictures of each.
        seed: of the first picture of each; by default each prompt draws its own.
        watch: called after every step of every picture.
        keep: called with every picture as soon as it is there.

    Raises:
        UsageError: `count` below 1, or no network makes such pictures.
        CheckpointError: a LoRA cannot be read, or is for another network.
    """
    if count < 1:
        raise UsageError(f"make at least 1 picture, not {count}")
    settings = settings or Settings()
    by = provenance(model)
    with adapted(model, settings.loras):
        for prompt in prompts:
            try:
                said = checked_prompt(model, prompt)
            except UsageError as error:
                yield Failure(prompt, str(error), error)
                continue
            first = draw_seed() if seed is None else seed
            pictures = []
            for number in range(count):
                recipe = settings.recipe(model, said, first + number, by=by)
                made = Made(recipe.make(model, preview=watching(watch, model, recipe.num_steps)), recipe)
                if keep:
                    keep(made)
                pictures.append(made)
            yield Generated(said, tuple(pictures))


def make_again(recipe: Recipe, model: Generator, *, watch: Watch | None = None) -> Made:
    """The picture of a recipe, out of noise.

    Raises:
        UsageError: it is that of an edited picture, which takes the picture, too; or the network cannot make it.
        CheckpointError: a LoRA of it cannot be read, or is for another network.
    """
    if recipe.start is not None:
        raise UsageError(f"it began from a picture, {printable(recipe.start.picture)}: use edit --again")
    with adapted(model, recipe.loras):
        return Made(recipe.make(model, preview=watching(watch, model, recipe.num_steps)), recipe)


def get_generator(
    model: str | os.PathLike | Model | None = None, *, engine: str = "auto", device: str | None = None
) -> Generator:
    """The network that makes pictures; arguments and errors are `get_any_model`'s.

    Without a name it is `DEFAULT_GENERATOR`.

    Raises:
        UsageError: the network makes no pictures; or none is named and there is none in the box.
    """
    if model is None:
        if DEFAULT_GENERATOR not in box_names():
            raise UsageError(f"name a network that makes pictures, as in --model {EXAMPLE}: there is none in the box")
        model = DEFAULT_GENERATOR
    network = get_any_model(model, engine=engine, device=device)
    if not isinstance(network, Generator):
        raise UsageError(f"'{name_of(network)}' makes no pictures: use a network that does, as in --model {EXAMPLE}")
    return network


def checked_prompt(model: Generator, prompt: str) -> str:
    """The prompt without space around it, and known to be one that the network takes.

    Raises:
        UsageError: it is empty where there should be one, there is one where the network takes none, or the network
            does not take it.
    """
    prompt = str(prompt).strip()
    if not model.prompted:
        if prompt:
            raise UsageError(f"'{name_of(model)}' is not told what to make: leave the prompt out")
        return ""
    if not prompt:
        raise UsageError('the prompt is empty: say what to make, as in "a green frog"')
    read(model, prompt)
    return prompt


def read(model: Generator, prompt: str) -> None:
    """Let the network read a prompt, to see whether it takes it. What it warns of it warns of when it makes a picture.

    Raises:
        UsageError: it does not take it.
    """
    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
        model.condition([prompt])


def draw_seed() -> int:
    """A seed that nobody chose, short enough to be typed."""
    return secrets.randbelow(10**6)


def watching(watch: Watch | None, model: Generator, total: int) -> Preview | None:
    """What a sampler calls, for what a user watches; None where nobody does."""
    if watch is None:
        return None
    done = 0

    def preview(step: int, latents: Tensor) -> None:
        nonlocal done
        done += 1
        watch(Step(done, max(done, total), latents, model))

    return preview


def read_prompts(path: str | os.PathLike) -> tuple[str, ...]:
    """Prompts from a text file in UTF-8, one a line; empty lines are none.

    Raises:
        VitrailError: it cannot be read, or is not in UTF-8.
        UsageError: it holds no prompt.
    """
    return read_lines(path, "prompts")


def file_stem(prompt: str) -> str:
    """A prompt as the name of a file, without an ending: its letters and digits of whatever script, at most 60."""
    words = re.sub(r"[^\w]+", "-", unicodedata.normalize("NFC", prompt).casefold())
    return words[:60].strip("-_") or "picture"


def sheet(pictures: Sequence[Made], title: str = "", captions: Sequence[str] | None = None) -> Image.Image:
    """A contact sheet, RGB, with `captions` or the seeds below the pictures."""
    images = [made.image for made in pictures]
    longest = max(max(image.size) for image in images)
    said = captions or [f"seed {made.recipe.seed}" for made in pictures]
    return draw.sheet(images, said, cell=max(longest, 128), text_size=13, title=title)
