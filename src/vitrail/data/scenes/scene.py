"""A scene: a picture and everything there is to know about it, worked out when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitrail.data.scenes.backgrounds import Background
from vitrail.data.scenes.captions import Caption, describe
from vitrail.data.scenes.compose import Stage
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.objects import SceneObject, World
from vitrail.data.scenes.programs import Step, Value, run
from vitrail.data.scenes.questions import Question, ask

GROUPS = (
    "smileys-emotion",
    "people-body",
    "component",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
"""Unicode's groups of emoji, in its order."""


def label_names(groups: Sequence[str]) -> tuple[str, ...]:
    """What the numbers of a label map mean: "background", then `GROUPS`, then any others there are, sorted."""
    return ("background", *GROUPS, *sorted(set(groups) - set(GROUPS)))


@dataclass(frozen=True, eq=False)
class Source:
    """What a scene's annotations are worked out from.

    Attributes:
        stage: where its objects were placed.
        world: what it is made of.
        captions: decides how it is described.
        questions: decides what is asked of it.
    """

    stage: Stage
    world: World
    captions: Dice
    questions: Dice


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture of several glyphs with its annotations, each of them computed when first asked for, and kept.

    Attributes:
        index: which of its data set it is.
        size: the picture's side in pixels: H and W.
        objects: what stands in it, from the farthest back to the front; every one shows.
        background: what is behind.
        labels: what the numbers of `label_map` mean.
    """

    index: int
    size: int
    objects: tuple[SceneObject, ...]
    background: Background
    labels: tuple[str, ...]
    _source: Source

    @cached_property
    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return self._source.stage.paint(self.background.picture)[0]

    @property
    def owner(self) -> np.ndarray:
        """(H, W) uint8: 0 where the background shows, else 1 + the index of the object whose pixel it is.

        A pixel is an object's where that has an alpha of at least 128 and no object before it has.
        """
        return self._source.stage.owner[0]

    @cached_property
    def boxes(self) -> np.ndarray:
        """(n, 4) int64: left, top, right, bottom in pixels, tight around the *visible* pixels of each object."""
        return self._source.stage.boxes()[0]

    @cached_property
    def masks(self) -> np.ndarray:
        """(n, H, W) bool: the visible pixels of each object; no two masks share one."""
        return self.owner == np.arange(1, len(self.objects) + 1, dtype=np.uint8)[:, None, None]

    @cached_property
    def label_map(self) -> np.ndarray:
        """(H, W) uint8: the number in `labels` of the group of the concept seen at each pixel; 0 for background."""
        numbers = [0, *(self.labels.index(one.concept.group) for one in self.objects)]
        return np.array(numbers, np.uint8)[self.owner]

    @cached_property
    def captions(self) -> tuple[Caption, ...]:
        """What the picture shows, in a sentence each, in English and Chinese; see `Caption.kind`."""
        return describe(self.objects, self.background, self.size, self._source.captions)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """One question of each kind that can be asked here without ambiguity, with its answer and its steps."""
        return ask(self.objects, self.size, self._source.world, self._source.questions)

    def run(self, program: Step) -> Value:
        """What a program gives on this scene's ground truth.

        Raises:
            VitrailError: it asks for the one of something there is not one of, or for a relation that is not clear.
        """
        return run(program, self.objects, self.size)
