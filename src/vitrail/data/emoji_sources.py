"""Glyphs and scenes as sources of training data."""

from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji.load import load_glyphs
from vitrail.data.generated import MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes import Scenes
from vitrail.data.scenes.things import nameable
from vitrail.data.source import Batch, Data, to_tensor
from vitrail.data.splits import unseen_combination
from vitrail.errors import UsageError
from vitrail.settings import Section

Count = Annotated[int, Field(ge=1)]


class GlyphsSection(Section):
    """Emoji World: name the concept that a glyph shows, or draw one.

    Attributes:
        classes: what counts as one class: each "concept", or all of a "subgroup" or "group".
        hold_out_style: the art style that is only tested on; null trains on all, and tests on the same glyphs.
        hold_out_combinations: keep from training, and test on, what `unseen_combination` says is for the "test": a
            tenth of the glyphs, each of a concept that is seen in the other styles.
        styles: the art styles that are trained on; null for all but the one held out.
        concepts: "base" leaves out those with a skin tone, "all" leaves out none.
        groups: the broad kinds of concepts that take part ("food-drink"); null for all.
        background: what glyphs lie on in training: "random" colours, or the "white" that they are always tested on.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["glyphs"]
    classes: Literal["concept", "subgroup", "group"] = "concept"
    hold_out_style: str | None = None
    hold_out_combinations: bool = False
    styles: tuple[str, ...] | None = None
    concepts: Literal["all", "base"] = "base"
    groups: tuple[str, ...] | None = None
    background: Literal["random", "white"] = "random"
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Read the glyphs, scaled to `size` = (height, width)."""
        table = generate_glyphs(self.generated, size=min(size)) if self.generated else load_glyphs()
        styles = training_styles(table, self.hold_out_style, self.styles)
        check_groups(table, self.groups)
        table = table.select(groups=self.groups, skin_tones=["none"] if self.concepts == "base" else None)
        train, test, split = self._parted(table, styles)
        if not len(train) or not len(test):
            raise UsageError("data: there are no glyphs of these styles and concepts")
        codes = tuple(train.concepts)
        names, classes = self._classes(train, codes)
        return Data(
            train=Glyphs(train, codes, size, self.background, classes),
            test=Glyphs(test, codes, size, "white", classes),
            labels=names,
            many=False,
            split=split,
        )

    def _parted(self, table: GlyphTable, styles: tuple[str, ...]) -> tuple[GlyphTable, GlyphTable, str]:
        """What is trained on, what is tested on, and what a score on that is a score on."""
        train = table.select(styles=styles)
        if self.hold_out_combinations:
            if self.hold_out_style is not None:
                raise UsageError("data.hold_out_style and data.hold_out_combinations are two tests: keep one")
            unseen = [
                index
                for index, pair in enumerate(zip(train.concept, train.style, strict=True))
                if unseen_combination(*pair, table.styles) == "test"
            ]
            seen = sorted(set(range(len(train))).difference(unseen))
            known = set(train.subset(seen).concepts)  # a concept with a single drawing could be nowhere else
            tested = [index for index in unseen if train.concept[index] in known]
            return train.subset(seen), train.subset(tested), "unseen combination of concept and style"
        if self.hold_out_style is not None:
            test = table.select(styles=[self.hold_out_style], concepts=train.concepts)
            return train, test, f"unseen style {self.hold_out_style}"
        return train, train, "the glyphs of its training"

    def _classes(self, table: GlyphTable, codes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The names of the classes, and the number of each concept's."""
        if self.classes == "concept":
            return distinct_names(table, codes), tuple(range(len(codes)))
        of = [getattr(table.concepts[code], self.classes) for code in codes]
        names = tuple(dict.fromkeys(of))
        return names, tuple(map(names.index, of))


class ScenesSection(Section):
    """Scenes of several glyphs: say which concepts are in the picture, all of them, or which is at each of its places.

    Attributes:
        targets: "presence" of each concept in the picture, or a "map" of the concept at every pixel, on which the first
            label is the background.
        styles: the art styles that scenes are made of; null for all. Leave one out to test on it later.
        concepts: "base" leaves out those with a skin tone, "all" leaves out none.
        groups: the broad kinds of concepts that take part ("food-drink"); null for all.
        length: how many scenes there are to train on.
        test_length: how many others to test on.
        count: the fewest and the most objects in a scene.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["scenes"]
    targets: Literal["presence", "map"] = "presence"
    styles: tuple[str, ...] | None = None
    concepts: Literal["all", "base"] = "base"
    groups: tuple[str, ...] | None = None
    length: Count = 100_000
    test_length: Count = 1_000
    count: tuple[Count, Count] = (1, 6)
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Make the scenes ready, of `size` = (height, width), which must be square."""
        if size[0] != size[1]:
            raise UsageError(f"scenes are square, and model.image_size is {size}")
        table = scene_glyphs(self.styles, self.groups, size[0], base=self.concepts == "base", generated=self.generated)
        codes = tuple(code for code, concept in table.concepts.items() if nameable(concept))
        train, test = (
            Scenes(table, length=length, size=size[0], count=self.count, seed=seed)
            for seed, length in enumerate((self.length, self.test_length))
        )
        mapped, names = self.targets == "map", distinct_names(table, codes)
        pictures = SceneMaps if mapped else ScenePictures
        return Data(
            train=pictures(train, codes),
            test=pictures(test, codes),
            labels=("background", *names) if mapped else names,
            many=not mapped,
            split="unseen scenes of seen glyphs",
            mapped=mapped,
        )


def scene_glyphs(
    styles: tuple[str, ...] | None,
    groups: tuple[str, ...] | None,
    size: int,
    *,
    base: bool = True,
    generated: int = 0,
) -> GlyphTable:
    """The glyphs that scenes are made of.

    Args:
        styles: their art styles; null for all.
        groups: the broad kinds of their concepts; null for all.
        size: pixels on a side, of those that are generated.
        base: leave out those with a skin tone.
        generated: how many concepts are drawn by a few lines of code; 0 to read Emoji World.

    Raises:
        UsageError: there are none, or no such styles or groups.
    """
    table = generate_glyphs(generated, size=size) if generated else load_glyphs()
    for style in styles or ():
        if style not in table.styles:
            raise UsageError(f"data.styles names '{style}', and the glyphs' styles are {', '.join(table.styles)}")
    check_groups(table, groups)
    table = table.select(styles=styles, groups=groups, skin_tones=["none"] if base else None)
    if not len(table):
        raise UsageError("data: there are no glyphs of these styles and concepts")
    return table


def training_styles(table: GlyphTable, hold_out_style: str | None, styles: tuple[str, ...] | None) -> tuple[str, ...]:
    """The styles that are trained on, of a section's keys `hold_out_style` and `styles`.

    Raises:
        UsageError: one is not among the glyphs', or is to be trained on and held out.
    """
    for key, named in (("hold_out_style", (hold_out_style,)), ("styles", styles or ())):
        for style in named:
            if style is not None and style not in table.styles:
                raise UsageError(f"data.{key} names '{style}', and the glyphs' styles are {', '.join(table.styles)}")
    chosen = styles or tuple(style for style in table.styles if style != hold_out_style)
    if hold_out_style in chosen:
        raise UsageError(f"data.styles names '{hold_out_style}', which data.hold_out_style keeps for the test")
    return chosen


def check_groups(table: GlyphTable, groups: tuple[str, ...] | None) -> None:
    """Whether a section's key `groups` names groups of these glyphs.

    Raises:
        UsageError: one is not among them.
    """
    known = {concept.group for concept in table.concepts.values()}
    if unknown := set(groups or ()) - known:
        raise UsageError(f"data.groups names '{min(unknown)}', and the glyphs' groups are {', '.join(sorted(known))}")


def check_subgroups(table: GlyphTable, subgroups: tuple[str, ...] | None) -> None:
    """Whether a section's key `subgroups` names subgroups of these glyphs.

    Raises:
        UsageError: one is not among them.
    """
    known = {concept.subgroup for concept in table.concepts.values()}
    if unknown := set(subgroups or ()) - known:
        there = ", ".join(sorted(known))
        raise UsageError(f"data.subgroups names '{min(unknown)}', and the glyphs' subgroups are {there}")


class Glyphs:
    """Glyphs as pictures of their concepts, laid on white or on a random colour.

    Args:
        table: the glyphs.
        codes: the concepts' codes.
        size: (height, width) in pixels.
        background: "white", or "random": every second one white and the others of any colour.
        classes: the number of each concept's class; None where each concept is one.
    """

    def __init__(
        self,
        table: GlyphTable,
        codes: tuple[str, ...],
        size: tuple[int, int],
        background: str,
        classes: tuple[int, ...] | None = None,
    ) -> None:
        number = dict(zip(codes, classes or range(len(codes)), strict=True))
        self.pictures, self.size, self.background = table.pictures, size, background
        self.targets = torch.tensor([number[code] for code in table.concept])

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`."""
        glyphs = torch.from_numpy(self.pictures[indices.numpy()]).permute(0, 3, 1, 2).float()
        colours, alpha = glyphs[:, :3], glyphs[:, 3:] / 255
        paper = torch.full((len(indices), 3, 1, 1), 255.0)
        if generator is not None and self.background == "random":
            drawn = torch.rand(paper.shape, generator=generator) * 255
            paper = torch.where(torch.rand((len(indices), 1, 1, 1), generator=generator) < 0.5, drawn, paper)
        images = _scaled(colours * alpha + paper * (1 - alpha), self.size)
        return {"images": images, "targets": self.targets[indices]}


class ScenePictures:
    """Scenes as pictures in which several concepts are to be found."""

    def __init__(self, scenes: Scenes, codes: tuple[str, ...]) -> None:
        self.scenes, self.codes = scenes, {code: index for index, code in enumerate(codes)}

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look."""
        scenes = [self.scenes[index] for index in indices.tolist()]
        targets = torch.zeros(len(scenes), len(self.codes))
        for row, scene in zip(targets, scenes, strict=True):
            row[[self.codes[thing.concept.code] for thing in scene.objects]] = 1
        return {"images": to_tensor([scene.picture for scene in scenes]), "targets": targets}


class SceneMaps(ScenePictures):
    """Scenes as pictures of which each pixel shows a concept, or the background."""

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; `targets` are (B, H, W) int64: 0 for background, else 1 + the number of a concept."""
        scenes = [self.scenes[index] for index in indices.tolist()]
        numbers = [np.array([0, *(1 + self.codes[one.concept.code] for one in scene.objects)]) for scene in scenes]
        maps = np.stack([number[scene.owner] for number, scene in zip(numbers, scenes, strict=True)])
        return {"images": to_tensor([scene.picture for scene in scenes]), "targets": torch.from_numpy(maps)}


def _scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, h, w) float32 in 0..255 -> (B, 3, *size) uint8."""
    if tuple(images.shape[2:]) != size:
        images = F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)
    return images.round_().clamp_(0, 255).byte()


def distinct_names(table: GlyphTable, codes: tuple[str, ...]) -> tuple[str, ...]:
    """The concepts' English names; a name that several share is told apart by their codes."""
    names = [table.concepts[code].name_en for code in codes]
    shared = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    return tuple(f"{name} ({code})" if name in shared else name for name, code in zip(names, codes, strict=True))
