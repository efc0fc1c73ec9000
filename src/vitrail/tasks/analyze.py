"""`vitrail.analyze`: one picture through one network, explained and illustrated."""

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitrail import registry
from vitrail.errors import ImageError, UsageError
from vitrail.explain import Explanation, Method, explain
from vitrail.files import appearing
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import Picture, Source, is_url, open_picture, printable
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.model import Model
from vitrail.tasks.classify import Label, top_labels
from vitrail.tasks.models import DEFAULT_MODEL, engine_of, get_model, name_of
from vitrail.tasks.page import data_uri, duration, file_size, render

Result = TypeVar("Result")

_EDGE = 720
"""Pixels of the longer edge of the pictures in a report."""

_STORED = {
    1: "upright",
    2: "stored mirrored, turned back",
    3: "stored upside down, turned upright",
    4: "stored mirrored and upside down, turned upright",
    5: "stored mirrored and on its side, turned upright",
    6: "stored on its side, turned upright",
    7: "stored mirrored and on its side, turned upright",
    8: "stored on its side, turned upright",
}
"""What the EXIF orientations mean, and what `open_picture` did about it."""


@dataclass(frozen=True)
class PictureFacts:
    """What is known of the picture itself.

    Attributes:
        width: pixels across, of the upright picture.
        height: pixels down, of the upright picture.
        format: "JPEG", "PNG", …; None for what was never a file.
        mode: Pillow's name for the pixels as stored.
        orientation: the EXIF orientation tag as stored, 1 to 8.
        file_size: bytes; None for what was never a file.
    """

    width: int
    height: int
    format: str | None
    mode: str
    orientation: int
    file_size: int | None


@dataclass(frozen=True)
class NetworkFacts:
    """What is known of the network.

    Attributes:
        family: its title, "ViT".
        paper: first author, year and arXiv number; None for a family that is not in the registry.
        parameters: how many numbers it learned.
        classes: how many classes it tells apart; 0 without a head.
        licence: of the weights, as far as known.
        layout: whose form the checkpoint had; None for a network built in Python.
        input_size: (height, width) of what it was shown, in pixels.
    """

    family: str
    paper: str | None
    parameters: int
    classes: int
    licence: str | None
    layout: str | None
    input_size: tuple[int, int]


@dataclass(frozen=True)
class Seconds:
    """How long it took; loading the network and opening the picture are not counted.

    Attributes:
        preprocessing: from the picture to the network's input.
        network: one run, without warming up.
        explanation: the second run, which is watched, and what is made of it.
    """

    preprocessing: float
    network: float
    explanation: float


@dataclass(frozen=True)
class Views:
    """The pictures of a report, RGB.

    Attributes:
        photo: the picture, with a frame around what the network was shown if that is not all of it.
        cropped: whether it was shown less than all.
        seen: what it was shown, enlarged.
        heat: where it looked, laid over `seen`.
        components: the features of its patches as colours, with the light and shade of `seen`.
        grid: (rows, columns) of those patches.
    """

    photo: Image.Image
    cropped: bool
    seen: Image.Image
    heat: Image.Image
    components: Image.Image
    grid: tuple[int, int]


@dataclass(frozen=True)
class Analysis:
    """What a network made of a picture, where it looked, and what it ran on.

    Attributes:
        input: what the user would recognise the picture by.
        model: the network's name.
        engine: how it ran.
        labels: the likeliest classes, best first; none for a network without a head.
        method: how the heat map was found. "class activation" explains the first label, "attention rollout" none.
        picture: facts of the picture.
        network: facts of the network.
        seconds: how long it took.
        views: the pictures.
    """

    input: str
    model: str
    engine: str
    labels: tuple[Label, ...]
    method: Method
    picture: PictureFacts
    network: NetworkFacts
    seconds: Seconds
    views: Views = field(repr=False, compare=False)

    @property
    def explained(self) -> str | None:
        """The label that the heat map explains; None where it explains none."""
        return self.labels[0].label if self.labels and self.method == "class activation" else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON can hold it: what `classify` gives, and the facts."""
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            "labels": [label.to_dict() for label in self.labels],
            "heat_map": {"method": self.method, "label": self.explained},
            "picture": asdict(self.picture),
            "network": {**asdict(self.network), "input_size": list(self.network.input_size)},
            "seconds": asdict(self.seconds),
        }

    def __str__(self) -> str:
        width = max((len(label.label) for label in self.labels), default=0)
        rows = [
            f"  {label.label:{width}}  {_text_bar(label.score)} {100 * label.score:6.2f} %" for label in self.labels
        ]
        network = f"{self.model} ({self.network.family}), {self.engine}, {duration(self.seconds.network)}"
        return "\n".join([f"{printable(self.input)}: {_picture_line(self.picture)}", *rows, f"  {network}"])

    def draw(self) -> Image.Image:
        """All of it on one sheet, RGB: the picture, the labels, where it looked, the features."""
        pictures = [self.views.photo, self.views.heat, self.views.components]
        about = f" for “{self.explained}”" if self.explained else ""
        captions = [
            _picture_line(self.picture),
            f"Where it looked{about} ({self.method})",
            f"Features of {' × '.join(map(str, self.views.grid))} patches: the same colour, the same kind of thing",
        ]
        if self.labels:
            names, scores = [label.label for label in self.labels], [label.score for label in self.labels]
            pictures.insert(1, draw.bars(names, scores, (480, 320)))
            captions.insert(1, f"{self.model}, {self.engine}, {duration(self.seconds.network)}")
        return draw.sheet(pictures, captions, columns=2 if self.labels else 3, cell=480, title=printable(self.input))

    def to_html(self) -> str:
        """A page on its own: pictures and styles inside, no scripts, nothing fetched from elsewhere."""
        views = self.views
        return render(
            "report.html.jinja",
            analysis=self,
            name=printable(self.input),
            short_name=printable(self.input if is_url(self.input) else Path(self.input).name),
            photo=data_uri(views.photo),
            seen=data_uri(views.seen),
            heat=data_uri(views.heat),
            components=data_uri(views.components),
            colours=[f"rgb({red} {green} {blue})" for red, green, blue in draw.colour_map(np.linspace(0, 1, 8))],
            orientation=_STORED.get(self.picture.orientation, "upright"),
        )

    def save(self, path: str | os.PathLike) -> Path:
        """Write the page to a file, which appears whole or not at all, and return its path.

        Raises:
            VitrailError: it cannot be written.
        """
        path, page = Path(path), self.to_html()
        with appearing(path) as scratch:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(page, encoding="utf-8")
        return path


def analyze(
    image: Source | Picture | Input,
    *,
    model: str | os.PathLike | Model = DEFAULT_MODEL,
    top: int = 5,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> Analysis:
    """What a network makes of one picture, where it looked, and how it divides the picture.

    The network runs twice: once as it always does, which gives the labels and the time, and once watched.

    Args:
        image: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array, or what
            `open_picture` or `find_inputs` made of one.
        model: what `vitrail.load` takes, or a loaded network.
        top: how many labels to give.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: `top` below 1.
        CheckpointError: the network cannot be loaded.
        ImageError: the picture cannot be opened, or the network cannot run on it.
        VitrailError: a network that can be asked neither for its attention nor for class activation.
    """
    if top < 1:
        raise UsageError(f"there must be at least 1 label to give, not {top}")
    picture = _opened(image, allow_private)
    network = get_model(model, engine=engine, device=device)
    weights = next(network.parameters())
    pixels, preprocessing = _timed(lambda: network.preprocess(picture))
    try:
        with torch.inference_mode():
            pixels = pixels.to(weights.device, weights.dtype)
            logits, running = _timed(lambda: network(pixels)[0].float().cpu())
            has_head = not isinstance(network.head, nn.Identity)
            labels = top_labels(logits, network.labels, top) if has_head else ()
            index = labels[0].index if labels else None
            explanation, explaining = _timed(lambda: explain(network, pixels, index))
    except (ValueError, RuntimeError, MemoryError) as error:  # pixels that do not suit the network, or too many
        sentence = f"the network cannot run on its {pixels.shape[2]}×{pixels.shape[3]} pixels"
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        raise ImageError(f"{printable(picture.name)}: {sentence} ({reason}).") from error
    return Analysis(
        input=picture.name,
        model=name_of(network),
        engine=engine_of(network),
        labels=labels,
        method=explanation.method,
        picture=PictureFacts(
            picture.width, picture.height, picture.format, picture.mode, picture.orientation, picture.file_size
        ),
        network=_network_facts(network, pixels, len(logits) if has_head else 0),
        seconds=Seconds(preprocessing, running, explaining),
        views=_views(picture, network.preprocess, explanation),
    )


def report_path(picture_name: str) -> Path:
    """Where the report on a picture goes: `cat.report.html` beside `cat.jpg`; for what is no file, the current folder.

    Args:
        picture_name: a path, a URL, "-", or what stands for bytes, images and arrays ("<bytes>", …).
    """
    if is_url(picture_name):
        address = urlsplit(picture_name)
        stem = Path(unquote(address.path)).stem or address.hostname or ""
        stem = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80]
        return Path(f"{stem or 'picture'}.report.html")
    if picture_name == "-":
        return Path("stdin.report.html")
    if picture_name in ("<bytes>", "<image>", "<array>"):
        return Path(f"{picture_name[1:-1]}.report.html")
    path = Path(picture_name)
    return path.with_name(f"{path.stem}.report.html")


def _opened(image: Source | Picture | Input, allow_private: bool) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, Input):
        return image.open(allow_private)
    return open_picture(image, allow_private=allow_private)


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What it gives, and the seconds it took."""
    start = perf_counter()
    return run(), perf_counter() - start


def _network_facts(model: Model, pixels: Tensor, classes: int) -> NetworkFacts:
    family = registry.FAMILIES.get(model.family)
    return NetworkFacts(
        family=family.title if family else model.family,
        paper=family.paper if family else None,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        classes=classes,
        licence=model.origin.licence if model.origin else None,
        layout=model.origin.layout if model.origin else None,
        input_size=(pixels.shape[2], pixels.shape[3]),
    )


def _views(picture: Picture, preprocess: Preprocess, explanation: Explanation) -> Views:
    photo = picture.image.copy()
    photo.thumbnail((2 * _EDGE, 2 * _EDGE), Image.Resampling.LANCZOS)
    shrunk = photo.width / picture.width, photo.height / picture.height
    box = _seen_box(preprocess, picture.height, picture.width)
    seen = preprocess.picture(picture).convert("RGB")
    enlarged = _EDGE / max(seen.size)
    size = max(1, round(seen.width * enlarged)), max(1, round(seen.height * enlarged))
    seen = seen.resize(size, Image.Resampling.LANCZOS)
    colours = explanation.components[0].cpu().numpy()
    framed = draw.framed(photo, (box[0] * shrunk[0], box[1] * shrunk[1], box[2] * shrunk[0], box[3] * shrunk[1]))
    return Views(
        photo=framed,
        cropped=framed is not photo,
        seen=seen,
        heat=draw.heat_map(seen, explanation.heat[0].cpu().numpy()),
        components=draw.mosaic(seen, colours),
        grid=(colours.shape[0], colours.shape[1]),
    )


def _seen_box(preprocess: Preprocess, height: int, width: int) -> draw.Box:
    """Which part of a picture of this height and width the network is shown, in the picture's own pixels."""
    if preprocess.crop is None:
        return 0, 0, width, height
    scaled = preprocess.resize.output_size(height, width) if preprocess.resize else (height, width)
    top, left = preprocess.crop.corner(*scaled)
    down, across = height / scaled[0], width / scaled[1]
    bottom, right = top + preprocess.crop.size[0], left + preprocess.crop.size[1]
    return left * across, top * down, right * across, bottom * down


def _picture_line(facts: PictureFacts) -> str:
    """ "451 × 300 pixels, JPEG, 38 kB"."""
    parts = [f"{facts.width} × {facts.height} pixels", facts.format]
    if facts.file_size is not None:
        parts.append(file_size(facts.file_size))
    return ", ".join(part for part in parts if part)


def _text_bar(score: float, width: int = 24) -> str:
    eighths = round(score * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("", *"▏▎▍▌▋▊▉")[rest]).ljust(width)
