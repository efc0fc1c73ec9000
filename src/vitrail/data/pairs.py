"""Pictures with texts, in English and in Chinese, as a source of training data."""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji.load import load_glyphs
from vitrail.data.emoji_sources import Count, Glyphs, distinct_names, training_styles
from vitrail.data.generated import MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes import Scenes
from vitrail.data.scenes.dice import Dice
from vitrail.data.source import Batch, Data, Texts
from vitrail.data.splits import unseen_concept
from vitrail.data.texts import LANGUAGES, Language, group_names, names, sayings
from vitrail.errors import UsageError
from vitrail.settings import Section

_SCENES = 1_000_000  # different ones that are drawn from
_CORPUS_SCENES = 2_000  # whose captions a tokenizer is trained from


class PairsSection(Section):
    """Emoji World with words: glyphs with what they are called, and scenes with their captions.

    Attributes:
        hold_out_style: the art style that is only tested on.
        hold_out_concepts: keep a tenth of the concepts from training in every style, those of `unseen_concept`'s side
            "test", and test on them in the styles of training. Where neither this nor the style above is given, the
            test is on the glyphs of training.
        styles: the art styles that are trained on; null for all but the one held out.
        concepts: "base" leaves out those with a skin tone, "all" leaves out none.
        background: what glyphs lie on in training: "random" colours, or the "white" that they are always tested on.
        languages: of the texts; each as often.
        wordings: what is said of a glyph: "all" there is to say, by `vitrail.data.texts.sayings`, or its "name" alone.
        scenes: the share of scenes among the pictures of training.
        count: the fewest and the most objects in a scene.
        vocabulary: how many different tokens the tokenizer may have that is trained from the texts.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["pairs"]
    hold_out_style: str | None = None
    hold_out_concepts: bool = False
    styles: tuple[str, ...] | None = None
    concepts: Literal["all", "base"] = "base"
    background: Literal["random", "white"] = "random"
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = LANGUAGES
    wordings: Literal["all", "name"] = "all"
    scenes: Annotated[float, Field(ge=0, lt=1)] = 0.0
    count: tuple[Count, Count] = (2, 3)
    vocabulary: Annotated[int, Field(ge=300)] = 4096
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Read the glyphs, scaled to `size` = (height, width), which must be square if there are scenes."""
        if self.scenes and size[0] != size[1]:
            raise UsageError(f"scenes are square, and the pictures are {size}")
        table = generate_glyphs(self.generated, size=min(size)) if self.generated else load_glyphs()
        styles = training_styles(table, self.hold_out_style, self.styles)
        table = table.select(skin_tones=["none"] if self.concepts == "base" else None)
        unseen = {code for code in table.concepts if self.hold_out_concepts and unseen_concept(code) == "test"}
        train = table.select(styles=styles, concepts=table.concepts.keys() - unseen)
        parts = {}
        if self.hold_out_style:
            parts["style"] = table.select(styles=[self.hold_out_style], concepts=train.concepts)
        if self.hold_out_concepts:
            parts["concept"] = table.select(styles=styles, concepts=unseen)
        if not parts:
            parts["seen"] = train
        if not len(train) or not all(map(len, parts.values())):
            raise UsageError("data: there are too few glyphs of these styles and concepts to train and to test on")
        codes = (*train.concepts, *parts["concept"].concepts) if "concept" in parts else tuple(train.concepts)
        number = {code: index for index, code in enumerate(codes)}
        test = table.subset(
            table.of(code, style)
            for part in parts.values()
            for code, style in zip(part.concept, part.style, strict=True)
        )
        pairs = Pairs(train, codes, size, self)
        return Data(
            train=pairs,
            test=Glyphs(test, codes, size, "white"),
            labels=distinct_names(table, codes),
            many=False,
            split=" and ".join(_SPLITS[part].format(self.hold_out_style) for part in parts),
            texts=self._texts(
                table, codes, pairs, {name: [number[code] for code in part.concepts] for name, part in parts.items()}
            ),
        )

    def _texts(self, table: GlyphTable, codes: tuple[str, ...], pairs: "Pairs", parts: dict[str, list[int]]) -> Texts:
        concepts = [table.concepts[code] for code in codes]
        groups = tuple(dict.fromkeys(concept.group for concept in concepts))
        return Texts(
            corpus=pairs.corpus,
            vocabulary=self.vocabulary,
            names={language: [names(concept, language) for concept in concepts] for language in self.languages},
            groups={language: [group_names(group, language) for group in groups] for language in self.languages},
            group_of=[groups.index(concept.group) for concept in concepts],
            parts=parts,
        )


_SPLITS = {"style": "unseen style {}", "concept": "unseen concept", "seen": "the glyphs of its training"}


class Pairs:
    """Glyphs, and scenes of them, each with one of the things that can be said of it.

    Args:
        table: the glyphs.
        codes: the concepts' codes in the order of their numbers. A scene has a number of its own, since what is said of
            it is said of all in it.
        size: (height, width) in pixels.
        section: the rest.
    """

    def __init__(self, table: GlyphTable, codes: tuple[str, ...], size: tuple[int, int], section: PairsSection) -> None:
        self.table, self.section, self.classes = table, section, len(codes)
        self.glyphs = Glyphs(table, codes, size, section.background)
        self.scenes = Scenes(table, length=_SCENES, size=size[0], count=section.count) if section.scenes else None
        self.length = round(len(table) / (1 - section.scenes))

    def __len__(self) -> int:
        """How many glyphs there are, and as many scenes as make their share of the whole."""
        return self.length

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`. What is said of a picture is drawn anew at each look; each scene is a new one, too."""
        seed = 0 if generator is None else int(torch.randint(2**63 - 1, (), generator=generator))
        dice = Dice(seed, 0, 0)
        is_glyph = indices < len(self.table)
        images = torch.empty(len(indices), 3, *self.glyphs.size, dtype=torch.uint8)
        targets, texts = torch.empty_like(indices), []
        if is_glyph.any():
            glyphs = self.glyphs.batch(indices[is_glyph], generator)
            images[is_glyph], targets[is_glyph] = glyphs["images"], glyphs["targets"]
        for place, index in enumerate(indices.tolist()):
            if index < len(self.table):
                texts.append(self.say(index, dice))
            else:
                number = index - len(self.table) if generator is None else dice.integer(0, _SCENES - 1)
                picture, text = self.scene(number, dice)
                images[place], targets[place] = torch.from_numpy(picture).permute(2, 0, 1), self.classes + number
                texts.append(text)
        return {"images": images, "targets": targets, "texts": texts}

    def say(self, index: int, dice: Dice) -> str:
        """Something that can be said of the glyph of this number."""
        concept, language = self.table.concepts[self.table.concept[index]], dice.pick(self.section.languages)
        if self.section.wordings == "name":
            return names(concept, language)[0]
        return dice.pick(sayings(concept, self.table.style[index], language, dice))

    def scene(self, number: int, dice: Dice) -> tuple[np.ndarray, str]:
        """A scene's picture (H, W, 3) uint8, and one of its captions."""
        assert self.scenes is not None
        scene = self.scenes[number]
        caption = dice.pick(scene.captions)
        return scene.picture, caption.text(dice.pick(self.section.languages))

    def corpus(self) -> Iterator[str]:
        """The texts of training: all that can be said of its glyphs, but for other draws of keywords, and captions."""
        dice = Dice(0, 0, 1)
        for code, style in zip(self.table.concept, self.table.style, strict=True):
            for language in self.section.languages:
                yield from sayings(self.table.concepts[code], style, language, dice)
        for number in range(_CORPUS_SCENES):
            captions = self.scenes[number].captions if self.scenes else ()
            for language in self.section.languages:
                yield from (caption.text(language) for caption in captions)
