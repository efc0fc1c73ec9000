"""Conversations about scenes, in English and in Chinese, as a source of training data."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji_sources import Count, scene_glyphs
from vitrail.data.generated import MOST_CONCEPTS
from vitrail.data.scenes import Question, Scene, Scenes
from vitrail.data.scenes.dice import Dice
from vitrail.data.source import CAPTION, Asked, Batch, Data, Talk, Talks, to_tensor
from vitrail.data.texts import LANGUAGES, Language
from vitrail.errors import UsageError
from vitrail.models.language_model import Turn
from vitrail.settings import Section

_SCENES = 10_000_000  # different ones that are drawn from
_CORPUS_SCENES = 1_500  # whose texts a tokenizer is trained from, and whose answers are counted


class TalkSection(Section):
    """Scenes with descriptions, and with questions and answers; tested on combinations that training never shows.

    Attributes:
        styles: the art styles that scenes are made of; null for all.
        groups: the broad kinds of concepts that take part ("food-drink"); null for all.
        languages: that are spoken; each as often.
        length: how many scenes there are to train on.
        test_length: how many others to test on; each is asked everything there is to ask, in each language.
        count: the fewest and the most objects in a scene.
        chats: the share of scenes whose questions are one conversation, in which the earlier answers can be seen;
            those of the rest are each asked alone.
        blind: show a grey picture instead, so that the words alone are left to go by.
        vocabulary: how many different tokens the tokenizer may have that is trained from the texts.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["talk"]
    styles: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = LANGUAGES
    length: Count = _SCENES
    test_length: Count = 200
    count: tuple[Count, Count] = (1, 4)
    chats: Annotated[float, Field(ge=0, le=1)] = 0.2
    blind: bool = False
    vocabulary: Annotated[int, Field(ge=300)] = 2048
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Make the scenes ready, of `size` = (height, width), which must be square."""
        train, test = self.scenes(size)
        majority = majorities(train, self.languages)
        tests = [
            (index, asked)
            for index in range(len(test))
            for language in self.languages
            for asked in everything_asked(test[index], language, majority)
        ]
        return Data(
            train=Conversations(train, self),
            test=Questions(test, tests, self.blind),
            labels=(),
            many=False,
            split="unseen combination",
            talks=Talks(lambda: corpus(train, self.languages), self.vocabulary, [asked for _, asked in tests]),
        )

    def scenes(self, size: tuple[int, int]) -> tuple[Scenes, Scenes]:
        """Those of training and of the test.

        Raises:
            UsageError: the size is not square, or there are no such styles and groups.
        """
        if size[0] != size[1]:
            raise UsageError(f"scenes are square, and the pictures are {size}")
        table = scene_glyphs(self.styles, self.groups, size[0], generated=self.generated)
        return (
            Scenes(table, length=self.length, size=size[0], count=self.count, split="train"),
            Scenes(table, length=self.test_length, size=size[0], count=self.count, split="test"),
        )


class Conversations:
    """Scenes to train on, each with everything that can be asked of it, and a description.

    Args:
        scenes: the pictures.
        section: the rest.
    """

    def __init__(self, scenes: Scenes, section: TalkSection) -> None:
        self.scenes, self.section = scenes, section

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`. The language, the description and the order of what is said are drawn anew at each look."""
        seed = 0 if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
        dice = Dice(seed, 0, 0)
        scenes = [self.scenes[index] for index in indices.tolist()]
        return {
            "images": pictures(scenes, self.section.blind),
            "targets": indices,
            "talks": [self.talks(scene, dice) for scene in scenes],
        }

    def talks(self, scene: Scene, dice: Dice) -> list[Talk]:
        """Each of the scene's questions and a description as a conversation of its own; or all of them as one."""
        languages = self.section.languages
        if dice.chance(self.section.chats):
            language = dice.pick(languages)
            pairs = dice.shuffled(
                [described(scene, language, dice), *(worded(one, language) for one in scene.questions)]
            )
            return [Talk(tuple(turn for pair in pairs for turn in pair), language)]
        talks = [Talk(worded(one, language := dice.pick(languages)), language) for one in scene.questions]
        language = dice.pick(languages)
        return [*talks, Talk(described(scene, language, dice), language)]


class Questions:
    """Scenes to test on, once for each thing that is asked.

    Args:
        scenes: the pictures.
        tests: the number of a scene, and what is asked of it.
        blind: show grey pictures instead.
    """

    def __init__(self, scenes: Scenes, tests: Sequence[tuple[int, Asked]], blind: bool) -> None:
        self.scenes, self.tests, self.blind = scenes, tests, blind

    def __len__(self) -> int:
        return len(self.tests)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look."""
        chosen = [self.tests[index] for index in indices.tolist()]
        scenes = {number: self.scenes[number] for number, _ in chosen}
        return {
            "images": pictures([scenes[number] for number, _ in chosen], self.blind),
            "targets": indices,
            "talks": [[asked.talk] for _, asked in chosen],
        }


def pictures(scenes: Sequence[Scene], blind: bool) -> Tensor:
    """The scenes' pictures (B, 3, H, W) uint8; grey ones if `blind`."""
    if blind:
        return torch.full((len(scenes), 3, scenes[0].size, scenes[0].size), 128, dtype=torch.uint8)
    return to_tensor([scene.picture for scene in scenes])


def worded(question: Question, language: str) -> tuple[Turn, Turn]:
    """A question and its answer."""
    wording = question.wording(language)
    return Turn(wording.question, 1), Turn(wording.answer, by="model")


def described(scene: Scene, language: str, dice: Dice) -> tuple[Turn, Turn]:
    """A request for a description, and one of the scene's captions."""
    return Turn("", 1), Turn(dice.pick(captions(scene, language)), by="model")


def captions(scene: Scene, language: str) -> list[str]:
    """Everything that is said of a scene."""
    return [caption.text(language) for caption in scene.captions]


def everything_asked(scene: Scene, language: str, majority: dict[tuple[str, str], str]) -> Iterator[Asked]:
    """A scene's questions in a language, and the request for a description."""
    for question in scene.questions:
        asked, answer = worded(question, language)
        yield Asked(
            Talk((asked,), language), question.kind, (answer.text,), majority.get((question.kind, language), "")
        )
    yield Asked(Talk((Turn("", 1),), language), CAPTION, tuple(captions(scene, language)), majority[CAPTION, language])


def majorities(scenes: Scenes, languages: Sequence[str]) -> dict[tuple[str, str], str]:
    """The commonest answer by kind of question and language; for captions the commonest description."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for number in range(min(_CORPUS_SCENES, len(scenes))):
        for language in languages:
            for question in scenes[number].questions:
                counts[question.kind, language][worded(question, language)[1].text] += 1
            counts[CAPTION, language].update(captions(scenes[number], language))
    return {key: answers.most_common(1)[0][0] for key, answers in counts.items()}


def corpus(scenes: Scenes, languages: Sequence[str]) -> Iterator[str]:
    """Questions, answers and descriptions of the first scenes, and every concept's name."""
    for number in range(min(_CORPUS_SCENES, len(scenes))):
        scene = scenes[number]
        for language in languages:
            yield from captions(scene, language)
            for question in scene.questions:
                yield from (turn.text for turn in worded(question, language))
