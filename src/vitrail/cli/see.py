"""The verbs that see: classify, embed, analyze."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.cli import options
from vitrail.cli.report import Report, settled

if TYPE_CHECKING:
    from vitrail.tasks.analyze import Analysis
    from vitrail.tasks.batches import Failure


def classify(
    inputs: options.Inputs,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    templates: options.Templates = None,
    model: options.ModelName = None,
    architecture: options.Architecture = None,
    top: options.Top = 5,
    batch_size: options.BatchSize = 8,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Name what is in pictures: by a network's own classes, or by labels in words."""
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.classify import classify_each
    from vitrail.tasks.models import get_model
    from vitrail.tasks.zero_shot import get_image_text

    words = options.words(labels, labels_file, templates)
    get = get_model if words is None else get_image_text
    network = get(model, engine=engine, device=device, architecture=architecture)
    found = find_inputs(inputs)
    settled(network, found, batch_size)
    results = classify_each(found, network, words, top=top, batch_size=batch_size, allow_private=allow_private)
    raise typer.Exit(Report(len(found), as_json=as_json).show(results))


def embed(
    inputs: options.Inputs,
    model: options.ModelName = None,
    architecture: options.Architecture = None,
    batch_size: options.BatchSize = 8,
    engine: options.Engine = "auto",
    device: options.Device = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .npy file (names go beside it) or a .parquet file; replaced if it exists."
        ),
    ] = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Turn pictures into vectors: alike pictures, near vectors."""
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.embed import embed_each
    from vitrail.tasks.models import get_model
    from vitrail.tasks.vectors import save_vectors, vector_writer

    if output is not None:
        vector_writer(output)  # a wrong ending is said before any work is done
    network = get_model(model, engine=engine, device=device, architecture=architecture)
    found = find_inputs(inputs)
    settled(network, found, batch_size)
    results = embed_each(found, network, batch_size=batch_size, allow_private=allow_private)
    report = Report(len(found), as_json=as_json, silent=output is not None)
    if output is None:
        raise typer.Exit(report.show(results))
    written = save_vectors(report.follow(results), output)
    if not as_json:
        print(f"{output}: {written} vector{'s' if written != 1 else ''}")
    raise typer.Exit(report.exit_code)


def analyze(
    inputs: options.Inputs,
    labels: options.Labels = None,
    labels_file: options.LabelsFile = None,
    templates: options.Templates = None,
    phrases: options.Phrases = None,
    questions: options.Questions = None,
    model: options.ModelName = None,
    talker: options.Talker = None,
    language: options.Language = None,
    architecture: options.Architecture = None,
    top: options.Top = 5,
    engine: options.Engine = "auto",
    device: options.Device = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="For one picture a .html file, otherwise a folder.  [default: cat.report.html beside cat.jpg]",
        ),
    ] = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Write an illustrated report on each picture, beside it."""
    from vitrail.errors import UsageError
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.analyze import Question, analyze_each, get_networks

    question = Question(top, options.words(labels, labels_file, templates), tuple(phrases or ()))
    network, talk = get_networks(
        question, model, talker, questions or (), language, engine=engine, device=device, architecture=architecture
    )
    found = find_inputs(inputs)
    if output is not None and output.suffix == ".html" and len(found) > 1:
        raise UsageError(f"{len(found)} reports do not go into one file, {output}: name a folder")
    results = _reported(analyze_each(found, network, question, talk, allow_private=allow_private), output)
    raise typer.Exit(Report(len(found), as_json=as_json).show(results))


@dataclass(frozen=True)
class Reported:
    """A picture that was analysed, and where its report is."""

    analysis: "Analysis"
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """The analysis's, with "report" for the path."""
        return {**self.analysis.to_dict(), "report": str(self.path)}

    def __str__(self) -> str:
        return f"{self.analysis}\n  report: {self.path}"


def _reported(analyses: "Iterator[Analysis | Failure]", output: Path | None) -> "Iterator[Reported | Failure]":
    """Write each report; one that cannot be written is a failure in its place."""
    from vitrail.errors import VitrailError
    from vitrail.tasks.batches import Failure

    written: set[Path] = set()
    for analysis in analyses:
        if isinstance(analysis, Failure):
            yield analysis
            continue
        try:
            path = analysis.save(_report_path(analysis.input, output, written))
        except VitrailError as error:
            yield Failure(analysis.input, str(error), error)
            continue
        written.add(path)
        yield Reported(analysis, path)


def _report_path(name: str, output: Path | None, written: set[Path]) -> Path:
    """Where a report goes: no two pictures of one run share a file, be their names alike but for ending or folder."""
    from vitrail.tasks.analyze import report_path

    if output is not None and output.suffix == ".html":
        return output
    first = report_path(name) if output is None else output / report_path(name).name
    stem = first.name.removesuffix(".report.html")
    path, number = first, 2
    while path in written:
        path, number = first.with_name(f"{stem}-{number}.report.html"), number + 1
    return path
