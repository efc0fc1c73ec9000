"""`vitrail.analyze`: one picture through one network, explained and illustrated."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
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
from vitrail.errors import ImageError, UsageError, VitrailError
from vitrail.explain import Explanation, Method, check_phrases, explain
from vitrail.files import appearing
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import Picture, Source, is_url, open_picture, printable
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.image_text import ImageText
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model
from vitrail.tasks.ask import Answer, Asking
from vitrail.tasks.batches import Failure
from vitrail.tasks.caption import Caption
from vitrail.tasks.classify import Label, top_labels
from vitrail.tasks.models import engine_of, get_any_model, get_model, name_of
from vitrail.tasks.page import data_uri, duration, file_size, render
from vitrail.tasks.talk import check_language, get_talker
from vitrail.tasks.telling import Talk
from vitrail.tasks.zero_shot import SCORED, Classifier, Scoring, Words, classifier, get_image_text

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
        classes: how many classes it tells apart; 0 for one that was trained on none.
        reads: whether it can compare pictures with words.
        licence: of the weights, as far as known.
        layout: whose form the checkpoint had; None for a network built in Python.
        input_size: (height, width) of what it was shown, in pixels.
    """

    family: str
    paper: str | None
    parameters: int
    classes: int
    reads: bool
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


@dataclass(frozen=True, eq=False)
class PhraseMap:
    """How near each patch of a picture is to a phrase.

    Attributes:
        phrase: what was looked for.
        cosines: (rows, columns) float32, in [-1, 1].
    """

    phrase: str
    cosines: np.ndarray

    @property
    def lowest(self) -> float:
        """The cosine of the patch that is farthest from the phrase."""
        return float(self.cosines.min())

    @property
    def highest(self) -> float:
        """The cosine of the patch that is nearest to it."""
        return float(self.cosines.max())

    def scaled(self) -> np.ndarray:
        """(rows, columns) in [0, 1], from this picture's farthest patch to its nearest; all 0 where none is nearer."""
        spread = self.highest - self.lowest
        return (self.cosines - self.lowest) / spread if spread > 1e-5 else np.zeros_like(self.cosines)

    def to_dict(self) -> dict[str, Any]:
        """{"phrase": …, "cosines": [[…], …]}, row by row."""
        return {"phrase": self.phrase, "cosines": self.cosines.tolist()}


@dataclass(frozen=True)
class Views:
    """The pictures of a report, RGB.

    Attributes:
        photo: the picture, with a frame around what the network was shown if that is not all of it.
        cropped: whether it was shown less than all.
        seen: what it was shown, enlarged.
        heat: where it looked, laid over `seen`.
        components: the features of its patches as colours, with the light and shade of `seen`.
        phrases: how near its patches are to each phrase, laid over `seen`.
        grid: (rows, columns) of those patches.
    """

    photo: Image.Image
    cropped: bool
    seen: Image.Image
    heat: Image.Image
    components: Image.Image
    phrases: tuple[Image.Image, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Analysis:
    """What a network made of a picture, where it looked, and what it ran on.

    Attributes:
        input: what the user would recognise the picture by.
        model: the network's name.
        engine: how it ran.
        labels: the likeliest classes, or of the labels given the closest, best first; none for a network without a head
            that was given none.
        scoring: where labels were given in words, how they were scored: "softmax" shares 1 out among them, "sigmoid"
            judges each by itself; None for the network's own classes.
        phrases: how near its patches are to each phrase that was given.
        caption: what a network that writes says about it, where there was one.
        answers: that network's, to what it was asked.
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
    scoring: Scoring | None
    phrases: tuple[PhraseMap, ...] = field(compare=False)
    caption: Caption | None
    answers: tuple[Answer, ...]
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
        """Everything but the pictures, as JSON can hold it: what `classify` gives, and the facts.

        "phrases" is there where some were given, "caption" and "answers" where a network wrote them.
        """
        scoring = {} if self.scoring is None else {"scoring": self.scoring}
        phrases = {"phrases": [phrase.to_dict() for phrase in self.phrases]} if self.phrases else {}
        words = {}
        if self.caption:
            words = {"caption": self.caption.to_dict(), "answers": [answer.to_dict() for answer in self.answers]}
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            **scoring,
            "labels": [label.to_dict() for label in self.labels],
            **phrases,
            **words,
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
        if self.scoring is not None:
            rows.append(f"  {SCORED[self.scoring]}")
        rows += [f"  {_phrase_line(phrase)}" for phrase in self.phrases]
        rows += [f"  {line}" for line in self._words()]
        network = f"{self.model} ({self.network.family}), {self.engine}, {duration(self.seconds.network)}"
        return "\n".join([f"{printable(self.input)}: {_picture_line(self.picture)}", *rows, f"  {network}"])

    def draw(self) -> Image.Image:
        """All of it on one sheet, RGB: the picture, the labels, where it looked, the features, the phrases."""
        pictures = [self.views.photo, self.views.heat, self.views.components, *self.views.phrases]
        about = f" for “{self.explained}”" if self.explained else ""
        captions = [
            "\n".join([_picture_line(self.picture), *self._words()]),
            f"Where it looked{about} ({self.method})",
            f"Features of {' × '.join(map(str, self.views.grid))} patches: the same colour, the same kind of thing",
            *map(_phrase_line, self.phrases),
        ]
        if self.labels:
            names, scores = [label.label for label in self.labels], [label.score for label in self.labels]
            pictures.insert(1, draw.bars(names, scores, (480, 320)))
            captions.insert(1, f"{self.model}, {self.engine}, {duration(self.seconds.network)}")
        return draw.sheet(pictures, captions, columns=2 if self.labels else 3, cell=480, title=printable(self.input))

    def _words(self) -> list[str]:
        """What a network wrote, a line each, and its name."""
        if self.caption is None:
            return []
        answers = [f"{answer.question} {answer.text}" for answer in self.answers]
        return [f"“{self.caption.text}” ({self.caption.model})", *answers]

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
            phrases=[(found, data_uri(view)) for found, view in zip(self.phrases, views.phrases, strict=True)],
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
    labels: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    phrases: Sequence[str] = (),
    questions: Sequence[str] = (),
    model: str | os.PathLike | Model | None = None,
    talker: str | os.PathLike | Model | None = None,
    language: str | None = None,
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
        labels: what to tell apart, in words, for a network that reads them: as `classify` takes them.
        templates: sentences to put labels into, with {} in the label's place.
        phrases: what to look for in the picture's patches, for a network that reads words: ["the cat"].
        questions: what to ask a network that writes: ["Is there a cat?"]. It describes the picture, too.
        model: what `vitrail.load` takes, or a loaded network; unless said, efficientnet-lite0, or with labels or
            phrases emoji/clip-nano. One that writes is taken as `talker`.
        talker: the network that writes; unless said, emoji/talk-nano where there are questions, and otherwise none.
        language: that of the description and the answers, "en" or "zh"; unless said, English, and each question's own.
        top: how many labels to give.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: `top` below 1; labels or phrases that are empty or given twice, or for a network that cannot read
            them; a template without {}; an empty question; a `talker` that does not write.
        CheckpointError: a network cannot be loaded.
        ImageError: the picture cannot be opened, or a network cannot run on it.
        VitrailError: a network that can be asked neither for its attention nor for class activation.
    """
    question = Question(top, Words.of(labels, templates), phrases)  # type: ignore[arg-type]  # made a tuple there
    picture = _opened(image, allow_private)
    network, talk = get_networks(question, model, talker, questions, language, engine=engine, device=device)
    return _analyze(picture, network, question, question.judge(network), talk)


def analyze_each(
    inputs: Sequence[Input],
    model: Model,
    question: "Question",
    talk: "Talk | None" = None,
    *,
    allow_private: bool = False,
) -> "Iterator[Analysis | Failure]":
    """`analyze` for a stream: each input's analysis as soon as it is there, in order; labels are read once.

    Raises:
        UsageError: the network cannot read the labels or the phrases.
    """
    judge = question.judge(model)

    def analysed(input: Input) -> Analysis | Failure:
        try:
            return _analyze(input.open(allow_private), model, question, judge, talk)
        except VitrailError as error:
            return Failure(input.name, str(error), error)

    return map(analysed, inputs)


@dataclass(frozen=True)
class Question:
    """What is to be known of every picture.

    Attributes:
        top: how many labels to give.
        words: labels to tell apart instead of the network's own classes.
        phrases: what to look for in patches.

    Raises:
        UsageError: `top` below 1; an empty phrase, or one given twice.
    """

    top: int = 5
    words: Words | None = None
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"there must be at least 1 label to give, not {self.top}")
        if isinstance(self.phrases, str):
            raise UsageError("phrases are a list of texts, not one text")
        phrases = tuple(str(phrase).strip() for phrase in self.phrases)
        if not all(phrases) or len(set(phrases)) < len(phrases):
            raise UsageError("each phrase must say something, and something else than the others")
        object.__setattr__(self, "phrases", phrases)

    @property
    def has_words(self) -> bool:
        """Whether only a network that reads can be asked."""
        return self.words is not None or bool(self.phrases)

    def judge(self, model: Model) -> Classifier | None:
        """What tells the labels apart; None where none were given.

        Raises:
            UsageError: the network cannot read the labels or the phrases.
        """
        if self.phrases:
            check_phrases(model)
        return None if self.words is None else classifier(model, self.words)


def get_networks(
    question: Question,
    model: str | os.PathLike | Model | None,
    talker: str | os.PathLike | Model | None = None,
    questions: Sequence[str] = (),
    language: str | None = None,
    *,
    engine: str = "auto",
    device: str | None = None,
    architecture: str | None = None,
) -> tuple[Model, Talk | None]:
    """The network that sees, and the one that writes, if there is to be one; arguments as `analyze` takes them.

    Raises:
        UsageError: what `analyze` says; or two networks that write are named.
    """
    if isinstance(questions, str):
        raise UsageError("questions are a list of texts, not one text")
    asked = tuple(Asking.of(one, language=language) for one in questions)
    check_language(language)
    seen = None if model is None else get_any_model(model, engine=engine, device=device, architecture=architecture)
    if isinstance(seen, LanguageModel):
        if talker is not None:
            raise UsageError(f"'{name_of(seen)}' writes, and so does the talker: name one that sees as the model")
        talker, model = model, None
    else:
        model = seen or model
    get = get_image_text if question.has_words else get_model
    network = get(model) if isinstance(model, Model) else get(None, engine=engine, device=device)
    if talker is None and not asked:
        return network, None
    return network, Talk(get_talker(talker, engine=engine, device=device), language or "en", asked)


def _analyze(
    picture: Picture, network: Model, question: Question, judge: Classifier | None, talk: Talk | None
) -> Analysis:
    weights = next(network.parameters())
    pixels, preprocessing = _timed(lambda: network.preprocess(picture))
    try:
        with torch.inference_mode():
            pixels = pixels.to(weights.device, weights.dtype)
            run = network.encode_image if isinstance(network, ImageText) else network
            output, running = _timed(lambda: run(pixels).float().cpu())
            labels = _labels(network, output, question, judge)
            index = labels[0].index if labels else None
            explanation, explaining = _timed(
                lambda: explain(network, pixels, index, head=judge, phrases=question.phrases)
            )
    except (ValueError, RuntimeError, MemoryError) as error:  # pixels that do not suit the network, or too many
        sentence = f"the network cannot run on its {pixels.shape[2]}×{pixels.shape[3]} pixels"
        reason = str(error).strip().partition("\n")[0] or "out of memory"
        raise ImageError(f"{printable(picture.name)}: {sentence} ({reason}).") from error
    caption, answers = talk.about(picture) if talk else (None, ())
    maps = explanation.phrases[0].cpu().numpy()
    phrases = tuple(PhraseMap(phrase, cosines) for phrase, cosines in zip(question.phrases, maps, strict=True))
    has_head = not isinstance(network.head, nn.Identity)
    return Analysis(
        input=picture.name,
        model=name_of(network),
        engine=engine_of(network),
        labels=labels,
        scoring=judge.scoring if judge else None,
        phrases=phrases,
        caption=caption,
        answers=answers,
        method=explanation.method,
        picture=PictureFacts(
            picture.width, picture.height, picture.format, picture.mode, picture.orientation, picture.file_size
        ),
        network=_network_facts(network, pixels, output.shape[1] if has_head else 0),
        seconds=Seconds(preprocessing, running, explaining),
        views=_views(picture, network.preprocess, explanation, phrases),
    )


def _labels(network: Model, output: Tensor, question: Question, judge: Classifier | None) -> tuple[Label, ...]:
    """The likeliest labels of the one picture whose logits, or vector, is (1, D)."""
    if judge is not None:
        return top_labels(judge(output)[0], judge.words.labels, question.top, judge.scoring)
    if isinstance(network.head, nn.Identity):
        return ()
    return top_labels(output[0], network.labels, question.top)


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
        reads=isinstance(model, ImageText),
        licence=model.origin.licence if model.origin else None,
        layout=model.origin.layout if model.origin else None,
        input_size=(pixels.shape[2], pixels.shape[3]),
    )


def _views(picture: Picture, preprocess: Preprocess, explanation: Explanation, phrases: tuple[PhraseMap, ...]) -> Views:
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
        phrases=tuple(draw.heat_map(seen, phrase.scaled()) for phrase in phrases),
        grid=(colours.shape[0], colours.shape[1]),
    )


def _seen_box(preprocess: Preprocess, height: int, width: int) -> draw.Box:
    """Which part of a picture of this height and width the network is shown, in the picture's own pixels."""
    if preprocess.middle is not None:
        middle = preprocess.middle_of(height, width)
        top, left = middle.corner(height, width)
        return left, top, left + middle.size[1], top + middle.size[0]
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


def _phrase_line(phrase: PhraseMap) -> str:
    """ "“the cat”: cosines of its patches from 0.12 to 0.31"."""
    return f"“{printable(phrase.phrase)}”: cosines of its patches from {phrase.lowest:.2f} to {phrase.highest:.2f}"


def _text_bar(score: float, width: int = 24) -> str:
    eighths = round(score * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("", *"▏▎▍▌▋▊▉")[rest]).ljust(width)
