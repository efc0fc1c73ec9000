"""What is done to a picture before a network sees it, as data: resize, crop, rescale, normalise.

A checkpoint was trained behind one exact chain of these steps, and half a pixel or one rounding elsewhere is already
another network. So the steps follow the two publishers to the last bit: transformers' Pillow image processors, and
timm's evaluation transform (torchvision on Pillow pictures). Where the two differ, in how they round, a field says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.errors import ImageError, UsageError, VitrailError
from vitrail.imaging.open import Picture, Source, alpha_of, open_picture, to_mode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
"""As mean and as standard deviation: pixel values to [-1, 1], as in Inception and the first ViT."""

MAX_RESIZED_PIXELS = 2**27
"""A 1×65535 strip scaled by its shortest edge would fill the memory of any machine: past this it is refused."""

REDUCING_GAP = 3
"""How many times larger than its final size a picture stays where it is reduced while it is decoded.

The name is Pillow's, who find 3 nearly indistinguishable from no reduction. docs/performance.md says what it changes.
"""

ImageLike: TypeAlias = Source | Picture
"""A PIL image, an array, a path, encoded bytes, an http(s) URL, or a picture that was opened already."""


@dataclass(frozen=True)
class Resize:
    """To what size a picture is scaled, and with which filter.

    `rule` is one of

    - "exact": to `size` = (height, width), whatever that does to the proportions;
    - "shortest": proportions kept, the shortest edge to `size`, an int; the other edge is rounded down. With
      `longest`, less if the longest edge would pass that many pixels (transformers' {"shortest_edge", "longest_edge"});
    - "cover": proportions kept, the smallest that covers `size` = (height, width); edges rounded to the nearest, ties
      to even (timm's `ResizeKeepRatio`, which it uses for oblong inputs);
    - "contain": the same, the largest that fits inside `size` (timm's crop mode "border").
    """

    size: int | tuple[int, int]
    rule: Literal["exact", "shortest", "cover", "contain"] = "exact"
    resample: Image.Resampling = Image.Resampling.BICUBIC
    longest: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.size, int) != (self.rule == "shortest"):
            wanted = "one number" if self.rule == "shortest" else "(height, width)"
            raise UsageError(f"The resize rule {self.rule!r} takes {wanted} as its size, not {self.size!r}.")
        if min((self.size,) if isinstance(self.size, int) else self.size) < 1:
            raise UsageError(f"A picture cannot be resized to {self.size}: give at least 1 pixel.")
        if self.longest is not None and self.rule != "shortest":
            raise UsageError(f"The resize rule {self.rule!r} has no longest edge: only 'shortest' has.")

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) in pixels that a picture of this height and width is scaled to; an edge may be 0."""
        if isinstance(self.size, int):
            return self._shortest_edge(self.size, height, width)
        if self.rule == "exact":
            return self.size
        ratios = height / self.size[0], width / self.size[1]
        ratio = min(ratios) if self.rule == "cover" else max(ratios)
        return round(height / ratio), round(width / ratio)

    def _shortest_edge(self, edge: int, height: int, width: int) -> tuple[int, int]:
        short, long = sorted((height, width))
        unrounded: float = edge
        if self.longest is not None and long / short * edge > self.longest:
            unrounded = self.longest * short / long
            edge = round(unrounded)
        if short == edge:
            return height, width
        other = int(unrounded * long / short)
        return (other, edge) if width < height else (edge, other)


@dataclass(frozen=True)
class Crop:
    """The middle of a picture, `size` = (height, width); what lies outside a smaller picture is `fill`, or black.

    Where the margins cannot be equal, `rounding` says which is larger: "floor" rounds the first margin down, as
    transformers does; "nearest" rounds it to the nearest pixel, ties to even, and that of a picture smaller than the
    crop towards zero, as torchvision does.
    """

    size: tuple[int, int]
    rounding: Literal["floor", "nearest"] = "nearest"
    fill: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise UsageError(f"A picture cannot be cropped to {self.size}: give at least 1 pixel.")

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """The (top, left) of the crop in a picture of this height and width, in pixels; negative outside it."""
        return self._margin(height - self.size[0]), self._margin(width - self.size[1])

    def _margin(self, spare: int) -> int:
        if self.rounding == "floor":
            return spare // 2
        return round(spare / 2) if spare >= 0 else -(-spare // 2)


@dataclass(frozen=True)
class Preprocess:
    """A checkpoint's preprocessing: calling it turns pictures into the tensor that the network was trained on.

    Resize, crop, then for each pixel value v in 0..255: `x = v * rescale` (`- 1` with `rescale_offset`), then
    `(x - mean) / std`, and `/ std` once more with `std_twice`; a step that is None is left out. The last two flags are
    EfficientNet's in transformers (its `include_top` is `std_twice`), a trace of the Keras checkpoints it came from.

    `middle` is Perceiver's crop, before all else: the middle of the picture, its (height, width) as fractions of the
    picture's shortest edge, rounded down to pixels.

    `mode` is "RGB" (3 channels) or "L" (1). `transparency` says what becomes of see-through pixels: "drop" keeps the
    colour stored under them, as Pillow's `convert("RGB")` and timm do; "white" lays the picture on white paper, as
    transformers does where `do_convert_rgb` is set.

    Raises `UsageError` where the fields contradict each other.
    """

    resize: Resize | None
    crop: Crop | None = None
    mode: Literal["RGB", "L"] = "RGB"
    transparency: Literal["drop", "white"] = "drop"
    rescale: float | None = 1 / 255
    rescale_offset: bool = False
    mean: tuple[float, ...] | None = IMAGENET_MEAN
    std: tuple[float, ...] | None = IMAGENET_STD
    std_twice: bool = False
    middle: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.middle is not None and min(self.middle) <= 0:
            raise UsageError(f"The middle of a picture must be more than {self.middle} of its shortest edge.")
        if (self.mean is None) != (self.std is None):
            raise UsageError("Normalising takes a mean and a standard deviation: give both or neither.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise UsageError(f"{name} has {len(values)} values and the mode {self.mode} {self.channels} channels.")
        if self.std is not None and 0 in self.std:
            raise UsageError("A standard deviation of 0 would divide by zero.")
        if self.rescale == 0:
            raise UsageError("A rescale factor of 0 would make every pixel the same.")
        if (self.rescale is None and self.rescale_offset) or (self.std is None and self.std_twice):
            raise UsageError("rescale_offset needs rescale, and std_twice needs std.")

    @property
    def channels(self) -> int:
        """How many channels the tensors have: 3 for RGB, 1 for grey."""
        return len(self.mode)

    @property
    def output_size(self) -> tuple[int, int] | None:
        """The (height, width) of every result, in pixels, or None where it depends on the picture."""
        if self.crop is not None:
            return self.crop.size
        if self.resize is not None and self.resize.rule == "exact" and isinstance(self.resize.size, tuple):
            return self.resize.size
        return None

    @property
    def enough(self) -> tuple[int, int] | None:
        """The (height, width) in pixels that a JPEG file may be decoded at instead of all of its own, or None.

        For `open_picture`, where a small difference does not matter: `REDUCING_GAP` times what the picture is scaled
        to. The rest is scaled here, with the filter that the checkpoint asks for.
        """
        if self.resize is None or self.middle is not None:
            return None
        size = self.resize.size
        height, width = (size, size) if isinstance(size, int) else size
        return REDUCING_GAP * height, REDUCING_GAP * width

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Tensor:
        """Pictures to the network's input.

        Args:
            images: a PIL image of any mode, a `Picture`, or what `open_picture` takes: a path, a uint8 array (H, W) or
                (H, W, C), …; or a list or tuple of these. A PIL image is taken as it lies, without regard to an EXIF
                orientation, as the references do; what goes through `open_picture` is turned upright.

        Returns:
            (B, C, H, W), float32; B is 1 for a single picture.

        Raises:
            UsageError: an empty list.
            ImageError: something that is not a picture or cannot be opened, or is too elongated to be resized.
            VitrailError: pictures that come out at different sizes, which no one tensor holds.
        """
        sources = list(images) if isinstance(images, list | tuple) else [images]
        if not sources:
            raise UsageError("There is nothing to preprocess: the list of pictures is empty.")
        pictures = [self.picture(source) for source in sources]  # type: ignore[arg-type]  # a str is no list of paths
        first = pictures[0]
        for number, picture in enumerate(pictures, start=1):
            if picture.size != first.size:
                raise VitrailError(
                    f"Pictures of different sizes make no batch: after preprocessing the first is {first.width}×"
                    f"{first.height} pixels, number {number} {picture.width}×{picture.height}; give them one at a time."
                )
        batch = np.empty((len(pictures), self.channels, first.height, first.width), dtype=np.float32)
        for picture, output in zip(pictures, batch, strict=True):
            pixels = np.asarray(picture).reshape(first.height, first.width, self.channels)
            for channel, table in enumerate(self._table):
                np.take(table, pixels[..., channel], out=output[channel], mode="clip")
        return torch.from_numpy(batch)

    def picture(self, image: ImageLike) -> Image.Image:
        """The picture that the network sees: after resize and crop, before any arithmetic; its mode is `mode`.

        Takes one of what `__call__` takes. Where nothing had to be done it is the picture given and not a copy.
        """
        if isinstance(image, Image.Image):
            picture, alpha = image, alpha_of(image)  # as it lies: the references do not turn it either
        else:
            opened = image if isinstance(image, Picture) else open_picture(image)
            picture, alpha = opened.image, opened.alpha
        if self.transparency == "white" and alpha is not None:
            picture = _on_white(picture, alpha)
        if picture.mode != self.mode:
            picture = to_mode(picture, self.mode)
        if self.middle is not None:
            picture = _cropped(picture, self.middle_of(picture.height, picture.width))
        if self.resize is not None:
            picture = _resized(picture, self.resize)
        if self.crop is not None:
            picture = _cropped(picture, self.crop)
        return picture

    def middle_of(self, height: int, width: int) -> Crop:
        """What is cut out of a picture of this height and width, in pixels, before it is resized."""
        if self.middle is None:
            return Crop((height, width), "floor")
        rows, columns = (max(1, int(fraction * min(height, width))) for fraction in self.middle)
        return Crop((rows, columns), "floor")

    @cached_property
    def _table(self) -> np.ndarray:
        """(C, 256) float32: what each pixel value of each channel becomes.

        A pixel has only 256 values, so the arithmetic is done on those, in the references' own order and precision:
        rescaled in float64, rounded to float32, normalised in float32.
        """
        values = np.arange(256, dtype=np.float64)
        rescaled = (values if self.rescale is None else values * self.rescale).astype(np.float32)
        if self.rescale_offset:
            rescaled -= 1
        table = np.repeat(rescaled[None], self.channels, axis=0)
        if self.mean is not None and self.std is not None:
            mean, std = np.array([self.mean, self.std], dtype=np.float32)[..., None]
            table = (table - mean) / std
            if self.std_twice:
                table /= std
        return table


def standard(
    image_size: int | tuple[int, int],
    *,
    channels: int = 3,
    crop_fraction: float = 0.875,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Preprocess:
    """The usual evaluation transform, for checkpoints that ship none: scale, then crop the middle; timm's "center".

    Args:
        image_size: what the network takes, in pixels: an edge, or (height, width).
        channels: 3 (RGB) or 1 (grey).
        crop_fraction: the crop's edge as a fraction of the scaled picture's shortest edge.
        mean: of each channel, for pixels in [0, 1]; ImageNet's (0.5 for grey) where not given.
        std: the standard deviation, likewise.
        resample: the filter.
    """
    if channels not in (1, 3):
        raise UsageError(f"A picture has 3 channels (RGB) or 1 (grey), not {channels}.")
    if crop_fraction <= 0:
        raise UsageError(f"The crop fraction must be above 0, not {crop_fraction}.")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    scaled = int(height / crop_fraction), int(width / crop_fraction)
    return Preprocess(
        resize=Resize(scaled[0], "shortest", resample) if scaled[0] == scaled[1] else Resize(scaled, "cover", resample),
        crop=Crop((height, width)),
        mode="RGB" if channels == 3 else "L",
        mean=tuple(mean) if mean is not None else IMAGENET_MEAN if channels == 3 else HALF[:1],
        std=tuple(std) if std is not None else IMAGENET_STD if channels == 3 else HALF[:1],
    )


def _on_white(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(alpha)
    paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, picture).convert("RGB")


def _resized(picture: Image.Image, resize: Resize) -> Image.Image:
    height, width = resize.output_size(picture.height, picture.width)
    if (width, height) == picture.size:
        return picture
    if not 0 < height * width <= MAX_RESIZED_PIXELS:
        raise ImageError(
            f"A picture of {picture.width}×{picture.height} pixels is too elongated for this model: it would be "
            f"resized to {width}×{height}; crop it first."
        )
    return picture.resize((width, height), resize.resample)


def _cropped(picture: Image.Image, crop: Crop) -> Image.Image:
    height, width = crop.size
    if (width, height) == picture.size:
        return picture
    top, left = crop.corner(picture.height, picture.width)
    if height <= picture.height and width <= picture.width:
        return picture.crop((left, top, left + width, top + height))
    canvas = Image.new(picture.mode, (width, height), crop.fill or 0)
    canvas.paste(picture, (-left, -top))
    return canvas
