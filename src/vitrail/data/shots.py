"""Learning from examples: a few pictures with a question and its answer each, and then one more, to be answered."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.scenes import Question, Scene, Scenes
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.questions import KINDS
from vitrail.data.source import Asked, Batch, Data, Talk, Talks
from vitrail.data.talk import TalkSection, corpus, majorities, pictures, worded
from vitrail.errors import UsageError
from vitrail.models.language_model import Turn

_SURVEYED = 200  # scenes that show which kinds of question can be asked of them
_TRIES = 200  # scenes that are looked at for one of which a question of some kind can be asked

Shot = tuple[Scene, Question]


class ShotsSection(TalkSection):
    """Rows of pictures, each with a question of the same kind and its answer. Alayrac et al. 2022 (2204.14198), §2.3.

    Tested on kinds of questions that training never asks, with more and more examples before the one that counts, and
    with none; the examples of a test are of training's combinations, the one that counts is of those never shown.

    Attributes:
        hold_out: the kinds of question that are tested on, and asked in no other place.
        shots: the fewest and the most examples before the last question in training.
        test_shots: how many there are in the tests.
        symbols: the share of training's rows in which each answer is called by the name of something that has nothing
            to do with it, the same all along the row, so that it can be learned from the examples alone: symbol tuning,
            Wei et al. 2023 (2305.08298), §2. Only where the last answer was given before.
    """

    source: Literal["shots"]  # type: ignore[assignment]
    hold_out: Annotated[tuple[str, ...], Field(min_length=1)] = ("which side",)
    shots: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 4)
    symbols: Annotated[float, Field(ge=0, le=1)] = 0.0
    test_shots: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 4, 8)

    def open(self, size: tuple[int, int]) -> Data:
        """Make the scenes ready, of `size` = (height, width), which must be square."""
        if unknown := set(self.hold_out) - set(KINDS):
            raise UsageError(f"data.hold_out names '{min(unknown)}', and questions are of {', '.join(KINDS)}")
        if self.shots[0] > self.shots[1]:
            raise UsageError(f"data.shots goes from the fewest to the most examples, not from {self.shots[0]}")
        train, test = self.scenes(size)
        rows = Examples(train, test, self)
        common = majorities(train, self.languages)
        tests = [
            Asked(
                rows.talk(rows.test_row(number, kind, shots), language, answered=False),
                f"{kind} {shots} shots",
                (worded(question, language)[1].text,),
                common.get((kind, language), ""),
            )
            for kind, shots, language, number, question in rows.tests
        ]
        return Data(
            train=rows,
            test=TestRows(rows),
            labels=(),
            many=False,
            split=f"unseen kinds of question: {', '.join(self.hold_out)}",
            talks=Talks(lambda: corpus(train, self.languages), self.vocabulary, tests),
        )


class Examples:
    """Rows to train on; and what those of the test are made of.

    Args:
        train, test: the pictures.
        section: the rest.

    Attributes:
        names: what answers may be called instead, by language.
        tests: kind, number of examples, language, number of the scene, and the question of each test, the fewest
            examples first.
    """

    def __init__(self, train: Scenes, test: Scenes, section: ShotsSection) -> None:
        self.train, self.section = train, section
        asked = {one.kind for number in range(min(_SURVEYED, len(train))) for one in train[number].questions}
        self.kinds = [kind for kind in KINDS if kind in asked and kind not in section.hold_out]
        scenes = [test[number] for number in range(len(test))]
        self.tests = [
            (kind, shots, language, number, question)
            for shots in sorted(section.test_shots)
            for kind in section.hold_out
            for number, scene in enumerate(scenes)
            for question in scene.questions
            if question.kind == kind
            for language in section.languages
        ]
        self.scenes = scenes
        self._drawn: dict[tuple[int, str], list[Shot]] = {}
        concepts = [one.concept for number in range(min(_SURVEYED, len(train))) for one in train[number].objects]
        self.names = {
            "en": list(dict.fromkeys(concept.name_en for concept in concepts)),
            "zh": list(dict.fromkeys(concept.name_zh for concept in concepts)),
        }

    def __len__(self) -> int:
        return len(self.train)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; all rows of a batch have as many examples. Everything is drawn anew at each look."""
        seed = 0 if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
        dice = Dice(seed, 0, 0)
        shots = dice.integer(*self.section.shots)
        rows, talks = [], []
        for _ in indices:
            row = self.row(dice.pick(self.kinds), 1 + shots, dice)
            language = dice.pick(self.section.languages)
            rows.append([scene for scene, _ in row])
            talks.append([self.renamed(self.talk(row, language, answered=True), dice)])
        return row_batch(rows, talks, indices, self.section.blind)

    def renamed(self, talk: Talk, dice: Dice) -> Talk:
        """A row as it is, or with other names for its answers."""
        answers = [turn.text for turn in talk.turns if turn.by == "model"]
        if not dice.chance(self.section.symbols) or answers[-1] not in answers[:-1]:
            return talk
        names = dice.shuffled(self.names[talk.language])
        symbols = dict(zip(dict.fromkeys(answers), names, strict=False))
        turns = (replace(turn, text=symbols[turn.text]) if turn.by == "model" else turn for turn in talk.turns)
        return Talk(tuple(turns), talk.language)

    def row(self, kind: str, count: int, dice: Dice) -> list[Shot]:
        """So many training scenes, each with its question of a kind."""
        shots: list[Shot] = []
        for _ in range(_TRIES * count):
            scene = self.train[dice.integer(0, len(self.train) - 1)]
            shots += [(scene, question) for question in scene.questions if question.kind == kind]
            if len(shots) == count:
                return shots
        raise UsageError(f"questions of the kind '{kind}' cannot be asked of these scenes")

    def test_row(self, number: int, kind: str, shots: int) -> list[Shot]:
        """The examples of a test, which are the first of a longer list for more of them, and what is asked at last."""
        asked = next(question for question in self.scenes[number].questions if question.kind == kind)
        return [*self._examples(number, kind, shots), (self.scenes[number], asked)]

    def _examples(self, number: int, kind: str, shots: int) -> list[Shot]:
        """The first examples for a test, drawn once for as many as any test has."""
        if (number, kind) not in self._drawn:
            most = max(self.section.test_shots)
            self._drawn[number, kind] = self.row(kind, most, Dice(1, number, KINDS.index(kind))) if most else []
        return self._drawn[number, kind][:shots]

    def talk(self, row: Sequence[Shot], language: str, *, answered: bool) -> Talk:
        """A row in words, with or without its last answer."""
        turns: list[Turn] = [turn for _, question in row for turn in worded(question, language)]
        return Talk(tuple(turns if answered else turns[:-1]), language)


class TestRows:
    """Rows to test on.

    Args:
        examples: what they are made of.
    """

    __test__ = False  # pytest takes its name for a test's

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples.tests)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look."""
        examples, rows, talks = self.examples, [], []
        for index in indices.tolist():
            kind, shots, language, number, _ = examples.tests[index]
            row = examples.test_row(number, kind, shots)
            rows.append([scene for scene, _ in row])
            talks.append([examples.talk(row, language, answered=False)])
        return row_batch(rows, talks, indices, examples.section.blind)


def row_batch(rows: Sequence[Sequence[Scene]], talks: list[list[Talk]], indices: Tensor, blind: bool) -> Batch:
    """A batch of rows of scenes; a row with fewer is filled up with its first, which no text shows again."""
    most = max(map(len, rows))
    every = [pictures([*row, *([row[0]] * (most - len(row)))], blind) for row in rows]
    return {
        "images": torch.stack(every),
        "shown": torch.stack([images[len(row) - 1] for images, row in zip(every, rows, strict=True)]),
        "targets": indices,
        "talks": talks,
    }
