"""Decide what stands in a picture and where, within what its split may show."""

from collections.abc import Sequence
from math import ceil, sqrt

from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.data.scenes.combinations import SceneSplit, relation_side, style_side
from vitrail.data.scenes.compose import TRIES, Stage, centres_of
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.motion import Motion, draw_motion
from vitrail.data.scenes.objects import SceneObject
from vitrail.data.scenes.relations import RELATIONS, Point, relates
from vitrail.data.scenes.things import confusable, nameable
from vitrail.errors import UsageError, VitrailError

REPEAT = 0.35  # how often an object is of a concept that is there already: what makes counting worth while
ONE_STYLE = 0.25  # how often everything in a picture is drawn in one style
ATTEMPTS = 200  # pictures begun for one item before giving up
STILL = Motion("still", 0.0)

Cast = list[tuple[str, str]]  # a concept's code and a style, for each object
Feature = tuple[str, str, str]  # (concept, relation, concept), which the first two of the cast show
Staged = tuple[Stage, tuple[SceneObject, ...], tuple[Motion, ...]]


class Director:
    """Chooses glyphs and places them; holds what does not change from one scene to the next.

    Args:
        glyphs: what to choose from; only what is `nameable` takes part.
        size: the pictures' side in pixels.
        overlap: the largest fraction of an object's pixels that others may hide, together.
        split: which combinations to avoid or to show.
        combination_seed: which combinations are held out.

    Attributes:
        codes: the concepts that take part.

    Raises:
        UsageError: no concept can.
    """

    def __init__(self, glyphs: GlyphTable, size: int, overlap: float, split: SceneSplit, combination_seed: int) -> None:
        self.glyphs, self.size, self.overlap = glyphs, size, overlap
        self.split, self.combination_seed = split, combination_seed
        self.featured: Cast = []  # the held-out pairs of concept and style that this split is to show
        self._styles: dict[str, list[str]] = {}  # of each concept, those it may be drawn in
        for code, style in zip(glyphs.concept, glyphs.style, strict=True):
            if not nameable(glyphs.concepts[code]):
                continue
            side = style_side(code, style, glyphs.styles, combination_seed)
            if split != "train" or side == "train":
                self._styles.setdefault(code, []).append(style)
            if side == split != "train":
                self.featured.append((code, style))
        if not self._styles:
            raise UsageError("none of these glyphs is of a thing with a countable name, so they make no scenes")
        self.codes = list(self._styles)

    def stage(self, dice: Dice, count: tuple[int, int], frames: int) -> Staged:
        """Choose objects and place them in all frames; begin anew where they do not fit.

        Args:
            dice: decides.
            count: the fewest and the most objects.
            frames: 1 for a picture, where nothing moves; more for a video.

        Raises:
            VitrailError: so many objects could not be placed.
        """
        for _ in range(ATTEMPTS):
            cast, feature = self._cast(dice, dice.integer(*count))
            stage, placed = Stage(self.size, frames, self.overlap), []
            for position in range(len(cast)):
                one = self._place(stage, cast, position, feature, dice)
                if one is None:
                    break
                placed.append(one)
            else:
                scales, motions = zip(*placed, strict=True)
                return stage, self._objects(cast, scales, stage), motions
        raise VitrailError("the objects of a scene cannot be placed: allow fewer, or more overlap, or more glyphs")

    def _objects(self, cast: Cast, scales: Sequence[float], stage: Stage) -> tuple[SceneObject, ...]:
        return tuple(
            SceneObject(
                glyph=self.glyphs.of(code, style),
                concept=self.glyphs.concepts[code],
                style=style,
                centre=stage.centres[number][0],
                scale=scale,
                visible=stage.seen[number][0] / stage.pixels[number][0],
            )
            for number, ((code, style), scale) in enumerate(zip(cast, scales, strict=True))
        )

    # --- what is to be seen ---

    def _cast(self, dice: Dice, count: int) -> tuple[Cast, Feature | None]:
        """Which glyphs: none that might be called by another's name; some of them several times."""
        cast, feature = self._feature(dice, count)
        style = dice.pick(self.glyphs.styles) if dice.chance(ONE_STYLE) else None
        while len(cast) < count:
            code = dice.pick(cast)[0] if cast and dice.chance(REPEAT) else self._fresh(dice, [one for one, _ in cast])
            cast.append((code, style if style in self._styles[code] else dice.pick(self._styles[code])))
        return (cast if feature else dice.shuffled(cast)), feature

    def _fresh(self, dice: Dice, codes: Sequence[str]) -> str:
        """A concept that might not be called by the name of any of these; one of these, if ten draws find none."""
        present = [self.glyphs.concepts[code] for code in codes]
        for _ in range(10):
            code = dice.pick(self.codes)
            if not any(self._mixed_up(code, other) for other in present):
                return code
        return dice.pick(codes)

    def _mixed_up(self, code: str, other: Concept) -> bool:
        return code != other.code and confusable(self.glyphs.concepts[code], other)

    def _feature(self, dice: Dice, count: int) -> tuple[Cast, Feature | None]:
        """What a picture for validation or test is to show: a glyph in a held-out style, or two in such a relation."""
        if self.split in ("any", "train"):
            return [], None
        if self.featured and (count == 1 or dice.chance(0.5)):
            return [dice.pick(self.featured)], None
        for _ in range(1000):
            a, relation, b = dice.pick(self.codes), dice.pick(RELATIONS), dice.pick(self.codes)
            held_out = relation_side(a, relation, b, self.combination_seed) == self.split
            if held_out and not self._mixed_up(a, self.glyphs.concepts[b]):
                return [(code, dice.pick(self._styles[code])) for code in (a, b)], (a, relation, b)
        raise VitrailError(f"no relation between these concepts is held out for {self.split}: it takes more of them")

    # --- where it is to be seen ---

    def _place(
        self, stage: Stage, cast: Cast, position: int, feature: Feature | None, dice: Dice
    ) -> tuple[float, Motion] | None:
        """Place one of the cast, smaller and smaller; give its scale and motion, or None if it cannot be done."""
        glyph = self.glyphs.pictures[self.glyphs.of(*cast[position])]
        largest = 0.9 / ceil(sqrt(len(cast)))
        scale = dice.between(max(0.2, 0.45 * largest), largest)
        for _ in range(4):
            motion = STILL if stage.frames == 1 else draw_motion(dice)
            sprites = motion.sprites(glyph, max(8, round(scale * self.size)), stage.frames)
            path = motion.path(stage.frames, self.size)
            for _ in range(TRIES if sprites else 0):
                corners = stage.somewhere(sprites, path, dice)
                if corners is None:
                    break
                allowed = self._allowed(stage, cast, position, centres_of(sprites, corners), feature)
                if allowed and stage.put(sprites, corners):
                    return scale, motion
            scale = max(0.16, 0.85 * scale)
        return None

    def _allowed(
        self, stage: Stage, cast: Cast, position: int, centres: Sequence[Point], feature: Feature | None
    ) -> bool:
        """Whether one of the cast may have these centres, one a frame.

        What is to be shown, the first two must show in the first frame. In training, nothing may be in a held-out
        relation to what stands there already, in any frame.
        """
        if feature and position == 1:
            return relates(feature[1], stage.centres[0][0], centres[0], self.size) is True
        if self.split != "train":
            return True
        code = cast[position][0]
        return not any(
            self._held_out(code, here, other, there)
            for (other, _), track in zip(cast[:position], stage.centres, strict=True)
            for here, there in zip(centres, track, strict=True)
        )

    def _held_out(self, a: str, here: Point, b: str, there: Point) -> bool:
        """Whether a concept's standing here and another's there is kept from training, however near they are."""
        across = "left" if here[0] < there[0] else "right"
        along = "above" if here[1] < there[1] else "below"
        return (here[0] != there[0] and relation_side(a, across, b, self.combination_seed) != "train") or (
            here[1] != there[1] and relation_side(a, along, b, self.combination_seed) != "train"
        )
