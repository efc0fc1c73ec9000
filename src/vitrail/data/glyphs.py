"""A table of glyphs: small pictures with transparency, each one concept drawn in one art style, with words for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vitrail.errors import VitrailError


@dataclass(frozen=True)
class Concept:
    """What is known about one thing that can be drawn.

    Attributes:
        code: its code points in lower-case hexadecimal joined by "-", without the variation selector fe0f: "1f438".
        emoji: the character, as text: "🐸".
        name_en: its English short name: "frog".
        name_zh: its Chinese short name: "青蛙".
        keywords_en: English words people look for it by.
        keywords_zh: Chinese words people look for it by.
        group: the broad kind: "animals-nature", "food-drink", …
        subgroup: the narrow kind: "animal-amphibian", "food-fruit", …
        skin_tone: "none", one of "light", "medium-light", "medium", "medium-dark", "dark", or two of them joined by
            " and " for two people.
        gender: "none", "female" or "male".
    """

    code: str
    emoji: str
    name_en: str
    name_zh: str
    keywords_en: tuple[str, ...]
    keywords_zh: tuple[str, ...]
    group: str
    subgroup: str
    skin_tone: str
    gender: str


@dataclass(frozen=True, eq=False)
class GlyphTable:
    """Glyphs and what they show.

    Attributes:
        pictures: uint8 of shape (G, S, S, 4): RGBA with straight (not premultiplied) alpha; may be mapped from a file.
        concept: the code of each glyph's concept.
        style: the art style of each glyph.
        concepts: what is known about each concept, by its code.
    """

    pictures: np.ndarray
    concept: tuple[str, ...]
    style: tuple[str, ...]
    concepts: Mapping[str, Concept]

    def __post_init__(self) -> None:
        shape = self.pictures.shape
        if self.pictures.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 4:
            raise ValueError(f"pictures are {self.pictures.dtype} of shape {shape}, not uint8 of shape (G, S, S, 4)")
        if not len(self.concept) == len(self.style) == shape[0]:
            raise ValueError(f"{shape[0]} pictures with {len(self.concept)} concepts and {len(self.style)} styles")
        if missing := set(self.concept) - self.concepts.keys():
            raise ValueError(f"nothing is known about the concept '{min(missing)}'")

    def __len__(self) -> int:
        return len(self.concept)

    @property
    def size(self) -> int:
        """S, the pixels on a side."""
        return self.pictures.shape[1]

    @cached_property
    def styles(self) -> tuple[str, ...]:
        """The art styles there are, in the order of their first glyphs."""
        return tuple(dict.fromkeys(self.style))

    @cached_property
    def _index(self) -> dict[tuple[str, str], int]:
        return {pair: index for index, pair in enumerate(zip(self.concept, self.style, strict=True))}

    def of(self, concept: str, style: str) -> int:
        """The index of the glyph of a concept in a style.

        Raises:
            VitrailError: there is no such glyph.
        """
        try:
            return self._index[concept, style]
        except KeyError:
            raise VitrailError(f"there is no glyph of '{concept}' in the style '{style}'") from None

    def has(self, concept: str, style: str) -> bool:
        """Whether a concept is drawn in a style."""
        return (concept, style) in self._index

    def subset(self, indices: Iterable[int]) -> "GlyphTable":
        """The glyphs at these indices, in this order, with the concepts they show."""
        chosen = list(indices)
        concept = tuple(self.concept[index] for index in chosen)
        return replace(
            self,
            pictures=self.pictures[chosen],
            concept=concept,
            style=tuple(self.style[index] for index in chosen),
            concepts={code: self.concepts[code] for code in dict.fromkeys(concept)},
        )

    def select(
        self,
        *,
        styles: Iterable[str] | None = None,
        concepts: Iterable[str] | None = None,
        groups: Iterable[str] | None = None,
        skin_tones: Iterable[str] | None = None,
        genders: Iterable[str] | None = None,
    ) -> "GlyphTable":
        """The glyphs for which everything asked holds, in the order they have here; None asks for nothing."""
        asked = [None if wanted is None else set(wanted) for wanted in (styles, concepts, groups, skin_tones, genders)]

        def keep(code: str, style: str) -> bool:
            about = self.concepts[code]
            facts = (style, code, about.group, about.skin_tone, about.gender)
            return all(wanted is None or fact in wanted for fact, wanted in zip(facts, asked, strict=True))

        return self.subset(
            index for index, pair in enumerate(zip(self.concept, self.style, strict=True)) if keep(*pair)
        )
