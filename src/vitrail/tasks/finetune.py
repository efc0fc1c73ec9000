"""`vitrail.finetune`: a folder of class folders and a trained network make a network for those classes."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.checkpoints.save import save
from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.imaging import draw
from vitrail.imaging.inputs import PICTURE_ENDINGS, Input, find_inputs
from vitrail.imaging.open import Picture, printable
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure
from vitrail.tasks.confusion import (
    ClassScore,
    Share,
    class_scores,
    count_confusions,
    draw_confusion,
    most_mistaken,
)
from vitrail.tasks.embed import embed_each
from vitrail.tasks.models import DEFAULT_MODEL, engine_of, get_model, name_of
from vitrail.tasks.page import data_uri, duration, render
from vitrail.tasks.probe import fit_probe, stratified, with_classes

Example = tuple[Input, int]
"""A picture that has not been opened yet, and the number of its class."""

Advance = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

Method = Literal["probe", "lora", "full"]
"""What is trained: a new head; a head and small additions to the linear maps; everything."""

MODEL, REPORT = "model.safetensors", "report.html"

SHOWN_MISTAKES = 24

_THUMBNAIL = 240
"""Pixels of the longer edge of a mistake's picture."""

_TESTS = ("test", "val", "validation")
"""The folder beside "train" that holds the pictures to be tested on."""


@dataclass(frozen=True)
class Mistake:
    """A picture that was taken for something else.

    Attributes:
        input: what the user would recognise it by.
        label: what it is.
        said: what it was taken for.
        score: the probability given to that, in [0, 1].
        label_score: the probability given to what it is.
        picture: the picture itself, small, RGB; None where it cannot be opened any more.
    """

    input: str
    label: str
    said: str
    score: float
    label_score: float
    picture: Image.Image | None = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the picture."""
        return {name: getattr(self, name) for name in ("input", "label", "said", "score", "label_score")}


@dataclass(frozen=True)
class Seconds:
    """How long it took.

    Attributes:
        features: looking at all the pictures once.
        training: the probe, and what came after it.
        scoring: what the pictures that were held out took in the end.
    """

    features: float
    training: float
    scoring: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.features + self.training + self.scoring


@dataclass(frozen=True)
class FineTuned:
    """A network for the classes of a folder, and how well it knows them.

    Attributes:
        output: the folder with model.safetensors, which `vitrail.load` takes, and report.html.
        folder: where the pictures came from.
        model: the name of the network it was made of.
        method: what was trained.
        engine: how the network ran when it looked at the pictures.
        labels: the classes, named after their folders.
        trained, tested: how many pictures it learned from and was scored on.
        split: how they were parted: "held-out pictures", or the folder they were in.
        seed: of that and of everything else that is drawn.
        accuracy: the share of the tested pictures whose likeliest label is right.
        top_5: the share of those that have the right one among the five likeliest; None for five classes or fewer.
        guessing: the accuracy of always saying the class that is most frequent in training.
        probe_accuracy: that of a new head alone, where more was trained; None for a probe.
        strength: of the probe's penalty, as it was chosen.
        classes: the scores of each class, in the order of the labels.
        confusion: (classes, classes), what (rows) was taken for what (columns).
        mistakes: the worst, the surest of what is wrong first.
        left_out: pictures that could not be opened.
        seconds: how long it took.
    """

    output: Path
    folder: str
    model: str
    method: Method
    engine: str
    labels: tuple[str, ...]
    trained: int
    tested: int
    split: str
    seed: int
    accuracy: Share
    top_5: Share | None
    guessing: float
    probe_accuracy: float | None
    strength: float
    classes: tuple[ClassScore, ...]
    confusion: np.ndarray = field(repr=False, compare=False)
    mistakes: tuple[Mistake, ...] = field(repr=False)
    left_out: tuple[Failure, ...]
    seconds: Seconds

    @property
    def network(self) -> Path:
        """The network's file."""
        return self.output / MODEL

    @property
    def report(self) -> Path:
        """The page about it."""
        return self.output / REPORT

    @property
    def macro_f1(self) -> float:
        """The mean of the classes' F1 scores, as far as they were tested."""
        return float(np.mean([score.f1 for score in self.classes if score.f1 is not None]))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures, as JSON can hold it."""
        return {
            "output": str(self.output),
            "network": str(self.network),
            "report": str(self.report),
            "folder": self.folder,
            "model": self.model,
            "method": self.method,
            "engine": self.engine,
            "trained": self.trained,
            "tested": self.tested,
            "split": self.split,
            "seed": self.seed,
            "accuracy": asdict(self.accuracy),
            "top_5": asdict(self.top_5) if self.top_5 else None,
            "macro_f1": self.macro_f1,
            "guessing": self.guessing,
            "probe_accuracy": self.probe_accuracy,
            "strength": self.strength,
            "classes": [score.to_dict() for score in self.classes],
            "confusion": self.confusion.tolist(),
            "mistakes": [mistake.to_dict() for mistake in self.mistakes],
            "left_out": [failure.to_dict() for failure in self.left_out],
            "seconds": {**asdict(self.seconds), "total": self.seconds.total},
        }

    def __str__(self) -> str:
        classes = f"{self.trained:,} pictures of {len(self.labels)} classes"
        top_5 = f", {100 * self.top_5.value:.1f} % among the first five" if self.top_5 else ""
        rows = [
            f"{self.accuracy} of {self.tested:,} {self.split} named right{top_5}",
            f"  {self.method} on {self.model}, {classes}, {self.engine}, {duration(self.seconds.total)}",
            f"  {self.network}",
            f"  {self.report}",
        ]
        if self.left_out:
            rows.insert(2, f"  left out: {len(self.left_out)}")
        return "\n".join(rows)

    def draw(self) -> Image.Image:
        """What was taken for what, and the worst mistakes, on one sheet, RGB."""
        pictures = [draw_confusion(self.confusion, self.labels, edge=900)]
        shown = [mistake for mistake in self.mistakes if mistake.picture]
        if shown:
            captions = [f"{100 * mistake.score:.0f} % {mistake.said}\nis: {mistake.label}" for mistake in shown]
            thumbnails = [mistake.picture for mistake in shown if mistake.picture]
            pictures.append(draw.sheet(thumbnails, captions, columns=6, cell=150, text_size=14))
        title = f"{self.model}, {self.method}: {100 * self.accuracy.value:.1f} % of {self.tested:,} {self.split}"
        return draw.sheet(pictures, columns=1, title=title)

    def to_html(self) -> str:
        """A page on its own: pictures and styles inside, no scripts, nothing fetched from elsewhere."""
        drawn, drawn_classes = draw_confusion(self.confusion, self.labels), len(most_mistaken(self.confusion))
        return render(
            "finetune.html.jinja",
            tuned=self,
            name=printable(Path(self.folder).resolve().name),
            folder=printable(self.folder),
            confusion=data_uri(drawn, "PNG"),
            confusion_width=drawn.width // 2 if 8 < drawn_classes <= 40 else drawn.width,  # where it stays readable
            drawn_classes=drawn_classes,
            confused=_most_confused(self.confusion, self.labels),
            mistakes=[
                (mistake, printable(mistake.input), mistake.picture and data_uri(mistake.picture))
                for mistake in self.mistakes
            ],
            wrong=int(self.confusion.sum() - self.confusion.trace()),
            left_out=[str(failure) for failure in self.left_out],
        )


def finetune(
    folder: str | os.PathLike,
    *,
    output: str | os.PathLike,
    model: str | os.PathLike | Model = DEFAULT_MODEL,
    method: Method = "probe",
    validation: float | None = None,
    test_folder: str | os.PathLike | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int = 32,
    seed: int = 0,
    engine: str = "auto",
    device: str | None = None,
    progress: Advance | None = None,
) -> FineTuned:
    """Teach a network the classes of a folder, score it on pictures that it has not seen, and write both down.

    Whatever the method, a probe comes first: the network looks at every picture once, and a linear map from its
    vectors to the classes is fitted. "probe" ends there. "lora" and "full" go on from there with the training loop; see
    `vitrail.training.transfer.tune`. The pictures that are held out are scored in the end, and nothing is chosen by it.

    Args:
        folder: holds a folder of pictures for each class; or the folders "train" and "test" (or "val", "validation")
            which do.
        output: a folder that does not exist yet or holds nothing; it appears whole or not at all.
        model: what `vitrail.load` takes, or a loaded network, which stays as it is.
        method: what is trained.
        validation: the share of each class that is held out; 0.2 unless said.
        test_folder: holds, in the same class folders, the pictures to be scored on; then no others are held out.
        epochs: how often "lora" and "full" look at each picture; 10 unless said.
        lr: their highest learning rate; 1e-3 and 1e-4 unless said.
        batch_size: pictures at once.
        seed: of the split and of everything else that is drawn.
        engine: how the network runs when it looks at the pictures.
        device: where it runs and is trained.
        progress: told what is being done, how much of it is done, and how much there is.

    Raises:
        UsageError: options that make no sense together, an output that is there already, or a folder that is not one of
            class folders with two pictures each (one, with a test folder).
        CheckpointError: the network cannot be loaded.
        VitrailError: a library is missing, or the output cannot be written.
    """
    output = Path(output)
    _check_options(method, validation, test_folder, epochs, lr, batch_size)
    labels, learned, tested = _listed(Path(folder), test_folder)
    _check_output(output, Path(folder))
    network = get_model(model, engine=engine, device=device)
    if method != "probe":
        from vitrail.training.transfer import check_tunable, tune  # which a probe does without

        check_tunable(network, method)
    start = perf_counter()

    learned, vectors, left_out = _looked_at(learned, network, batch_size, "looking", progress)
    targets = _targets(learned)
    _check_counts(targets, labels, 2 if tested is None else 1, folder)
    if tested is None:
        split = "held-out pictures"
        train, test = stratified(targets, 0.2 if validation is None else validation, seed)
        tested, test_vectors = [learned[index] for index in test.tolist()], vectors[test]
        learned, vectors, targets = [learned[index] for index in train.tolist()], vectors[train], targets[train]
    else:
        split = f"pictures of {printable(os.fspath(test_folder or 'the test folder'))}"
        tested, test_vectors, failures = _looked_at(tested, network, batch_size, "looking at the test", progress)
        left_out += failures
    features = perf_counter()

    probe = fit_probe(vectors, targets, len(labels), seed=seed)
    tuned = with_classes(network, labels)
    like = next(tuned.parameters())
    tuned.head.load_state_dict({"weight": probe.weight.to(like), "bias": probe.bias.to(like)})
    logits = _logits(tuned, test_vectors)
    probe_accuracy = None
    if method != "probe":
        probe_accuracy = float((logits.argmax(1) == _targets(tested)).float().mean())
        tuned = tune(
            tuned,
            learned,
            method=method,
            epochs=epochs or 10,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
            advance=progress,
        )
    training = perf_counter()

    if method != "probe":
        tested, test_vectors, _ = _looked_at(tested, tuned, batch_size, "testing", progress)
        logits = _logits(tuned, test_vectors)
    scores, truth = logits.softmax(1), _targets(tested)
    confusion = count_confusions(truth.numpy(), scores.argmax(1).numpy(), len(labels))
    in_five = (scores.topk(min(5, len(labels))).indices == truth[:, None]).any(1)
    frequent = targets.bincount(minlength=len(labels)).argmax()
    result = FineTuned(
        output=output,
        folder=os.fspath(folder),
        model=name_of(network),
        method=method,
        engine=engine_of(network),
        labels=labels,
        trained=len(learned),
        tested=len(tested),
        split=split,
        seed=seed,
        accuracy=Share.of(int(confusion.trace()), len(tested)),
        top_5=Share.of(int(in_five.sum()), len(tested)) if len(labels) > 5 else None,
        guessing=float((truth == frequent).float().mean()),
        probe_accuracy=probe_accuracy,
        strength=probe.strength,
        classes=class_scores(confusion, labels),
        confusion=confusion,
        mistakes=_worst(tested, scores, labels),
        left_out=left_out,
        seconds=Seconds(features - start, training - features, perf_counter() - training),
    )
    _write(result, tuned)
    return result


def _check_options(
    method: str,
    validation: float | None,
    test_folder: str | os.PathLike | None,
    epochs: int | None,
    lr: float | None,
    batch_size: int,
) -> None:
    if method not in get_args(Method):
        raise UsageError(f"the method is {', '.join(get_args(Method)[:-1])} or {get_args(Method)[-1]}, not '{method}'")
    if validation is not None and test_folder is not None:
        raise UsageError("with a test folder no pictures are held out: leave one of the two options out")
    if validation is not None and not 0 < validation < 1:
        raise UsageError(f"the share of pictures to hold out must be between 0 and 1, not {validation}")
    if method == "probe" and (epochs is not None or lr is not None):
        raise UsageError("a probe has neither epochs nor a learning rate: leave them out, or use lora or full")
    if epochs is not None and epochs < 1:
        raise UsageError(f"there must be at least 1 epoch, not {epochs}")
    if lr is not None and not 0 < lr < 1:
        raise UsageError(f"the learning rate must be between 0 and 1, not {lr}")
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")


def _check_output(output: Path, folder: Path) -> None:
    """What would make all the work worth nothing is said before it is done."""
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UsageError(f"{output} is there already: name a folder that does not exist, or an empty one")
        if output.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{output} would be a class folder of {folder}: name a folder outside of it")
        output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(output.parent, os.W_OK):
            raise VitrailError(f"{output} cannot be written: its folder does not allow it")
    except OSError as error:
        raise VitrailError(f"{output} cannot be written ({error.strerror or error})") from None


def _listed(
    folder: Path, test_folder: str | os.PathLike | None
) -> tuple[tuple[str, ...], list[Example], list[Example] | None]:
    """The classes, the pictures to learn from, and those to be tested on if they are apart."""
    if test_folder is None and (folder / "train").is_dir():
        other = next((folder / name for name in _TESTS if (folder / name).is_dir()), None)
        if other:
            folder, test_folder = folder / "train", other
    names = _class_folders(folder)
    if not names:
        loose = folder.is_dir() and any(path.suffix.lower() in PICTURE_ENDINGS for path in folder.iterdir())
        if loose:
            raise UsageError(
                f"{folder} holds pictures but no folders: put those of each class into a folder of its own"
            )
        raise UsageError(f"{folder} holds no folders of pictures, one for each class")
    if len(names) == 1:
        raise UsageError(f"{folder} holds one class only, '{printable(names[0])}': there must be two to tell apart")
    learned = _pictures(folder, names, names)
    for number, name in enumerate(names):
        if not any(target == number for _, target in learned):
            raise UsageError(f"the class '{printable(name)}' has no pictures: {folder / name} holds none")
    if test_folder is None:
        _check_counts(_targets(learned), names, 2, folder)
        return names, learned, None
    others = _class_folders(Path(test_folder))
    if unknown := set(others) - set(names):
        raise UsageError(f"{test_folder} has the class '{printable(min(unknown))}', and {folder} has not")
    tested = _pictures(Path(test_folder), others, names)
    if not tested:
        raise UsageError(f"{test_folder} holds no pictures in folders of the classes of {folder}")
    return names, learned, tested


def _class_folders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    try:
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read ({error.strerror})") from None


def _pictures(folder: Path, names: Sequence[str], labels: Sequence[str]) -> list[Example]:
    """Every picture of these class folders, in all their subfolders."""
    return [
        (input, labels.index(name))
        for name in names
        for input in find_inputs(os.fspath(folder / name))
        if input.error is None
    ]


def _check_counts(targets: Tensor, labels: Sequence[str], least: int, folder: str | os.PathLike) -> None:
    counts = targets.bincount(minlength=len(labels)).tolist()
    for label, count in zip(labels, counts, strict=True):
        if count < least:
            found = {0: "no picture", 1: "one picture"}[count]
            why = ": there must be two, one to learn from and one to be tested on" if least == 2 else ""
            raise UsageError(
                f"the class '{printable(label)}' of {os.fspath(folder)} has {found} that can be opened{why}"
            )


def _looked_at(
    examples: Sequence[Example], network: Model, batch_size: int, doing: str, progress: Advance | None
) -> tuple[list[Example], Tensor, tuple[Failure, ...]]:
    """The pictures that could be opened, the vectors of each, (N, D) float32, and the failures."""
    fine, vectors, failures = [], [], []
    results = embed_each([input for input, _ in examples], network, batch_size=batch_size)
    for number, (example, result) in enumerate(zip(examples, results, strict=True), start=1):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            fine.append(example)
            vectors.append(torch.from_numpy(result.vector))
        if progress:
            progress(doing, number, len(examples))
    if not vectors:
        raise UsageError(f"none of the {len(examples)} pictures can be opened; the first: {failures[0]}")
    return fine, torch.stack(vectors), tuple(failures)


def _targets(examples: Sequence[Example]) -> Tensor:
    """(N,) int64."""
    return torch.tensor([target for _, target in examples])


@torch.inference_mode()
def _logits(network: Model, vectors: Tensor) -> Tensor:
    """What the head says of vectors, (N, classes) float32, on the CPU."""
    return network.head(vectors.to(next(network.parameters()))).float().cpu()


def _worst(examples: Sequence[Example], scores: Tensor, labels: Sequence[str]) -> tuple[Mistake, ...]:
    """The mistakes that the network was surest of."""
    targets = _targets(examples)
    best, said = scores.max(1)
    right = scores.gather(1, targets[:, None])[:, 0]
    surest = (best - right).masked_fill(said == targets, -1).argsort(descending=True)
    wrong = int((said != targets).sum())
    return tuple(
        Mistake(
            examples[index][0].name,
            labels[int(targets[index])],
            labels[int(said[index])],
            float(best[index]),
            float(right[index]),
            _thumbnail(examples[index][0]),
        )
        for index in surest[: min(wrong, SHOWN_MISTAKES)].tolist()
    )


def _thumbnail(input: Input) -> Image.Image | None:
    try:
        opened: Picture = input.open()
    except VitrailError:  # it could be opened a minute ago, and is gone
        return None
    picture = opened.image
    if opened.alpha is not None:
        picture = Image.composite(picture, Image.new("RGB", picture.size, draw.PAPER), opened.alpha)
    picture = picture.copy()
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return picture


def _most_confused(confusion: np.ndarray, labels: Sequence[str], most: int = 8) -> list[tuple[str, str, int, int]]:
    """What was most often taken for what: (is, was taken for, how often, of how many)."""
    wrong = Counter(
        {(row, column): int(confusion[row, column]) for row, column in np.argwhere(confusion) if row != column}
    )
    totals = confusion.sum(1)
    return [(labels[row], labels[column], count, int(totals[row])) for (row, column), count in wrong.most_common(most)]


def _write(result: FineTuned, network: Model) -> None:
    """Network and report, both or neither."""
    page = result.to_html()
    with appearing(result.output) as scratch:
        scratch.mkdir()
        save(network, scratch / MODEL, layout="vitrail")
        (scratch / REPORT).write_text(page, encoding="utf-8")
