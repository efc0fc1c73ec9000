"""Scenes with questions about them and the answers, in English and in Chinese, as a source of training data."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji.load import load_glyphs
from vitrail.data.emoji_sources import Count, check_groups, check_subgroups, training_styles
from vitrail.data.generated import MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes import Scenes
from vitrail.data.scenes.questions import KINDS
from vitrail.data.source import Batch, Data, Quiz
from vitrail.data.texts import LANGUAGES, Language
from vitrail.errors import UsageError
from vitrail.settings import Section

NOT_ASKED, UNKNOWN = -1, -2
"""In the place of an answer's number: there is no such question about the picture; training has no such answer."""

_SURVEY = 5_000  # scenes of training whose questions decide which answers there are
_GREY = 128


class AnswersSection(Section):
    """Scenes of several glyphs, with questions and answers: choose the answer among those that training gives.

    Training shows no held-out combination, and every test picture shows one (`vitrail.data.scenes.combinations`).

    Attributes:
        styles: the art styles that scenes are made of; null for all.
        groups, subgroups: the broad and the narrow kinds of concepts that take part ("food-drink", "food-fruit"); null
            for all.
        length: how many scenes there are to train on.
        test_length: how many others to test on.
        count: the fewest and the most objects in a scene.
        languages: of the questions, each as often; an answer is in its question's.
        blind: every picture is grey, in training and in the test: what can be known without looking.
        vocabulary: how many different tokens the tokenizer may have that is trained from the questions.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["answers"]
    styles: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    subgroups: tuple[str, ...] | None = None
    length: Count = 1_000_000
    test_length: Count = 1_000
    count: tuple[Count, Count] = (1, 4)
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = LANGUAGES
    blind: bool = False
    vocabulary: Annotated[int, Field(ge=300)] = 1024
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Make the scenes ready, of `size` = (height, width), which must be square, and see which answers there are."""
        if size[0] != size[1]:
            raise UsageError(f"scenes are square, and the pictures are {size}")
        table = self.table(size)
        train = Scenes(table, length=self.length, size=size[0], count=self.count, split="train")
        test = Scenes(table, length=self.test_length, size=size[0], count=self.count, split="test")
        columns = tuple((kind, language) for kind in KINDS for language in self.languages)
        surveyed = [question for number in range(min(_SURVEY, self.length)) for question in train[number].questions]
        counts: dict[tuple[str, str], Counter[str]] = {column: Counter() for column in columns}
        for question in surveyed:
            for language in self.languages:
                counts[question.kind, language][question.wording(language).answer] += 1
        labels = tuple(sorted({answer for counted in counts.values() for answer in counted}))
        numbers = {answer: number for number, answer in enumerate(labels)}
        commonest = [counted.most_common(1) for counted in counts.values()]
        return Data(
            train=Answers(train, columns, numbers, self.blind),
            test=Answers(test, columns, numbers, self.blind),
            labels=labels,
            many=False,
            split="unseen combination, pictures hidden" if self.blind else "unseen combination",
            quiz=Quiz(
                corpus=lambda: (one.wording(language).question for one in surveyed for language in self.languages),
                vocabulary=self.vocabulary,
                columns=columns,
                majority=tuple(numbers[first[0][0]] if first else NOT_ASKED for first in commonest),
            ),
        )

    def table(self, size: tuple[int, int]) -> GlyphTable:
        """The glyphs that scenes are made of."""
        table = generate_glyphs(self.generated, size=size[0]) if self.generated else load_glyphs()
        styles = training_styles(table, None, self.styles)
        check_groups(table, self.groups)
        check_subgroups(table, self.subgroups)
        wanted = self.subgroups
        codes = [code for code, concept in table.concepts.items() if wanted is None or concept.subgroup in wanted]
        table = table.select(styles=styles, concepts=codes, groups=self.groups, skin_tones=["none"])
        if not len(table):
            raise UsageError("data: there are no glyphs of these styles and concepts")
        return table


class Answers:
    """Scenes as pictures with questions, and the numbers of their answers.

    Args:
        scenes: the pictures.
        columns: the kinds of questions that there are, each with a language.
        numbers: those of the answers.
        blind: whether the pictures are grey.
    """

    def __init__(
        self, scenes: Scenes, columns: tuple[tuple[str, str], ...], numbers: Mapping[str, int], blind: bool
    ) -> None:
        self.scenes, self.columns, self.numbers, self.blind = scenes, columns, numbers, blind
        self.languages = tuple(dict.fromkeys(language for _, language in columns))

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`. All questions of a scene are asked: in a test in each language, else in one, drawn anew."""
        drawn = None
        if generator is not None:
            drawn = torch.randint(len(self.languages), (len(indices), len(KINDS)), generator=generator).tolist()
        targets = torch.full((len(indices), len(self.columns)), NOT_ASKED)
        size = self.scenes.size
        images = torch.full((len(indices), 3, size, size), _GREY, dtype=torch.uint8)
        texts = [""] * targets.numel()
        for row, index in enumerate(indices.tolist()):
            scene = self.scenes[index]
            if not self.blind:
                images[row] = torch.from_numpy(scene.picture).permute(2, 0, 1)
            for question in scene.questions:
                only = drawn and self.languages[drawn[row][KINDS.index(question.kind)]]
                for language in (only,) if only else self.languages:
                    column, said = self.columns.index((question.kind, language)), question.wording(language)
                    texts[row * len(self.columns) + column] = said.question
                    targets[row, column] = self.numbers.get(said.answer, UNKNOWN)
        return {"images": images, "targets": targets, "texts": texts}
