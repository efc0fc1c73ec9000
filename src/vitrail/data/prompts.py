"""Glyphs with what a person would say to get them, in English and in Chinese, as a source of training data."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.colours import CHINESE, main_colour
from vitrail.data.emoji.load import load_glyphs
from vitrail.data.emoji_sources import Glyphs
from vitrail.data.generated import MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.nouns import article
from vitrail.data.scenes.things import nameable
from vitrail.data.source import Batch, Data, Prompts, Wanted
from vitrail.data.splits import unseen_combination
from vitrail.data.texts import LANGUAGES, Language, in_style, names
from vitrail.errors import UsageError
from vitrail.settings import Section

_FEW = 4  # concepts that a keyword may be of and still say which is wanted


class PromptsSection(Section):
    """Emoji World to be drawn: glyphs on white, each with a prompt.

    A tenth of the glyphs is kept from training, each of a concept that is seen in other styles (`unseen_combination`).
    The test asks for these, by name and style, and for as many that were seen.

    Attributes:
        concepts: "base" leaves out those with a skin tone, "all" leaves out none.
        languages: of the prompts; each as often.
        styled: the share of prompts of training that name the art style, too: "a frog, flat style".
        keywords: the share of prompts of training that call a concept by one of its keywords, and not by its name:
            "coffee" for what is named "hot beverage". Only a keyword of few concepts says what is wanted.
        coloured: the share of prompts of training that name the colour, too, where a glyph has one: "a green frog".
        test_length: how many pictures the test asks for, half of them unseen combinations; null for all of these.
        vocabulary: how many different tokens the tokenizer may have that is trained from the prompts.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["prompts"]
    concepts: Literal["all", "base"] = "base"
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = LANGUAGES
    styled: Annotated[float, Field(ge=0, le=1)] = 0.75
    keywords: Annotated[float, Field(ge=0, le=1)] = 0.0
    coloured: Annotated[float, Field(ge=0, le=1)] = 0.0
    test_length: Annotated[int, Field(ge=2)] | None = 256
    vocabulary: Annotated[int, Field(ge=300)] = 4096
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Read the glyphs, scaled to `size` = (height, width)."""
        table = generate_glyphs(self.generated, size=min(size)) if self.generated else load_glyphs()
        table = table.select(skin_tones=["none"] if self.concepts == "base" else None)
        sides = [
            unseen_combination(code, style, table.styles) == "test"
            for code, style in zip(table.concept, table.style, strict=True)
        ]
        train = table.subset(index for index, unseen in enumerate(sides) if not unseen)
        unseen = [index for index, unseen in enumerate(sides) if unseen and table.concept[index] in train.concepts]
        if not unseen:
            raise UsageError("data: no concept is drawn in two styles, so no combination can be kept from training")
        codes = tuple(train.concepts)
        count = len(unseen) if self.test_length is None else min(self.test_length // 2, len(unseen))
        seen = [index for index, unseen in enumerate(sides) if not unseen]
        parts = {"unseen": _spread(unseen, count), "seen": _spread(seen, count)}
        test = table.subset(index for part in parts.values() for index in part)
        tests = [
            self._wanted(table, index, part, codes, number)
            for part, indices in parts.items()
            for number, index in enumerate(indices)
        ]
        drawn = Prompted(train, codes, size, self)
        return Data(
            train=drawn,
            test=Glyphs(test, codes, size, "white"),
            labels=(),
            many=False,
            split="unseen combination of concept and style",
            prompts=Prompts(
                corpus=drawn.corpus,
                vocabulary=self.vocabulary,
                names={
                    language: [names(table.concepts[code], language)[0] for code in codes]
                    for language in self.languages
                },
                tests=tests,
            ),
        )

    def _wanted(self, table: GlyphTable, index: int, part: str, codes: tuple[str, ...], number: int) -> Wanted:
        """A glyph's prompt in the test: its name and its style, in one language after the other."""
        code, language = table.concept[index], self.languages[number % len(self.languages)]
        name = names(table.concepts[code], language)[0]
        return Wanted(in_style(name, table.style[index], language), language, codes.index(code), part)


class Prompted:
    """Glyphs on white, each with a prompt that is drawn anew at each look.

    Args:
        table: the glyphs.
        codes: the concepts' codes in the order of their numbers.
        size: (height, width) in pixels.
        section: the rest.
    """

    def __init__(
        self, table: GlyphTable, codes: tuple[str, ...], size: tuple[int, int], section: PromptsSection
    ) -> None:
        self.table, self.section = table, section
        self.glyphs = Glyphs(table, codes, size, "white")
        self._colours: dict[int, str | None] = {}

    def __len__(self) -> int:
        """How many glyphs there are."""
        return len(self.table)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`."""
        seed = 0 if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
        dice = Dice(seed, 0, 0)
        return {**self.glyphs.batch(indices, None), "texts": [self.ask(index, dice) for index in indices.tolist()]}

    def ask(self, index: int, dice: Dice) -> str:
        """Something that a person would say to get the glyph of this number."""
        code, language = self.table.concept[index], dice.pick(self.section.languages)
        concept = self.table.concepts[code]
        wordings, name = names(concept, language), concept.name_zh if language == "zh" else concept.name_en
        keywords = self.telling[language][code]
        if keywords and dice.chance(self.section.keywords):
            name = dice.pick(keywords)
            wordings = (name,)
            if nameable(concept):
                wordings = (
                    (name, f"{name}的图片") if language == "zh" else (name, article(name), f"a picture of {name}")
                )
        said = dice.pick(wordings)
        if dice.chance(self.section.coloured) and (colour := self.colour(index)):
            said = in_colour(said, name, colour, language)
        return in_style(said, self.table.style[index], language) if dice.chance(self.section.styled) else said

    @cached_property
    def telling(self) -> dict[str, dict[str, list[str]]]:
        """For each language, the keywords of each concept that few others have, too."""
        found: dict[str, dict[str, list[str]]] = {}
        for language in self.section.languages:
            said = {code: keywords_of(concept, language) for code, concept in self.table.concepts.items()}
            counts = Counter(word for words in said.values() for word in set(words))
            found[language] = {code: [word for word in words if counts[word] <= _FEW] for code, words in said.items()}
        return found

    def colour(self, index: int) -> str | None:
        """The English name of a glyph's colour, if it has one."""
        if index not in self._colours:
            self._colours[index] = main_colour(self.table.pictures[index])
        return self._colours[index]

    def corpus(self) -> Iterator[str]:
        """The prompts of training, all wordings of all names, with and without the style."""
        for code, style in zip(self.table.concept, self.table.style, strict=True):
            for language in self.section.languages:
                for said in names(self.table.concepts[code], language):
                    yield from (said, in_style(said, style, language))
                yield from self.telling[language][code] if self.section.keywords else ()


def keywords_of(concept: Concept, language: str) -> tuple[str, ...]:
    """The words that people look for a concept by, in one language."""
    return concept.keywords_zh if language == "zh" else concept.keywords_en


def in_colour(said: str, name: str, colour: str, language: str) -> str:
    """With the colour before the name: "a green frog", "一只绿色的青蛙"; as it is where it names a colour already."""
    if language == "zh":
        told = any(each[0] in said for each in CHINESE.values())
        return said if told else said.replace(name, f"{CHINESE[colour]}的{name}")
    if any(each in said.split() for each in CHINESE):
        return said
    return (
        said.replace(article(name), article(f"{colour} {name}"))
        if article(name) in said
        else said.replace(name, f"{colour} {name}")
    )


def _spread(indices: list[int], count: int) -> list[int]:
    """So many of them, from all over the list."""
    return [indices[place * len(indices) // count] for place in range(count)]
