"""`vitrail.edit`: a picture made anew, wholly or under a mask, as a prompt says or just a little otherwise."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vitrail.errors import ImageError, UsageError
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Picture, Source, open_picture, printable
from vitrail.models.generator import Generator
from vitrail.models.model import Model
from vitrail.tasks.analyze import report_path
from vitrail.tasks.batches import Failure, one_or_all
from vitrail.tasks.generate import Generated, Made, Settings, Size, Watch, draw_seed, get_generator, read, watching
from vitrail.tasks.loras import Loras, adapted, find_loras
from vitrail.tasks.models import name_of
from vitrail.tasks.recipe import Recipe, Start, pixels_hash, provenance

STRENGTH = 0.6
"""How much of a picture is made anew where nobody says otherwise; under a mask it is all."""


@dataclass(frozen=True)
class Edited(Generated):
    """What a picture became.

    Attributes:
        before: the picture as the network was given it, RGB: as large as those it became.
    """

    before: Image.Image = field(repr=False, compare=False)

    def draw(self) -> Image.Image:
        """The picture before, and beside it what it became, RGB."""
        images = [self.before, *(made.image for made in self.pictures)]
        captions = ["before", *(f"seed {made.recipe.seed}" for made in self.pictures)]
        return draw.sheet(images, captions, cell=max(*self.before.size, 128), text_size=13)


@dataclass(frozen=True)
class Change:
    """What is to become of pictures.

    Attributes:
        prompt: what they shall be; "" for anything that they might as well have been.
        strength: how much is made anew, above 0 and at most 1; by default `STRENGTH`, and under a mask all.
        mask: white is painted anew, black stays just as it is.
        count: how many pictures each becomes.
        seed: of the first of them; by default each picture draws its own.
    """

    prompt: str = ""
    strength: float | None = None
    mask: Picture | None = None
    count: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"make at least 1 picture, not {self.count}")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise UsageError(f"the strength of a change is above 0 and at most 1, not {self.strength:g}")
        if self.mask is not None and self.mask.image.convert("L").getextrema()[1] == 0:
            raise ImageError(f"{printable(self.mask.name)} is black all over: what is white is painted anew.")

    @property
    def change(self) -> float:
        """The strength, said or not."""
        return self.strength or (STRENGTH if self.mask is None else 1.0)


def edit(
    picture: Any,
    prompt: str = "",
    *,
    strength: float | None = None,
    mask: Source | None = None,
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
    allow_private: bool = False,
) -> "Edited | list[Edited | Failure]":
    """Make a picture, or many, anew: wholly or in part, as a prompt says, or without one for variations.

    Noise is laid on the picture and taken away again (SDEdit: Meng et al. 2022, 2108.01073): the more noise, the more
    is new. The picture is first scaled to a size that suits the network, keeping its shape where the network lets it.

    Args:
        picture: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg"). What is see-through lies on white.
        prompt: what the picture shall be; "" for a variation.
        strength: how much is made anew, above 0 and at most 1; 0.6 unless said, and 1 under a mask.
        mask: a picture as large as `picture`: white is painted anew, black stays just as it is.
        count: how many pictures each becomes.
        seed: of the noise of the first, the next having the next seed; by default one is drawn.
        num_steps, sampler, guidance_scale, negative, lora, model, engine, device, watch: as for `generate`.
        size: of the result: the side, or (height, width), in pixels; the picture is cut to its shape.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Edited; for many a list, with a Failure in the place of each that could not be done.

    Raises:
        UsageError: a number is out of its range, there is no such sampler or size; the network makes no pictures, or
            does not take the prompt.
        CheckpointError: the network or a LoRA cannot be loaded.
        ImageError: the one picture or the mask cannot be opened, or they differ in size.
        VitrailError: a picture does not fit in memory.
    """
    cover = None if mask is None else open_mask(mask, allow_private=allow_private)
    change = Change(prompt, strength, cover, count, seed)
    settings = Settings(num_steps, sampler, guidance_scale, negative, size, find_loras(lora))
    network = get_generator(model, engine=engine, device=device)
    inputs = find_inputs(picture)
    return one_or_all(
        picture, inputs, edit_each(inputs, network, change, settings, watch=watch, allow_private=allow_private)
    )


def edit_each(
    inputs: Sequence[Input],
    model: Generator,
    change: Change,
    settings: Settings | None = None,
    *,
    watch: Watch | None = None,
    keep: Callable[[Input, Made], None] | None = None,
    allow_private: bool = False,
) -> Iterator[Edited | Failure]:
    """`edit` for a stream: each input's pictures as soon as they are there, in order.

    Args:
        inputs: the pictures.
        model: the network.
        change: what is to become of them.
        settings: how.
        watch: called after every step of every picture.
        keep: called with every picture as soon as it is there, and the input it was made of.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: the network does not take the prompt, or nothing makes such pictures.
        CheckpointError: a LoRA cannot be read, or is for another network.
    """
    settings = settings or Settings()
    check_change(model, change.prompt)
    by = provenance(model)
    with adapted(model, settings.loras):
        for input in inputs:
            try:
                opened = input.open(allow_private)
                _check_mask(opened, change.mask)
            except ImageError as error:
                yield Failure(input.name, str(error), error)
                continue
            first = draw_seed() if change.seed is None else change.seed
            before = on_white(opened)
            size = working_size(model, before.size)
            pictures = []
            for number in range(change.count):
                recipe = settings.recipe(model, change.prompt, first + number, size, by=by)
                start = Start(input.name, pixels_hash(before), change.change)
                if change.mask is not None:
                    start = replace(start, mask=change.mask.name, mask_pixels=pixels_hash(change.mask.image))
                made = _make(replace(recipe, start=start), model, before, change.mask, watch)
                if keep:
                    keep(input, made)
                pictures.append(made)
            yield Edited(input.name, tuple(pictures), _fitted(before, pictures[0].recipe.size))


def edit_again(
    recipe: Recipe, model: Generator, picture: Input | None = None, *, watch: Watch | None = None
) -> tuple[Edited, list[str]]:
    """An edited picture once more, from the picture and the mask that its recipe names.

    Args:
        recipe: of the edited picture.
        model: the network.
        picture: what to begin from instead.
        watch: called after every step.

    Returns:
        What the picture became, and a sentence for the picture and for the mask if they are others than they were.

    Raises:
        UsageError: the recipe is of no edited picture, or the picture it began from was no file.
        ImageError: the picture or the mask cannot be opened, or they differ in size.
        CheckpointError: a LoRA of it cannot be read, or is for another network.
    """
    start = recipe.start
    if start is None:
        raise UsageError("it was made out of noise and began from no picture: use generate --again")
    if picture is None and start.picture in ("-", "<bytes>", "<image>", "<array>"):
        raise UsageError(f"it began from {start.picture}, which is no file: name the picture before --again")
    input = picture or Input(start.picture, start.picture)
    opened = input.open()
    before, mask = on_white(opened), open_mask(start.mask) if start.mask else None
    _check_mask(opened, mask)
    changed = [
        f"{printable(name)} is not the picture it was"
        for name, now, then in (
            (input.name, pixels_hash(before), start.pixels),
            (start.mask, pixels_hash(mask.image) if mask else "", start.mask_pixels),
        )
        if now != then
    ]
    with adapted(model, recipe.loras):
        made = _make(recipe, model, before, mask, watch)
    return Edited(input.name, (made,), _fitted(before, recipe.size)), changed


def open_mask(source: Source, *, allow_private: bool = False) -> Picture:
    """A mask, upright; what is see-through in it is black.

    Raises:
        ImageError: it cannot be opened.
    """
    mask = open_picture(source, allow_private=allow_private)
    grey = mask.image.convert("L")
    if mask.alpha is not None:
        grey = Image.composite(grey, Image.new("L", grey.size), mask.alpha)
    return replace(mask, image=grey, mode="L", alpha=None)


def on_white(picture: Picture) -> Image.Image:
    """The picture, RGB, laid on white where it is see-through."""
    if picture.alpha is None:
        return picture.image
    return Image.composite(picture.image, Image.new("RGB", picture.image.size, "white"), picture.alpha)


def working_size(model: Generator, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) at which a network edits a picture of (width, height): the area it is used to, in its shape.

    Sides are multiples of an eighth of the usual side, or of a quarter or a half, as the network's grid allows; where
    it knows one size alone it is that.
    """
    usual = model.usual.size
    factor = math.sqrt(usual[0] * usual[1] / (size[0] * size[1]))
    for unit in (max(1, min(usual) // parts) for parts in (8, 4, 2)):
        height, width = (max(unit, round(side * factor / unit) * unit) for side in (size[1], size[0]))
        with suppress(UsageError):
            model.latent_shape((height, width))
            return height, width
    return usual


def check_change(model: Generator, prompt: str) -> None:
    """Find out before any picture is opened whether the network takes the prompt.

    Raises:
        UsageError: it does not.
    """
    if model.prompted:
        read(model, prompt)
    elif prompt:
        raise UsageError(f"'{name_of(model)}' is not told what to make: leave the prompt out")


def edited_path(name: str, folder: Path | None = None) -> Path:
    """Where an edited picture goes: `cat-edited.png` beside `cat.jpg`, or in `folder`."""
    report = report_path(name)
    path = report.with_name(report.name.removesuffix(".report.html") + "-edited.png")
    return path if folder is None else folder / path.name


def _make(recipe: Recipe, model: Generator, before: Image.Image, mask: Picture | None, watch: Watch | None) -> Made:
    assert recipe.start is not None
    steps = max(1, int(recipe.num_steps * recipe.start.strength))
    preview = watching(watch, model, steps)
    return Made(recipe.make(model, picture=before, mask=None if mask is None else mask.image, preview=preview), recipe)


def _fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled and cut around its middle to (height, width)."""
    return ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)


def _check_mask(picture: Picture, mask: Picture | None) -> None:
    if mask is not None and mask.image.size != picture.image.size:
        raise ImageError(
            f"{printable(mask.name)} is {mask.width}×{mask.height} pixels and {printable(picture.name)} "
            f"{picture.width}×{picture.height}: a mask is as large as its picture."
        )
