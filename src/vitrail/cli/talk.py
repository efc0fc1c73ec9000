"""The verbs that talk: caption, ask, chat."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli import options
from vitrail.cli.door import fail
from vitrail.cli.report import Report, print_json
from vitrail.errors import UsageError, VitrailError

if TYPE_CHECKING:
    from vitrail.tasks.chat import Chat

OptionalInputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Pictures: files, folders, patterns, URLs, or - for standard input."),
]


def caption(
    inputs: options.Inputs,
    language: options.Language = None,
    max_new_tokens: options.MaxNewTokens = 64,
    num_beams: options.NumBeams = 1,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    model: options.TalkerName = None,
    batch_size: options.BatchSize = 8,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Describe pictures, a sentence each.

    The network in the box knows scenes of emoji, and not photographs.
    """
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.caption import caption_each
    from vitrail.tasks.talk import check_language, get_talker
    from vitrail.text.decoding import Decoding

    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    check_language(language)
    network = get_talker(model, engine=engine, device=device)
    found = find_inputs(inputs)
    results = caption_each(
        found, network, decoding, language=language or "en", batch_size=batch_size, allow_private=allow_private
    )
    raise typer.Exit(Report(len(found), as_json=as_json).show(results))


def ask(
    inputs: OptionalInputs = None,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about each of them.")] = "",
    examples: Annotated[
        list[str] | None,
        typer.Option(
            "--example",
            metavar="PICTURE QUESTION ANSWER",
            help="What kind of answer is wanted; may be repeated. For networks that read several pictures.",
        ),
    ] = None,
    examples_file: Annotated[
        Path | None,
        typer.Option(
            "--examples",
            metavar="FILE",
            help="The same from a .csv or .jsonl file with picture, question and answer; paths are from its folder.",
        ),
    ] = None,
    language: options.Language = None,
    max_new_tokens: options.MaxNewTokens = 64,
    num_beams: options.NumBeams = 1,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    model: options.TalkerName = None,
    batch_size: options.BatchSize = 8,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Ask the same question about each picture."""
    from vitrail.imaging.inputs import find_inputs
    from vitrail.imaging.open import is_url
    from vitrail.tasks.ask import Asking, ask_each, read_examples
    from vitrail.tasks.talk import get_talker
    from vitrail.text.decoding import Decoding

    if not inputs and (os.path.exists(question) or is_url(question)):
        raise UsageError(f"there is no question about {question}: it stands behind the pictures")
    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    given = read_examples(examples_file) if examples_file is not None else []
    parts = iter(examples or ())
    given += zip(parts, parts, parts, strict=True)
    asked = Asking.of(question, given, language, allow_private=allow_private)
    network = get_talker(model, engine=engine, device=device)
    if not inputs:
        answer = asked.answer(network, decoding)
        if as_json:
            print_json(answer.to_dict())
        else:
            print(answer)
        return
    found = find_inputs(inputs)
    results = ask_each(found, network, asked, decoding, batch_size=batch_size, allow_private=allow_private)
    raise typer.Exit(Report(len(found), as_json=as_json).show(results))


def chat(
    inputs: OptionalInputs = None,
    language: options.Language = None,
    max_new_tokens: options.MaxNewTokens = 256,
    num_beams: options.NumBeams = 1,
    temperature: options.Temperature = None,
    seed: options.Seed = None,
    model: options.TalkerName = None,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Talk about pictures, turn by turn.

    What is typed is said, but for /picture PATH, which shows another picture, /reset, which forgets all, and /quit.
    Without a terminal, each line of standard input is a turn.
    """
    from vitrail.tasks.chat import Chat
    from vitrail.tasks.talk import check_language, get_talker
    from vitrail.text.decoding import Decoding

    if inputs and "-" in inputs:
        raise UsageError("standard input is what is said in a chat: a picture cannot come from there")
    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    check_language(language)
    network = get_talker(model, engine=engine, device=device)
    conversation = Chat(network, decoding, language=language, allow_private=allow_private)
    conversation.show(inputs or [])
    talking = Talking(conversation, as_json=as_json, on_terminal=sys.stdin is not None and sys.stdin.isatty())
    raise typer.Exit(talking.go_on())


class Talking:
    """A conversation on a terminal, or read from standard input line by line.

    Args:
        chat: the conversation.
        as_json: one object a turn, and nothing as it comes.
        on_terminal: somebody types.
    """

    def __init__(self, chat: "Chat", *, as_json: bool, on_terminal: bool) -> None:
        self.chat = chat
        self.as_json = as_json
        self.on_terminal = on_terminal
        self.failed = 0

    def go_on(self) -> int:
        """Until there is nothing more to say; gives the exit code back, 1 where a turn of a script failed."""
        for line in self._typed() if self.on_terminal else lines():
            if line == "/quit":
                break
            try:
                self._take(line)
            except VitrailError as error:
                self.failed += 1
                fail(str(error))
                if self.as_json:
                    print_json({"question": line, "error": str(error)})
        return 1 if self.failed and not self.on_terminal else 0

    def _take(self, line: str) -> None:
        """One line that was said."""
        command, _, rest = line.partition(" ")
        if line == "/reset":
            self.chat.reset()
        elif command == "/picture" and rest.strip():
            self.chat.show([os.path.expanduser(rest.strip())])
        elif line.startswith("/") and not os.path.exists(line):
            raise UsageError(f"there is no {command} here: /picture PATH, /reset or /quit")
        elif self.as_json:
            before = self.chat.forgotten
            answer = self.chat.say(line)
            self._note(before)
            print_json(answer.to_dict())
        else:
            self._answer(line)

    def _answer(self, line: str) -> None:
        """Print the answer as it comes. On a terminal Ctrl-C stops it, and the conversation goes on."""
        before = self.chat.forgotten
        pieces = self.chat.stream(line)
        self._note(before)
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            if not self.on_terminal:
                raise
            print(" …", end="")
        print(flush=True)

    def _note(self, before: int) -> None:
        if count := self.chat.forgotten - before:
            print(
                f"Note: the network cannot read all of the conversation: its oldest {count} turns are forgotten",
                file=sys.stderr,
            )

    def _typed(self) -> Iterator[str]:
        """What somebody types. Ctrl-C begins the line anew, Ctrl-D ends it all."""
        with contextlib.suppress(ImportError):  # Windows has none, and its terminal keeps a history itself
            import readline  # noqa: F401  # `input` then has a history, and keys to go back and forth in it
        from vitrail.tasks.models import engine_of, name_of

        print(
            f"{name_of(self.chat.model)}, {engine_of(self.chat.model)}. /picture PATH shows a picture, /reset forgets "
            "all, /quit or Ctrl-D leaves; Ctrl-C stops an answer.",
            file=sys.stderr,
        )
        while True:
            try:
                line = input("> ").strip()
            except KeyboardInterrupt:
                print()
                continue
            except EOFError:
                print()
                return
            if line:
                yield line


def lines() -> Iterator[str]:
    """The lines of standard input that are not empty."""
    if sys.stdin is None:
        raise VitrailError("standard input is closed: there is nothing to read")
    try:
        yield from filter(None, map(str.strip, sys.stdin))
    except UnicodeDecodeError:
        raise VitrailError("standard input is no text in UTF-8") from None
