"""Pictures, films and sounds side by side, each with its own classes, as a source of training data."""

from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from vitrail.data.emoji.load import load_glyphs
from vitrail.data.emoji_sources import Count, check_subgroups, distinct_names, training_styles
from vitrail.data.generated import MOST_CONCEPTS, generate_glyphs
from vitrail.data.glyphs import GlyphTable
from vitrail.data.scenes import Scenes
from vitrail.data.scenes.motion import MOTIONS
from vitrail.data.scenes.things import nameable
from vitrail.data.sounds import KINDS, Sounds
from vitrail.data.source import Batch, Data, to_tensor
from vitrail.errors import UsageError
from vitrail.settings import Section

SENSES = ("picture", "video", "sound")
"""In the order of a batch's targets, and of the classes."""

_BINS = 64  # of a drawn spectrogram, each of 62.5 Hz


class SensesSection(Section):
    """One thing on a background, one thing that moves, and a sound: name the thing, the motion and the kind of sound.

    An item is one of each, which have nothing to do with each other.

    Attributes:
        hold_out_style: the art style that pictures and films are tested in; null tests other scenes of the same glyphs.
        subgroups: the narrow kinds of concepts that take part ("food-fruit"); null for all.
        frames: pictures of a film, at least 4.
        samples: of a sound, at 8,000 a second.
        length: how many items there are to train on.
        test_length: how many others to test on.
        generated: draw so many concepts by a few lines of code instead of reading Emoji World: for tests and trials.
    """

    source: Literal["senses"]
    hold_out_style: str | None = None
    subgroups: tuple[str, ...] | None = None
    frames: Annotated[int, Field(ge=4)] = 8
    samples: Annotated[int, Field(ge=1024)] = 4096
    length: Count = 1_000_000
    test_length: Count = 1_000
    generated: Annotated[int, Field(ge=0, le=MOST_CONCEPTS)] = 0

    def open(self, size: tuple[int, int]) -> Data:
        """Make scenes of `size` = (height, width), which must be square, and sounds ready."""
        if size[0] != size[1]:
            raise UsageError(f"scenes are square, and model.image_size is {size}")
        table = generate_glyphs(self.generated, size=size[0]) if self.generated else load_glyphs()
        styles = training_styles(table, self.hold_out_style, None)
        check_subgroups(table, self.subgroups)
        codes = tuple(
            code
            for code, concept in table.concepts.items()
            if nameable(concept) and (self.subgroups is None or concept.subgroup in self.subgroups)
        )
        train = table.select(styles=styles, concepts=codes, skin_tones=["none"])
        test = (
            train
            if self.hold_out_style is None
            else table.select(styles=[self.hold_out_style], concepts=train.concepts)
        )
        if not len(train) or not len(test):
            raise UsageError("data: there are no glyphs of these styles and concepts")
        codes = tuple(train.concepts)
        unseen = f"unseen style {self.hold_out_style}" if self.hold_out_style else "unseen scenes of seen glyphs"
        starts = np.cumsum([0, len(codes), len(MOTIONS), len(KINDS)]).tolist()
        return Data(
            train=self._items(train, codes, size[0], self.length, seed=0),
            test=self._items(test, codes, size[0], self.test_length, seed=1),
            labels=(
                *distinct_names(train, codes),
                *(f"video: {motion}" for motion in MOTIONS),
                *(f"sound: {kind}" for kind in KINDS),
            ),
            many=False,
            split=f"{unseen}, and unheard sounds",
            senses=dict(zip(SENSES, map(range, starts[:-1], starts[1:]), strict=True)),
        )

    def _items(self, table: GlyphTable, codes: tuple[str, ...], size: int, length: int, seed: int) -> "SenseItems":
        return SenseItems(
            Scenes(table, length=length, size=size, count=(1, 1), seed=seed),
            Sounds(length=length, samples=self.samples, seed=seed),
            codes,
            self.frames,
        )


class SenseItems:
    """Items of a picture, a film and a sound each.

    Args:
        scenes: of one object each, still and moving.
        sounds: as many.
        codes: the concepts' codes in the order of the classes; motions and kinds of sounds come after them.
        frames: pictures of a film.
    """

    def __init__(self, scenes: Scenes, sounds: Sounds, codes: tuple[str, ...], frames: int) -> None:
        self.scenes, self.sounds, self.frames = scenes, sounds, frames
        self.codes = {code: index for index, code in enumerate(codes)}

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look. In a test there are pictures of all three to look at, too."""
        scenes = [self.scenes[index] for index in indices.tolist()]
        videos = [self.scenes.video(index, self.frames) for index in indices.tolist()]
        sounds = [self.sounds[index] for index in indices.tolist()]
        named = [self.codes[scene.objects[0].concept.code] for scene in scenes]
        moved = [len(self.codes) + MOTIONS.index(video.motions[0].kind) for video in videos]
        heard = [len(self.codes) + len(MOTIONS) + kind for _, kind in sounds]
        frames = torch.from_numpy(np.stack([video.frames for video in videos])).permute(0, 4, 1, 2, 3).contiguous()
        batch: Batch = {
            "images": to_tensor([scene.picture for scene in scenes]),
            "videos": frames,
            "sounds": torch.from_numpy(np.stack([wave for wave, _ in sounds])),
            "targets": torch.tensor([named, moved, heard]).mT.contiguous(),
        }
        if generator is None:
            batch["shown"] = draw_senses(batch["images"], frames, batch["sounds"])
        return batch


def draw_senses(images: Tensor, videos: Tensor, sounds: Tensor) -> Tensor:
    """A picture of each item: on top the still picture and its sound's spectrogram, below four frames of its film.

    Args:
        images: (B, 3, S, S) uint8.
        videos: (B, 3, T, S, S) uint8.
        sounds: (B, samples) float32 in [-1, 1].

    Returns:
        (B, 3, 3 S, 4 S) uint8. The spectrogram's time runs to the right and its frequency up, to the Nyquist frequency.
    """
    side = images.shape[-1]
    window = torch.hann_window(2 * _BINS, device=sounds.device)
    power = torch.stft(sounds, 2 * _BINS, _BINS, window=window, return_complex=True).abs()[:, 1:].flip(1)
    decibels = (1 + 20 * power.clamp(min=1e-3).log10() / 60).clamp(0, 1)  # from 60 dB below 1 to 1
    heard = F.interpolate(decibels[:, None], (2 * side, 2 * side)).mul(255).byte().expand(-1, 3, -1, -1)
    still = F.interpolate(images, scale_factor=2, mode="nearest")
    shown = torch.linspace(0, videos.shape[2] - 1, 4).round().long()
    film = videos[:, :, shown].permute(0, 1, 3, 2, 4).flatten(3)
    return torch.cat([torch.cat([still, heard], 3), film], 2)
