"""Learning from examples: a few pictures with a question and its answer each, and then one more, to be answered."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Annotated, Literal, TypeAlias, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji_sources import Count
from vitrail.data.scenes import Question, Scene, Scenes, Wording
from vitrail.data.scenes.backgrounds import COLOURS
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.questions import KINDS
from vitrail.data.scenes.relations import cell_of
from vitrail.data.source import Asked, Batch, Data, Talk, Talks
from vitrail.data.talk import TalkSection, corpus, majorities, pictures
from vitrail.errors import UsageError
from vitrail.models.language_model import Turn

SORT = {"en": "Which sort is this?", "zh": "这是哪一种？"}
"""What is asked of pictures that are sorted by their traits."""

_TRAITS: Mapping[str, Callable[[Scene], Hashable | None]] = {  # None where a scene has none of this kind
    "number": lambda scene: len(scene.objects),
    "style": lambda scene: scene.objects[0].style if len({one.style for one in scene.objects}) == 1 else None,
    "group": lambda scene: scene.objects[0].concept.group if len({one.concept for one in scene.objects}) == 1 else None,
    "place": lambda scene: cell_of(scene.objects[0].centre, scene.size) if len(scene.objects) == 1 else None,
    "colour": lambda scene: scene.background.first,
    "pattern": lambda scene: scene.background.kind,
}
_ALONE: Mapping[str, Callable[[Scene], Hashable | None]] = {
    "picture": lambda scene: scene.index,  # there is no other like it
    "colour": lambda scene: scene.background.first if scene.background.kind == "plain" else None,
    "pattern": lambda scene: scene.background.kind,
}
_BEHIND = {
    "colour": {"en": "Which colour is the background?", "zh": "背景是什么颜色？"},
    "pattern": {"en": "Which pattern does the background have?", "zh": "背景是什么图案？"},
}
_PATTERNS = {  # as captions call them
    "plain": ("plain", "纯色"),
    "gradient": ("gradient", "渐变"),
    "stripes": ("stripes", "条纹"),
    "checks": ("checks", "方格"),
    "noise": ("mottled", "斑驳"),
    "horizon": ("sky", "天空"),
}
_SPACE = {"en": " ", "zh": ""}
_WORD = re.compile(r"[一-鿿]|[^\W\d_]+|\d")  # a Chinese character, a word, a digit
_NAMED_AFTER = 200  # scenes of whose texts the words are the names that are given

_TRIES = 200  # scenes that are looked at for one of which a question of some kind can be asked

T = TypeVar("T")


@dataclass(frozen=True)
class Behind:
    """A question about what is behind the things of a scene, as none of its own questions are.

    Attributes:
        kind: "colour" or "pattern".
        answer: the colour, or the kind of background.
    """

    kind: str
    answer: str

    def wording(self, language: str) -> Wording:
        """In a language, "en" or "zh"."""
        english, chinese = (self.answer, COLOURS[self.answer][0]) if self.kind == "colour" else _PATTERNS[self.answer]
        return Wording(_BEHIND[self.kind][language], chinese if language == "zh" else english, ())


ASKED = (*KINDS, *_BEHIND)
"""The kinds of questions that rows are made of."""

Posed: TypeAlias = tuple[Scene, Question | Behind | None]
"""A picture, and what is asked of it; None asks for its sort."""
Shot: TypeAlias = tuple[Scene, str, str]
"""A picture, a question in words, and the answer."""


class ShotsSection(TalkSection):
    """Rows of pictures, each with a question of the same kind and its answer. Alayrac et al. 2022 (2204.14198), §2.3.

    The answer to a row's last question is one of two to four, and was given before. In some rows the answers have other
    names, one to three words that have nothing to do with them and are others in each row: then only the examples tell
    (symbol tuning, Wei et al. 2023, 2305.08298, §2; and what brings about learning from examples at all is that they
    help, Chan et al. 2022, 2205.05055, §3). Some rows ask "which sort is this?", where a sort is what has two traits,
    so many things before such a colour, say: none is told by one trait (unless `traits` has them told so), and all
    sorts have only such names.

    Tested on kinds of questions that training never asks, with more and more examples before the one that counts, and
    with none; the examples of a test are of training's combinations, the one that counts is of those never shown. Each
    is asked with its pictures, and once more with grey ones in their places.

    Attributes:
        hold_out: the kinds of question that are tested on, and asked in no other place.
        shots: the fewest and the most examples before the last question in training.
        test_shots: how many there are in the tests.
        symbols: the share of training's rows of questions in which the answers have other names.
        sorts: the share of training's rows that ask for sorts.
        traits: each row for sorts tells up to eight of them by one of these alone, instead of by two others: the
            background's "pattern", its "colour" where it is plain, or "picture", where a sort is one picture, shown
            again. What is named twice comes twice as often.
        asking: the share of rows for sorts that ask, instead of for them, something that has nothing to do with them,
            of a kind that is not held out: so that the wording does not tell what to do.
        words: tell in a word what is to be seen, instead of showing it: behind each question stands a word, the same
            where the answers are, and another in each row. For a language model that is to learn from examples before
            it has eyes; it reads and learns every word of a row. The tests show it words, too.
        length: how many scenes there are to make rows of; all are looked through before the first row is made.
    """

    source: Literal["shots"]  # type: ignore[assignment]
    hold_out: Annotated[tuple[str, ...], Field(min_length=1)] = ("which side",)
    shots: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = (0, 4)
    symbols: Annotated[float, Field(ge=0, le=1)] = 0.0
    sorts: Annotated[float, Field(ge=0, le=1)] = 0.0
    traits: tuple[Literal["picture", "colour", "pattern"], ...] = ()
    asking: Annotated[float, Field(ge=0, le=1)] = 0.0
    words: bool = False
    test_shots: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 4, 8)
    length: Count = 4_000

    def open(self, size: tuple[int, int]) -> Data:
        """Make the scenes ready, of `size` = (height, width), which must be square."""
        if unknown := set(self.hold_out) - set(ASKED):
            raise UsageError(f"data.hold_out names '{min(unknown)}', and questions are of {', '.join(ASKED)}")
        if self.shots[0] > self.shots[1]:
            raise UsageError(f"data.shots goes from the fewest to the most examples, not from {self.shots[0]}")
        train, test = self.scenes(size)
        common = commonest(train, self.languages)
        rows = TestRows(train, test, self)
        tests = [
            Asked(
                rows.talk(one),
                f"{one.kind} {one.shots} shots{' blank' if one.blank else ''}",
                (one.question.wording(one.language).answer,),
                common.get((one.kind, one.language), ""),
            )
            for one in rows.tests
        ]
        return Data(
            train=Examples(train, self),
            test=rows,
            labels=(),
            many=False,
            split=f"unseen kinds of question: {', '.join(self.hold_out)}",
            talks=Talks(lambda: corpus(train, self.languages), self.vocabulary, tests),
        )


class Examples:
    """Rows to train on.

    Args:
        scenes: the pictures.
        section: the rest.
    """

    def __init__(self, scenes: Scenes, section: ShotsSection) -> None:
        self.scenes, self.section = scenes, section
        self.words: dict[str, list[str]] = {language: words_of(scenes, language) for language in section.languages}

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; all rows of a batch have as many examples, and all ask for sorts or none does.

        Everything is drawn anew at each look.
        """
        seed = 0 if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
        dice = Dice(seed, 0, 0)
        shots, sorts = dice.integer(*self.section.shots), dice.chance(self.section.sorts)
        rows, talks = [], []
        for _ in indices:
            language = dice.pick(self.section.languages)
            row = self.row(1 + shots, language, dice, sorts=sorts)
            rows.append(pictures([scene for scene, _, _ in row], self.section.blind))
            if self.section.words:
                talks.append([told(row, language, self.words[language], dice)])
            else:
                talks.append([shown(row, language)])
        return batch_of(rows, talks, indices)

    def row(self, count: int, language: str, dice: Dice, *, sorts: bool = False) -> list[Shot]:
        """So many pictures, each with a question of one kind, or that for sorts, and the answer by its name."""
        classes = self._some_sorts(dice) if sorts else self._some_answers(dice)
        numbers = [dice.integer(0, len(classes) - 1) for _ in range(count)]
        numbers[-1] = dice.pick(numbers[:-1] or numbers)
        posed = [dice.pick(classes[number]) for number in numbers]
        names: list[str] = []
        if sorts or dice.chance(self.section.symbols):
            names = named(self.words[language], len(classes), language, dice)
        asked = SORT[language]
        if sorts and self.section.asking and dice.chance(self.section.asking):
            asked = dice.pick(self._questions).wording(language).question
        row: list[Shot] = []
        for number, (scene, question) in zip(numbers, posed, strict=True):
            wording = question.wording(language) if question else Wording(asked, "", ())
            row.append((scene, wording.question, names[number] if names else wording.answer))
        return row

    def _some_answers(self, dice: Dice) -> list[list[Posed]]:
        """Two to four answers to a kind of question: for each, the scenes where it is right."""
        answers = self._answers[dice.pick(list(self._answers))]
        return drawn(answers, min(dice.integer(2, 4), len(answers)), dice)

    def _some_sorts(self, dice: Dice) -> list[list[Posed]]:
        """Four sorts, or as many as there are of these: one of two values of a trait together with one of another's.

        Or two to eight values of one trait.
        """
        if self.section.traits:
            values = self._values[dice.pick(self.section.traits)]
            return drawn(values, min(dice.integer(2, 8), len(values)), dice)
        while True:
            table = self._sorts[dice.pick(list(self._sorts))]
            first, second = (drawn(list(dict.fromkeys(key[part] for key in table)), 2, dice) for part in (0, 1))
            there = [table[one, other] for one in first for other in second if (one, other) in table]
            if len(there) > 1:
                return there

    @cached_property
    def _answers(self) -> dict[str, list[list[Posed]]]:
        """For each kind of question that is not held out, and has several answers, the scenes of each answer."""
        found: dict[str, dict[bool | int | str, list[Posed]]] = {
            kind: defaultdict(list) for kind in ASKED if kind not in self.section.hold_out
        }
        for scene in self._seen:
            for question in questions_of(scene):
                if question.kind in found:
                    found[question.kind][question.answer].append((scene, question))
        return {kind: list(answers.values()) for kind, answers in found.items() if len(answers) > 1}

    @cached_property
    def _questions(self) -> list[Question | Behind]:
        """All of kinds that are not held out."""
        held = self.section.hold_out
        return [question for scene in self._seen for question in questions_of(scene) if question.kind not in held]

    @cached_property
    def _values(self) -> dict[str, list[list[Posed]]]:
        """For each trait that tells sorts alone the scenes of each value."""
        found: dict[str, dict[Hashable, list[Posed]]] = {name: defaultdict(list) for name in self.section.traits}
        for name, values in found.items():
            for scene in self._seen:
                if (value := _ALONE[name](scene)) is not None:
                    values[value].append((scene, None))
            if not values:
                raise UsageError(f"data.traits names '{name}', which none of {len(self)} scenes has: take more of them")
        return {name: list(values.values()) for name, values in found.items()}

    @cached_property
    def _sorts(self) -> dict[tuple[str, str], dict[tuple[Hashable, Hashable], list[Posed]]]:
        """For each two traits that vary, the scenes of each two values."""
        found: dict[tuple[str, str], dict[tuple[Hashable, Hashable], list[Posed]]] = {
            pair: defaultdict(list) for pair in combinations(_TRAITS, 2)
        }
        for scene in self._seen:
            traits = {name: trait(scene) for name, trait in _TRAITS.items()}
            for (one, other), table in found.items():
                if traits[one] is not None and traits[other] is not None:
                    table[traits[one], traits[other]].append((scene, None))
        return {
            pair: table
            for pair, table in found.items()
            if all(len({key[part] for key in table}) > 1 for part in (0, 1))
        }

    @cached_property
    def _seen(self) -> list[Scene]:
        return list(self.scenes)


@dataclass(frozen=True)
class Test:
    """A question that is asked in a test.

    Attributes:
        kind: of question.
        shots: how many examples stand before it.
        language: "en" or "zh".
        scene: what it is asked of.
        question: what is asked.
        blank: whether all pictures are grey ones.
    """

    __test__ = False  # pytest takes its name for a test's

    kind: str
    shots: int
    language: str
    scene: Scene
    question: Question | Behind
    blank: bool


class TestRows:
    """Rows to test on: of each scene of the test every question of a held-out kind.

    Args:
        train: where the examples are from.
        test: the pictures of what is asked at last.
        section: the rest.

    Attributes:
        tests: what is asked, the fewest examples first.
    """

    __test__ = False

    def __init__(self, train: Scenes, test: Scenes, section: ShotsSection) -> None:
        self.train, self.section = train, section
        self.words: dict[str, list[str]] = {language: words_of(train, language) for language in section.languages}
        self.tests = [
            Test(question.kind, shots, language, scene, question, blank)
            for shots in sorted(section.test_shots)
            for blank in ((False,) if section.blind else (False, True))
            for scene in test
            for question in questions_of(scene)
            if question.kind in section.hold_out
            for language in section.languages
        ]
        self._examples: dict[tuple[int, str], list[tuple[Scene, Question | Behind]]] = {}

    def __len__(self) -> int:
        return len(self.tests)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look."""
        tests = [self.tests[index] for index in indices.tolist()]
        rows = [pictures([scene for scene, _, _ in self.row(one)], one.blank or self.section.blind) for one in tests]
        return batch_of(rows, [[self.talk(one)] for one in tests], indices)

    def row(self, test: Test) -> list[Shot]:
        """The examples of a test, which are the first of a longer list for more of them, and what is asked at last."""
        key = test.scene.index, test.kind
        if key not in self._examples:
            dice = Dice(1, test.scene.index, ASKED.index(test.kind))
            self._examples[key] = _examples(self.train, test.kind, max(self.section.test_shots), dice)
        posed = [*self._examples[key][: test.shots], (test.scene, test.question)]
        wordings = [(scene, question.wording(test.language)) for scene, question in posed]
        return [(scene, wording.question, wording.answer) for scene, wording in wordings]

    def talk(self, test: Test) -> Talk:
        """A test in words, up to its answer."""
        row = self.row(test)
        if not self.section.words:
            return Talk(shown(row, test.language).turns[:-1], test.language)
        dice = Dice(2, test.scene.index, ASKED.index(test.kind))
        return told(row, test.language, self.words[test.language], dice, answered=False)


def shown(row: Sequence[Shot], language: str) -> Talk:
    """A row as a conversation: a picture and a question each, and the answer."""
    turns = [turn for _, asked, answer in row for turn in (Turn(asked, 1), Turn(answer, by="model"))]
    return Talk(tuple(turns), language)


def told(row: Sequence[Shot], language: str, words: Sequence[str], dice: Dice, *, answered: bool = True) -> Talk:
    """A row without pictures: behind each question a word, the same for the same answer; all said by the network.

    Where sorts are asked for, there is no question at all: the bare words are where copying is learned first.

    Args:
        row: of which the pictures are left out.
        language: it is in.
        words: some are drawn from these.
        dice: draw.
        answered: whether it has its last answer.
    """
    answers = dict.fromkeys(answer for _, _, answer in row)
    word_of = dict(zip(answers, drawn(words, len(answers), dice), strict=True))
    space = _SPACE[language]
    parts = [
        [word_of[answer], answer] if asked == SORT[language] else [asked, word_of[answer], answer]
        for _, asked, answer in row
    ]
    turns = [Turn(space.join(part), by="model") for part in parts]
    if not answered:
        turns[-1] = Turn(space.join(parts[-1][:-1]))
    return Talk(tuple(turns), language)


def questions_of(scene: Scene) -> tuple[Question | Behind, ...]:
    """A scene's questions, and those about its background."""
    return (*scene.questions, *behind(scene))


def behind(scene: Scene) -> tuple[Behind, ...]:
    """What can be asked of a scene's background: of its colour only if it is plain."""
    ground = scene.background
    colour = (Behind("colour", ground.first),) if ground.kind == "plain" else ()
    return (*colour, Behind("pattern", ground.kind))


def commonest(scenes: Scenes, languages: Sequence[str]) -> dict[tuple[str, str], str]:
    """The commonest answer by kind of question and language."""
    found = majorities(scenes, languages)
    counts = Counter(question for scene in scenes for question in behind(scene))
    for question, _ in reversed(counts.most_common()):  # of each kind the commonest last
        found |= {(question.kind, language): question.wording(language).answer for language in languages}
    return found


def words_of(scenes: Scenes, language: str) -> list[str]:
    """The words, in Chinese the characters, of the first scenes' texts, each once."""
    found: dict[str, None] = {}
    for number in range(min(_NAMED_AFTER, len(scenes))):
        for caption in scenes[number].captions:
            found |= dict.fromkeys(_WORD.findall(caption.text(language).casefold()))
        for question in scenes[number].questions:
            wording = question.wording(language)
            found |= dict.fromkeys(_WORD.findall(f"{wording.question} {wording.answer}".casefold()))
    return list(found)


def named(words: Sequence[str], count: int, language: str, dice: Dice) -> list[str]:
    """So many names of one to three words each, all different words."""
    lengths = [dice.integer(1, 3) for _ in range(count)]
    chosen = iter(drawn(words, sum(lengths), dice))
    return [_SPACE[language].join(next(chosen) for _ in range(length)) for length in lengths]


def drawn(choices: Sequence[T], count: int, dice: Dice) -> list[T]:
    """So many of the choices, all different."""
    chosen: dict[int, T] = {}
    while len(chosen) < count:
        number = dice.integer(0, len(choices) - 1)
        chosen[number] = choices[number]
    return list(chosen.values())


def batch_of(rows: Sequence[Tensor], talks: list[list[Talk]], indices: Tensor) -> Batch:
    """A batch of rows of pictures (P, 3, H, W) uint8; the shorter are filled up, with their first."""
    most = max(map(len, rows))
    every = [torch.cat([row, row[:1].expand(most - len(row), -1, -1, -1)]) for row in rows]
    shown = [row[-1] for row in rows]
    return {"images": torch.stack(every), "shown": torch.stack(shown), "targets": indices, "talks": talks}


def _examples(scenes: Scenes, kind: str, count: int, dice: Dice) -> list[tuple[Scene, Question | Behind]]:
    """So many scenes, each with its question of a kind."""
    found: list[tuple[Scene, Question | Behind]] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        scene = scenes[dice.integer(0, len(scenes) - 1)]
        found += [(scene, question) for question in questions_of(scene) if question.kind == kind]
    if len(found) < count:
        raise UsageError(f"questions of the kind '{kind}' cannot be asked of these scenes")
    return found
