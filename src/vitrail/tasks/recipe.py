"""The recipe of a picture: all it takes to make it again, kept in its PNG file."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from vitrail import __version__
from vitrail.errors import CheckpointError, ImageError, UsageError, VitrailError, first_line
from vitrail.files import appearing
from vitrail.imaging.open import printable
from vitrail.imaging.save import picture_format, save_picture
from vitrail.models.generator import Generator, Preview
from vitrail.tasks.batches import is_out_of_memory
from vitrail.tasks.loras import Added, digest_of
from vitrail.tasks.models import engine_of, name_of

KEY = "vitrail"
"""What the recipe is called among a PNG file's texts."""

_VALUES = 4096
"""So many numbers of each tensor are in the fingerprint: enough to tell a network from the same trained on."""


@dataclass(frozen=True)
class Start:
    """What an edited picture began from.

    Attributes:
        picture: the path or URL as it was named, "<image>" or the like for what has none.
        pixels: SHA-256 of the picture that the network was given, in hexadecimal digits.
        strength: how much of it was made anew, above 0 and at most 1.
        mask: where the mask is, as `picture`; "" without one.
        mask_pixels: SHA-256 of the mask; "" without one.
    """

    picture: str
    pixels: str
    strength: float
    mask: str = ""
    mask_pixels: str = ""


@dataclass(frozen=True)
class Way:
    """The other end of a way between two prompts.

    Attributes:
        prompt: what the way leads to.
        seed: of the noise there; the recipe's own where the noise stays the same.
        frames: how many pictures there are on it, both ends among them.
    """

    prompt: str
    seed: int
    frames: int


@dataclass(frozen=True)
class Recipe:
    """All it takes to make a picture again: on the same machine, to the bit.

    Attributes:
        model: what the network was loaded by.
        weights: `fingerprint` of its weights, without the LoRAs.
        engine: how it ran.
        device: where it ran.
        prompt: what was asked for; "" where the network takes no prompt or was given none.
        negative: what the picture was not to be.
        seed: of the noise.
        num_steps: the steps from noise to picture.
        sampler: a name of `vitrail.diffusion.samplers.SAMPLERS`.
        guidance_scale: how far the picture was pushed from `negative`; 1 is not at all.
        size: (height, width) in pixels.
        versions: of what made it: "vitrail" and "torch".
        start: what it began from, where that was a picture.
        way: where it is a strip or a film on the way to a second prompt.
        loras: what was added to the weights, in that order.
    """

    model: str
    weights: str
    engine: str
    device: str
    prompt: str
    negative: str
    seed: int
    num_steps: int
    sampler: str
    guidance_scale: float
    size: tuple[int, int]
    versions: Mapping[str, str]
    start: Start | None = None
    way: Way | None = None
    loras: tuple[Added, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Every attribute by its name, without those that are None or empty of LoRAs; `size` is [height, width]."""
        said = {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, ())}
        said |= {"loras": list(said["loras"])} if self.loras else {}
        return {**said, "size": list(self.size), "versions": dict(self.versions)}

    def make(
        self,
        model: Generator,
        *,
        picture: Image.Image | None = None,
        mask: Image.Image | None = None,
        preview: Preview | None = None,
    ) -> Image.Image:
        """The picture, RGB.

        Args:
            model: the network, its LoRAs put in.
            picture: what it begins from; it is scaled and cut to `size`.
            mask: as large as `picture`; white is painted anew.
            preview: called after each step with its number, from 0, and the denoised latents so far.

        Raises:
            UsageError: the network cannot make such a picture.
            VitrailError: it does not fit in memory.
        """
        try:
            (made,) = model.generate(
                self.prompt,
                seed=self.seed,
                num_steps=self.num_steps,
                sampler=self.sampler,
                guidance_scale=self.guidance_scale,
                negative=self.negative,
                size=self.size,
                picture=picture,
                strength=self.start.strength if self.start else 1.0,
                mask=mask,
                preview=preview,
            )
        except (RuntimeError, MemoryError) as error:
            raise cannot_run(model, self.size, error) from error
        return made

    def differences(self, model: Generator) -> list[str]:
        """Why this network may make another picture of it: a sentence each for what is not as it was.

        That is weights, engine, device, versions, and the files of LoRAs.
        """
        now = provenance(model)
        said = []
        if now["weights"] != self.weights:
            said.append(f"'{now['model']}' has other weights than the network it was made with, '{self.model}'")
        for what in ("engine", "device"):
            if now[what] != getattr(self, what):
                said.append(f"it was made on the {what} '{getattr(self, what)}', and this is '{now[what]}'")
        for package, version in now["versions"].items():
            if (then := self.versions.get(package)) != version:
                said.append(f"it was made with {package} {then}, and this is {package} {version}")
        for lora in self.loras:
            try:
                if digest_of(lora.file) != lora.digest:
                    said.append(f"the LoRA {printable(lora.file)} is not the file it was made with")
            except CheckpointError as error:
                said.append(str(error))
        return said


def provenance(model: Generator) -> dict[str, Any]:
    """The part of a recipe that says what made it: `model`, `weights`, `engine`, `device` and `versions`."""
    return {
        "model": name_of(model),
        "weights": fingerprint(model),
        "engine": engine_of(model, place=False),  # which the device says
        "device": str(next(model.parameters()).device),
        "versions": {"vitrail": __version__, "torch": torch.__version__},
    }


def fingerprint(model: Generator) -> str:
    """SHA-256, in hexadecimal digits, of the names, types and shapes of a network's tensors and some of their numbers.

    Of each tensor at most `_VALUES` numbers are read, evenly spread, so that it takes no time for large networks, too.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.weights().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // _VALUES)]
        digest.update(values.to("cpu", torch.float64).numpy().tobytes())
    return digest.hexdigest()


def pixels_hash(picture: Image.Image) -> str:
    """SHA-256 of a picture's size, mode and pixels, in hexadecimal digits."""
    return hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()


def cannot_run(model: Generator, size: tuple[int, int], error: Exception) -> VitrailError:
    """What to raise where torch fails while a picture of (height, width) pixels is made."""
    height, width = size
    what = f"'{name_of(model)}' cannot make a picture of {width}×{height} pixels here"
    if is_out_of_memory(error):
        return VitrailError(f"{what}: it does not fit in memory; make it smaller")
    return VitrailError(f"{what} ({first_line(error)})")


def save_with_recipe(picture: Image.Image, path: str | os.PathLike, recipe: Recipe) -> None:
    """`save_picture`; a PNG file holds the recipe, too.

    Raises:
        UsageError: the file's ending is that of no format pictures are written in.
        VitrailError: it cannot be written.
    """
    if picture_format(path) != "PNG":
        return save_picture(picture, path)
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt(KEY, json.dumps(recipe.to_dict(), ensure_ascii=False))
    with appearing(Path(path)) as scratch:
        picture.save(scratch, "PNG", pnginfo=notes)


def read_recipe(path: str | os.PathLike) -> Recipe:
    """The recipe that a PNG file holds.

    Raises:
        ImageError: there is no such file, or it is no PNG file that can be read.
        UsageError: it holds no recipe, or one that makes no sense.
    """
    shown = printable(os.fspath(path))
    try:
        with open(path, "rb") as file, Image.open(file, formats=["PNG"]) as image:
            said = image.info.get(KEY)
    except FileNotFoundError:
        raise ImageError(f"{shown}: there is no such file.") from None
    except UnidentifiedImageError:
        raise ImageError(f"{shown} is no PNG file, and only these hold the recipe of a picture.") from None
    except Exception as error:  # for damaged files Pillow raises nearly all there are
        reason = printable(" ".join(str(getattr(error, "strerror", None) or error).split()))[:120]
        raise ImageError(f"{shown} cannot be read ({reason or type(error).__name__}).") from None
    if not isinstance(said, str):
        raise UsageError(
            f"{shown} holds no recipe: it was not made by generate or edit, or a program that changed it dropped it"
        )
    try:
        return _read(Recipe, json.loads(said))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"the recipe in {shown} makes no sense ({printable(str(error))[:120]})") from None


def _read(kind: type, said: Any) -> Any:
    """The dataclass `kind` from its JSON; what a later version says besides is passed over.

    Raises:
        TypeError: a field is missing, or of another type.
    """
    if not isinstance(said, dict):
        raise TypeError(f"{said!r} stands where there should be named fields")
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in said:
            values[field.name] = _value(field.name, said[field.name], get_type_hints(kind)[field.name])
        elif field.default is dataclasses.MISSING:
            raise TypeError(f"{field.name} is missing")
    return kind(**values)


def _value(name: str, said: Any, kind: Any) -> Any:
    """What a field of this type holds, from its JSON."""
    if kind in (Start | None, Way | None):
        return _read(get_args(kind)[0], said)
    if name == "loras" and isinstance(said, list):
        return tuple(_read(Added, one) for one in said)
    if name == "size":
        fits = isinstance(said, list) and len(said) == 2 and all(type(side) is int for side in said)
    elif name == "versions":
        fits = isinstance(said, dict)
    else:
        fits = type(said) is kind or (kind is float and type(said) is int)
    if not fits:
        raise TypeError(f"{name} is {said!r}")
    return tuple(said) if name == "size" else said
