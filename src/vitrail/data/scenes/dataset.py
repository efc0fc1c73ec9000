"""Scenes without end: a map-style data set of which nothing is stored, every item a pure function of its number."""

from collections.abc import Iterator

from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes.backgrounds import draw_background
from vitrail.data.scenes.combinations import SCENE_SPLITS, SceneSplit
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.director import Director
from vitrail.data.scenes.motion import Video, say_motions
from vitrail.data.scenes.objects import World
from vitrail.data.scenes.scene import Scene, Source, label_names
from vitrail.errors import UsageError

MOST_OBJECTS = 12
_PICTURE, _VIDEO, _STREAMS = 0, 3, 4  # a scene takes streams 1 and 2 for its captions and questions


class Scenes:
    """Pictures of a few glyphs on a background, with every annotation.

    `scenes[i]` depends on the glyphs, `seed`, i and the settings here, and on nothing else: not on the machine, nor on
    the order in which items are asked for, nor on which process asks. Only where everything stands is worked out at
    once; the picture, boxes, masks, captions and questions when they are asked for.

    Args:
        glyphs: what to place. Concepts without a countable name in both languages (see `nameable`) are left out.
        length: how many there are; any number costs the same.
        size: the side of each picture in pixels, at least 24.
        seed: another seed gives other scenes, 0 to 2⁶⁴ - 1.
        count: the fewest and the most objects in a picture, 1 to 12; each number between is as likely.
        overlap: the largest fraction of an object's pixels that others may hide, together, from 0 to less than 1.
        split: which held-out combinations to avoid or to show; `vitrail.data.scenes.combinations` says precisely.
        combination_seed: another seed holds out others. Keep it the same for training and test, whatever `seed` is.

    Attributes:
        labels: what the numbers of a scene's `label_map` mean.

    Raises:
        UsageError: a setting is out of its range, or no glyph is left to place.
    """

    def __init__(
        self,
        glyphs: GlyphTable,
        *,
        length: int = 100_000,
        size: int = 64,
        seed: int = 0,
        count: tuple[int, int] = (1, 6),
        overlap: float = 0.2,
        split: SceneSplit = "any",
        combination_seed: int = 0,
    ) -> None:
        if not 1 <= count[0] <= count[1] <= MOST_OBJECTS:
            raise UsageError(f"a scene holds from 1 to {MOST_OBJECTS} objects, the fewest first, not {count}")
        if size < 24 or length < 0 or not 0 <= overlap < 1 or not 0 <= seed < 2**64:
            raise UsageError(
                "scenes need a size of 24 or more, a length of 0 or more, an overlap from 0 to less than 1 and a seed "
                f"from 0 to 2⁶⁴ - 1, not {size}, {length}, {overlap} and {seed}"
            )
        if split not in SCENE_SPLITS:
            raise UsageError(f"there is no split '{split}' of scenes: there are {', '.join(SCENE_SPLITS)}")
        self.length, self.size, self.seed, self.count = length, size, seed, count
        self.labels = label_names([concept.group for concept in glyphs.concepts.values()])
        self._director = Director(glyphs, size, overlap, split, combination_seed)
        if split in ("validation", "test") and count[1] == 1 and not self._director.featured:
            raise UsageError(f"one object alone shows no combination held out for {split}: allow two, or more styles")
        vocabulary = tuple(glyphs.concepts[code] for code in self._director.codes)
        self._world = World(glyphs.concepts, vocabulary, glyphs.styles)
        self._first_stream = SCENE_SPLITS.index(split) * _STREAMS

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.length))

    def __getitem__(self, index: int) -> Scene:
        """A scene.

        Raises:
            IndexError: there is none of this number.
            VitrailError: so many objects could not be placed.
        """
        index = self._checked(index)
        dice = self._dice(index, _PICTURE)
        background = draw_background(dice, self.size)
        stage, objects, _ = self._director.stage(dice, self.count, 1)
        source = Source(stage, self._world, self._dice(index, 1), self._dice(index, 2))
        return Scene(index, self.size, objects, background, self.labels, source)

    def video(self, index: int, frames: int = 8) -> Video:
        """A short video, another pure function of its number: one to three things, each with a motion of its own.

        Args:
            index: which, 0 to length - 1.
            frames: how many pictures, at least 4.

        Raises:
            UsageError: too few frames.
            IndexError: there is none of this number.
            VitrailError: so many objects could not be placed.
        """
        if frames < 4:
            raise UsageError(f"a video needs at least 4 frames to show a bounce, not {frames}")
        dice = self._dice(self._checked(index), _VIDEO)
        background = draw_background(dice, self.size)
        stage, objects, motions = self._director.stage(dice, (min(3, self.count[0]), min(3, self.count[1])), frames)
        return Video(
            frames=stage.paint(background.picture),
            boxes=stage.boxes(),
            objects=objects,
            motions=motions,
            captions_en=say_motions(objects, motions, "en"),
            captions_zh=say_motions(objects, motions, "zh"),
        )

    def _dice(self, index: int, stream: int) -> Dice:
        return Dice(self.seed, index, self._first_stream + stream)

    def _checked(self, index: int) -> int:
        if not -self.length <= index < self.length:
            raise IndexError(f"there is no scene {index} among {self.length}")
        return index % self.length
