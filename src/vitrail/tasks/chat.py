"""`vitrail.chat`: a conversation with a network, about pictures or without."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vitrail.errors import UsageError
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Picture, Source
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.model import Model
from vitrail.tasks.ask import Answer
from vitrail.tasks.models import engine_of, name_of
from vitrail.tasks.talk import (
    check_language,
    checked_question,
    get_talker,
    language_of,
    pictures_read,
    pieces,
    prompt_of,
)
from vitrail.text.decoding import Decoding


class Chat:
    """A conversation, which remembers what was said and shown.

    Each answer is written after the whole conversation. Where that has grown beyond what the network reads, its oldest
    turns are forgotten, with the pictures they showed; but never the picture that was shown last.

    Args:
        model: a network that writes.
        decoding: how its answers are written.
        language: of the answers, "en" or "zh"; that of each question where it is None.
        allow_private: fetch pictures from addresses that are not public, too.

    Attributes:
        model: the network.
        turns: what was said and is remembered.
        forgotten: how many turns are not, since the conversation began.
    """

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding | None = None,
        *,
        language: str | None = None,
        allow_private: bool = False,
    ) -> None:
        check_language(language)
        self.model = model
        self.decoding = decoding or Decoding()
        self.language = language
        self.allow_private = allow_private
        self.reset()

    def reset(self) -> None:
        """Forget everything, pictures too."""
        self.turns: tuple[Turn, ...] = ()
        self.forgotten = 0
        self._shown: tuple[tuple[Input, Picture], ...] = ()

    @property
    def pictures(self) -> tuple[str, ...]:
        """The names of the pictures that are remembered."""
        return tuple(input.name for input, _ in self._shown)

    def show(self, images: Source | Sequence[Source]) -> None:
        """Show a picture, or several, before what is said next.

        Raises:
            UsageError: the network does not read so many.
            ImageError: one cannot be opened; then none is shown.
        """
        inputs = find_inputs(images)
        shown = (*self._shown, *((input, input.open(self.allow_private)) for input in inputs))
        most = self.model.most_pictures
        if most is not None and len(shown) > most:
            hint = ": /reset first" if self._shown else ""
            raise UsageError(
                f"'{name_of(self.model)}' reads {pictures_read(most)} in a conversation, and not {len(shown)}{hint}"
            )
        self._shown = shown

    def say(self, text: str) -> Answer:
        """Say something and have the answer.

        Raises:
            UsageError: it is empty, or too long by itself; or the network does not converse, or needs a picture.
        """
        answer = "".join(self.stream(text))
        source = self._shown[-1][0] if self._shown else None
        names = ", ".join(self.pictures)
        asked = checked_question(text)
        return Answer(
            names, name_of(self.model), engine_of(self.model), asked, answer, self._language_of(asked), source
        )

    def stream(self, text: str) -> Iterator[str]:
        """Say something and have the answer piece by piece, as it is written.

        An answer that is not read to its end is remembered as far as it was read; one without a word is not, nor is
        what it was to.

        Raises:
            UsageError: as `say`; at once, not with the first piece.
        """
        text = checked_question(text)
        remembered = sum(turn.pictures for turn in self.turns)
        turns = (*self.turns, Turn(text, len(self._shown) - remembered))
        turns, shown, prompt = self._fitting(turns, self._language_of(text))
        writing = pieces(self.model, prompt, self.decoding)
        self.forgotten += len(self.turns) + 1 - len(turns)
        self.turns, self._shown = turns[:-1], shown
        return self._told(turns[-1], writing)

    def _told(self, asked: Turn, writing: Iterator[str]) -> Iterator[str]:
        said = ""
        try:
            for piece in writing:
                said += piece
                yield piece
        finally:  # whether it came to its end, was interrupted or left
            if said:
                self.turns = (*self.turns, asked, Turn(said, by="model"))

    def _language_of(self, text: str) -> str:
        return self.language or language_of(text)

    def _fitting(
        self, turns: tuple[Turn, ...], language: str
    ) -> tuple[tuple[Turn, ...], tuple[tuple[Input, Picture], ...], Prompt]:
        """As many of the latest turns as the network reads, what they show, and the prompt they make.

        Raises:
            UsageError: not even the last one.
        """
        shown = self._shown
        while True:
            try:
                prompt = prompt_of(self.model, turns, [picture for _, picture in shown], language)
                if prompt.ids.shape[1] >= self.model.context:
                    raise UsageError(
                        f"what was said takes {prompt.ids.shape[1]} tokens and leaves no room to answer: "
                        f"'{name_of(self.model)}' reads {self.model.context}"
                    )
                return turns, shown, prompt
            except UsageError:  # where the conversation is too long, and nothing else, a shorter one mends it
                if len(turns) == 1:
                    raise
            gone, turns = turns[0].pictures, turns[2:]
            if gone and gone == len(shown):
                gone, turns = gone - 1, (replace(turns[0], pictures=1), *turns[1:])
            shown = shown[gone:]


def chat(
    pictures: Source | Sequence[Source] = (),
    *,
    language: str | None = None,
    max_new_tokens: int = 256,
    num_beams: int = 1,
    temperature: float | None = None,
    seed: int | None = None,
    model: str | os.PathLike | Model | None = None,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> Chat:
    """Begin a conversation: `chat("cat.jpg").say("What is this?").text`.

    Args:
        pictures: what is shown before the first thing said: what `vitrail.caption` takes.
        language: of the answers, "en" or "zh"; that of each question unless said.
        max_new_tokens: the most tokens an answer has.
        num_beams: above 1 to search for the likeliest answer among so many; it then comes in one piece.
        temperature: above 0 to draw tokens by their probability instead of taking the likeliest.
        seed: of what is drawn for each answer.
        model: what `vitrail.load` takes, or a loaded network; emoji/talk-nano unless said, which knows scenes of emoji
            and no photographs.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: a number is out of its range; the network does not write, or does not read so many pictures.
        CheckpointError: the network cannot be loaded.
        ImageError: a picture cannot be opened.
    """
    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    check_language(language)
    network = get_talker(model, engine=engine, device=device)
    conversation = Chat(network, decoding, language=language, allow_private=allow_private)
    conversation.show(pictures)
    return conversation
