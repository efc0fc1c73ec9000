"""`vitrail.ask`: a question about a picture, and the answer a network writes; with examples to go by, if it can."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vitrail.errors import UsageError, VitrailError
from vitrail.imaging import draw
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Picture, Source, is_url, open_picture, printable
from vitrail.models.language_model import LanguageModel, Turn
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, one_or_all
from vitrail.tasks.models import engine_of, name_of
from vitrail.tasks.talk import (
    Request,
    check_language,
    checked_question,
    get_talker,
    language_of,
    prompt_of,
    write_each,
    written,
)
from vitrail.text.decoding import Decoding

Example = tuple[Source, str, str]
"""A picture, a question about it, and the answer that is wanted."""

FEW_SHOT = "HuggingFaceM4/idefics-9b-instruct"
"""A published network that learns from examples in the prompt, for sentences that ask for one."""

_FIELDS = ("picture", "question", "answer")


@dataclass(frozen=True)
class Answer:
    """What a network answered.

    Attributes:
        input: what the user would recognise the picture by; "" where there was none. A conversation's pictures are
            joined by commas.
        model: the network's name.
        engine: how it ran.
        question: as it was asked.
        text: the answer.
        language: "en" or "zh".
        source: where the picture is, for `draw`; None where there was none.
    """

    input: str
    model: str
    engine: str
    question: str
    text: str
    language: str
    source: Input | None = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "model": …, "engine": …, "language": …, "question": …, "text": …}."""
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            "language": self.language,
            "question": self.question,
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"{printable(self.input)}\n  {self.text}" if self.input else self.text

    def draw(self, *, allow_private: bool = False) -> Image.Image:
        """The picture, opened again, with the question and the answer below, RGB.

        Raises:
            ImageError: the picture cannot be opened any more.
            VitrailError: there is no picture.
        """
        if self.source is None:
            raise VitrailError("there is no picture to draw: the question was asked without one")
        return draw.sheet([self.source.open(allow_private).image], [f"{self.question}\n{self.text}"], cell=480)


def ask(
    images: Any,
    question: str,
    *,
    examples: Sequence[Example] = (),
    language: str | None = None,
    max_new_tokens: int = 64,
    num_beams: int = 1,
    temperature: float | None = None,
    seed: int | None = None,
    model: str | Model | None = None,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> "Answer | list[Answer | Failure]":
    """Ask a question about a picture, or the same about each of many.

    Args:
        images: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg"). None for a question without a
            picture, to a network that takes one.
        question: what is asked.
        examples: (picture, question, answer), read before the question by a network that reads several pictures: what
            kind of answer is wanted (few-shot; Alayrac et al. 2022, 2204.14198, §2.4).
        language: "en" or "zh"; that of the question unless said.
        max_new_tokens: the most tokens an answer has.
        num_beams: above 1 to search for the likeliest answer among so many.
        temperature: above 0 to draw tokens by their probability instead of taking the likeliest.
        seed: of what is drawn; a batch shares it.
        model: what `vitrail.load` takes, or a loaded network; emoji/talk-nano unless said, which knows scenes of emoji
            and no photographs.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Answer; for many a list, with a Failure in the place of each that could not be done.

    Raises:
        UsageError: the question is empty or too long; a number is out of its range; the network does not write, does
            not answer, reads one picture and is given examples, or is given no picture and needs one.
        CheckpointError: the network cannot be loaded.
        ImageError: the one picture, or one of the examples, cannot be opened.
    """
    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    asked = Asking.of(question, examples, language, allow_private=allow_private)
    network = get_talker(model, engine=engine, device=device)
    if images is None:
        return asked.answer(network, decoding)
    inputs = find_inputs(images)
    results = ask_each(inputs, network, asked, decoding, batch_size=batch_size, allow_private=allow_private)
    return one_or_all(images, inputs, results)


@dataclass(frozen=True)
class Asking:
    """A question that makes sense, with its examples.

    Attributes:
        question: what is asked.
        language: of the answer.
        turns: the examples, as what was said before.
        pictures: theirs.
    """

    question: str
    language: str
    turns: tuple[Turn, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @classmethod
    def of(
        cls,
        question: str,
        examples: Sequence[Example] = (),
        language: str | None = None,
        *,
        allow_private: bool = False,
    ) -> "Asking":
        """What a user asked, checked.

        Raises:
            UsageError: the question is empty, an example says nothing or is no triple, or there is no such language.
            ImageError: the picture of an example cannot be opened.
        """
        check_language(language)
        question = checked_question(question)
        turns: list[Turn] = []
        pictures = []
        for example in examples:
            if isinstance(example, str) or len(example) != len(_FIELDS):
                raise UsageError("an example is a picture, a question and an answer")
            picture, asked, answered = example
            asked, answered = str(asked).strip(), str(answered).strip()
            if not asked or not answered:
                raise UsageError("an example's question or answer is empty")
            turns += [Turn(asked, 1), Turn(answered, by="model")]
            pictures.append(open_picture(picture, allow_private=allow_private))
        return cls(question, language or language_of(question), tuple(turns), tuple(pictures))

    def request(self, model: LanguageModel, decoding: Decoding) -> Request:
        """What the network is to write, about a picture.

        Raises:
            UsageError: there are examples, and the network reads one picture.
        """
        if self.pictures and model.most_pictures == 1:
            raise UsageError(
                f"'{name_of(model)}' reads one picture and learns from no examples: "
                f"use a network that reads several, as in --model {FEW_SHOT}"
            )
        turns = (*self.turns, Turn(self.question, 1))
        return Request(turns, self.pictures, self.language, decoding)

    def answer(self, model: LanguageModel, decoding: Decoding) -> Answer:
        """The answer to a question without a picture.

        Raises:
            UsageError: the network needs a picture.
        """
        turns = (*self.turns, Turn(self.question))
        prompt = prompt_of(model, turns, self.pictures, self.language)
        (text,) = written(model, [prompt], decoding)
        return Answer("", name_of(model), engine_of(model), self.question, text, self.language, None)


def ask_each(
    inputs: Sequence[Input],
    model: LanguageModel,
    asked: Asking,
    decoding: Decoding | None = None,
    *,
    batch_size: int = 8,
    allow_private: bool = False,
) -> Iterator[Answer | Failure]:
    """`ask` for a stream: each input's result as soon as it is there, in order, however many there are.

    Raises:
        UsageError: `batch_size` below 1; or the network does not answer, or not such a question.
    """
    request = asked.request(model, decoding or Decoding())
    results = write_each(inputs, model, request, batch_size=batch_size, allow_private=allow_private)
    name, engine = name_of(model), engine_of(model)
    return (
        result
        if isinstance(result, Failure)
        else Answer(input.name, name, engine, asked.question, result, asked.language, input)
        for input, result in results
    )


def read_examples(path: str | os.PathLike) -> list[Example]:
    """Examples from a file in UTF-8 whose columns are "picture", "question" and "answer".

    Args:
        path: a .csv file with a first line that names the columns, or a .jsonl file with one object a line. Pictures
            are URLs, or paths from the file's folder.

    Raises:
        UsageError: it has another ending, holds no examples, or one that lacks something.
        VitrailError: it cannot be read.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise UsageError(f"examples come in a file that ends in {' or '.join(readers)}, not {printable(str(path))}")
    try:
        rows = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise VitrailError(f"the examples in {path} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise VitrailError(f"the examples in {path} cannot be read: it is no text in UTF-8") from None
    except (json.JSONDecodeError, csv.Error) as error:
        raise VitrailError(f"the examples in {path} cannot be read ({error})") from None
    examples: list[Example] = []
    for number, row in enumerate(rows, start=1):
        said = [row.get(name) for name in _FIELDS] if isinstance(row, dict) else [None]
        if not all(isinstance(one, str) and one.strip() for one in said):
            raise UsageError(f"example {number} in {path} lacks one of {', '.join(_FIELDS)}")
        picture, question, answer = map(str, said)
        examples.append((picture if is_url(picture) else path.parent / picture, question, answer))
    if not examples:
        raise UsageError(f"there are no examples in {path}")
    return examples


def _csv_rows(text: str) -> list[Any]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _json_rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]
