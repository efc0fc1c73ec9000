"""Perceiver IO on several senses at once: video, sound and a label go into one array and come out of one.

Jaegle et al., "Perceiver IO", ICLR 2022 (2107.14795), §4.3 and §F. A picture is a video of one frame; what is not given
is one learned token; so one network takes pictures, moving pictures and sounds.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.model import Model
from vitrail.models.perceiver import QUERIES_AT_ONCE, CrossBlock, Latents, LatentsConfig, initialise
from vitrail.models.perceiver_inputs import FourierGrid, fourier_features, fourier_width


@dataclass(frozen=True)
class PerceiverMultimodalConfig:
    """The numbers of a multimodal Perceiver IO; the defaults are deepmind/multimodal-perceiver.

    Attributes:
        frames: T, frames of the videos it is trained on.
        image_size: (height, width) of a frame, in pixels.
        channels: channels of a frame.
        patch_size: side of the squares that a frame is cut into, in pixels.
        video_bands: frequencies of the Fourier features along time, rows and columns.
        samples: S, samples of the sounds it is trained on.
        samples_per_patch: samples in one element of a sound.
        audio_bands: frequencies of the Fourier features along a sound.
        classes: how many labels there are.
        label_width: width of the query for the label.
        answer_width: width of what every query reads, before it is turned into pixels, samples or logits.
        padding: channels that the widest sense gets for its learned vector; the others are filled up with theirs.
        query_padding: the same for the queries.
        latents: the latent array.
    """

    frames: int = 16
    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    patch_size: int = 4
    video_bands: int = 32
    samples: int = 30720
    samples_per_patch: int = 16
    audio_bands: int = 192
    classes: int = 700
    label_width: int = 1024
    answer_width: int = 512
    padding: int = 4
    query_padding: int = 2
    latents: LatentsConfig = field(
        default_factory=lambda: LatentsConfig(count=784, width=512, depth=8, repeats=1, heads=8)
    )

    @property
    def video_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a video: there is a query for each."""
        return (self.frames, *self.image_size)

    @property
    def video_resolution(self) -> tuple[int, int, int]:
        """Frames, rows and columns of patches: its Nyquist frequencies are the highest, of inputs and queries."""
        return self.frames, self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def audio_patches(self) -> int:
        """Patches of a sound: there is a query for each."""
        return self.samples // self.samples_per_patch


class Reconstruction(NamedTuple):
    """What an autoencoder makes of what it was given.

    Attributes:
        videos: (B, C, T, H, W), pixels in [0, 1] as far as it has learned to.
        audio: (B, S, 1), samples in [-1, 1] likewise.
        logits: (B, classes).
    """

    videos: Tensor
    audio: Tensor
    logits: Tensor


class PerceiverMultimodal(Model):
    """Senses side by side in one array, latents between, a query for every pixel, every stretch of sound and the label.

    Called, it classifies; `autoencode` gives everything back.
    """

    family: ClassVar[str] = "perceiver-multimodal"
    config: PerceiverMultimodalConfig

    def __init__(self, config: PerceiverMultimodalConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = FourierGrid(config.samples_per_patch, config.audio_bands, (config.samples,))
        self.video = FourierGrid(config.channels * config.patch_size**2, config.video_bands, config.video_resolution)
        widths = {"audio": self.audio.width, "video": self.video.width, "label": config.classes}
        width = max(widths.values()) + config.padding
        self.padding = _vectors({sense: width - own for sense, own in widths.items()})
        self.absent = _vectors(dict.fromkeys(widths, width))
        self.latents = Latents(config.latents, width)

        query_widths = config.label_width, fourier_width(3, config.video_bands), fourier_width(1, config.audio_bands)
        query_width = max(query_widths) + config.query_padding
        self.video_queries = Places(config.video_shape, config.video_bands, config.video_resolution, query_width)
        self.audio_queries = Places((config.audio_patches,), config.audio_bands, (config.samples,), query_width)
        self.query = _vector(config.label_width)
        self.query_padding = _vector(query_width - config.label_width)
        self.answer = CrossBlock(query_width, config.latents.width, config.latents, residual=False)
        self.project = nn.Linear(query_width, config.answer_width)
        self.to_audio = nn.Linear(config.answer_width, config.samples_per_patch)
        self.to_video = nn.Linear(config.answer_width, config.channels)
        self.head = nn.Linear(config.answer_width, config.classes)
        self.apply(initialise)

    def forward(self, videos: Tensor | None = None, audio: Tensor | None = None) -> Tensor:
        """Videos, sounds or both, as `features` takes them -> logits (B, classes)."""
        return self.head(self.pool(self.features(videos, audio)))

    def autoencode(self, videos: Tensor | None = None, audio: Tensor | None = None) -> Reconstruction:
        """Give everything back as the latents hold it, in the sizes the network was trained on, whatever was given.

        At the published size that is 802,816 pixels, each with its own query: of minutes on a processor.

        Args and errors are those of `features`.
        """
        latents = self.features(videos, audio)
        device = latents.device
        pixels = self.video_at(latents, torch.arange(math.prod(self.config.video_shape), device=device))
        sound = self.audio_at(latents, torch.arange(self.config.audio_patches, device=device))
        return Reconstruction(
            pixels.mT.unflatten(2, self.config.video_shape), sound.flatten(1)[..., None], self.head(self.pool(latents))
        )

    def features(
        self, videos: Tensor | None = None, audio: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Whatever is there -> the final latents (B, N, D).

        Args:
            videos: (B, C, T, H, W), or pictures (B, C, H, W); pixels in [0, 1]. Of any length, and any size that can
                be cut into patches: places are relative to the whole.
            audio: (B, S, 1), samples in [-1, 1]; S any multiple of a patch's.
            label: (B, classes), one-hot; while learning, to be given to some and not to others (§F).

        Raises:
            UsageError: nothing is given, or not as many of one as of the other.
            ValueError: something cannot be cut into patches.
        """
        given = {"audio": audio, "video": videos, "label": label}
        counts = {len(signal) for signal in given.values() if signal is not None}
        if len(counts) != 1:
            raise UsageError("this network takes videos, sounds or both, and then as many of the one as of the other")
        (count,) = counts
        elements = {
            "audio": None if audio is None else self.audio(self._cut_audio(audio)),
            "video": None if videos is None else self.video(self._cut_videos(videos)),
            "label": None if label is None else label[:, None],
        }
        return self.latents(torch.cat([self._told_apart(sense, elements[sense], count) for sense in elements], 1))

    def pool(self, features: Tensor) -> Tensor:
        """Latents (B, N, D) -> what the query for the label reads in them, (B, answer_width)."""
        return self._ask(torch.cat([self.query, self.query_padding], 1), features)[:, 0]

    def video_at(self, features: Tensor, points: Tensor, at_once: int = QUERIES_AT_ONCE) -> Tensor:
        """Some pixels of the video that the latents hold.

        Args:
            features: (B, N, D).
            points: (Q,) int64, which pixels, counted row by row and frame by frame in a video of `config.video_shape`.
            at_once: the most queries that are answered at once, to bound the memory.

        Returns:
            (B, Q, C).
        """
        asked = (self._ask(self.video_queries(some), features) for some in points.split(at_once))
        return torch.cat([self.to_video(read) for read in asked], 1)

    def audio_at(self, features: Tensor, points: Tensor, at_once: int = QUERIES_AT_ONCE) -> Tensor:
        """Some stretches of the sound that the latents hold.

        Args:
            features: (B, N, D).
            points: (Q,) int64, which stretches of `samples_per_patch`, of `config.audio_patches`.
            at_once: the most queries that are answered at once, to bound the memory.

        Returns:
            (B, Q, samples_per_patch).
        """
        asked = (self._ask(self.audio_queries(some), features) for some in points.split(at_once))
        return torch.cat([self.to_audio(read) for read in asked], 1)

    def _ask(self, queries: Tensor, features: Tensor) -> Tensor:
        """Queries (Q, width), latents (B, N, D) -> what they read, (B, Q, answer_width)."""
        return self.project(self.answer(queries.expand(len(features), -1, -1), features))

    def _told_apart(self, sense: str, elements: Tensor | None, count: int) -> Tensor:
        """A sense in the width of all, filled up with its own learned vector: (B, M, C); (B, 1, C) of an absent one."""
        if elements is None:
            return self.absent[sense].expand(count, 1, -1)
        return torch.cat([elements, self.padding[sense].expand(*elements.shape[:2], -1)], 2)

    def _cut_videos(self, videos: Tensor) -> Tensor:
        """(B, C, T, H, W) or (B, C, H, W) -> (B, p² C, T, H / p, W / p); the channels of a pixel stay together."""
        videos = videos if videos.dim() == 5 else videos[:, :, None]
        channels, (height, width), side = videos.shape[1], videos.shape[3:], self.config.patch_size
        if channels != self.config.channels or height % side or width % side:
            raise ValueError(
                f"a video of {channels} channels and {height}×{width} pixels cannot be cut into {side}×{side} patches "
                f"of {self.config.channels} channels"
            )
        cut = videos.unflatten(4, (-1, side)).unflatten(3, (-1, side))  # (B, C, T, rows, p, columns, p)
        return cut.permute(0, 4, 6, 1, 2, 3, 5).flatten(1, 3)

    def _cut_audio(self, audio: Tensor) -> Tensor:
        """(B, S, 1) -> (B, samples_per_patch, S / samples_per_patch)."""
        length = self.config.samples_per_patch
        if audio.shape[1] % length:
            raise ValueError(f"a sound of {audio.shape[1]} samples cannot be cut into stretches of {length}")
        return audio.reshape(len(audio), -1, length).mT


class Places(nn.Module):
    """Queries for places in a grid: their Fourier features, filled up with a learned vector that says which grid it is.

    The first element of a dimension of n lies at -1 and the last at 1 - 2 / n, as in the reference; inputs, which reach
    from -1 to 1, lie a little elsewhere.

    Args:
        shape: of the grid.
        bands: frequencies along each dimension.
        resolution: by which the highest frequencies are chosen.
        width: of a query.
    """

    def __init__(self, shape: tuple[int, ...], bands: int, resolution: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.shape, self.bands, self.resolution = shape, bands, resolution
        self.padding = _vector(width - fourier_width(len(shape), bands))

    def forward(self, points: Tensor) -> Tensor:
        """(Q,) int64, counted along the last dimension first -> (Q, width)."""
        indices = torch.stack(torch.unravel_index(points, self.shape), 1)
        positions = -1 + 2 * indices / torch.tensor(self.shape, device=points.device)
        places = fourier_features(positions, self.bands, self.resolution).to(self.padding.dtype)
        return torch.cat([places, self.padding.expand(len(points), -1)], 1)


def _vector(width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, width), std=0.02))


def _vectors(widths: dict[str, int]) -> nn.ParameterDict:
    return nn.ParameterDict({sense: _vector(width) for sense, width in widths.items()})
