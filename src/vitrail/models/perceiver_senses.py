"""One Perceiver that names what it is given: a picture, a film or a sound, or several of them at once.

Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021 (2103.03206), §4.2: films in patches
of space and time, sounds in stretches of samples, each filled up with a learned vector that says which sense it comes
by, in one array. The answer is read out by a query, as in "Perceiver IO", ICLR 2022 (2107.14795), §3.2. What is not in
the papers is the small MLP that each patch goes through first: a few dozen latents cannot be the edge detectors, too.
Before it, patches of pictures are normalised (Kumar et al., "Dual PatchNorm", 2023, 2302.01327): what moves is told by
how a patch changes, whatever its brightness. Sounds are not, whose loudness says what they are.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.model import Model
from vitrail.models.perceiver import CrossBlock, Latents, LatentsConfig, initialise
from vitrail.models.perceiver_inputs import FourierGrid
from vitrail.nn.patches import pair

SENSES = ("picture", "video", "sound")


@dataclass(frozen=True)
class PerceiverSensesConfig:
    """The numbers of a Perceiver for pictures, films and sounds; the defaults are those of its recipe.

    Attributes:
        image_size: side, or (height, width), of a picture or a frame, in pixels.
        channels: channels of a frame.
        frames: T, frames of the films it is trained on.
        patch_size: side of a patch, in pixels.
        patch_frames: frames that a patch is long. A picture is as many times the same.
        bands: frequencies of the Fourier features along time, rows and columns.
        samples: S, samples of the sounds it is trained on.
        samples_per_patch: samples of a sound that are one element.
        sound_bands: frequencies of the Fourier features along a sound.
        element_width: what each patch becomes, before its place is put behind it.
        padding: channels of the learned vector of the sense whose places take the most; the others' are longer.
        latents: the latent array.
        classes: outputs of the head, of all senses together.
    """

    image_size: int | tuple[int, int] = 32
    channels: int = 3
    frames: int = 6
    patch_size: int = 4
    patch_frames: int = 6
    bands: int = 8
    samples: int = 4096
    samples_per_patch: int = 64
    sound_bands: int = 25
    element_width: int = 128
    padding: int = 5
    latents: LatentsConfig = field(
        default_factory=lambda: LatentsConfig(
            count=32,
            width=128,
            depth=2,
            repeats=1,
            heads=4,
            read_heads=4,
            widening=2,
            read_widening=2,
            attend_in="queries",
        )
    )
    classes: int = 1000


class PerceiverSenses(Model):
    """Patches of whatever is given, in one array; latents that read it; a query that reads the class in them."""

    family: ClassVar[str] = "perceiver-senses"
    config: PerceiverSensesConfig

    def __init__(self, config: PerceiverSensesConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = (side // config.patch_size for side in pair(config.image_size))
        width, pixels = config.element_width, config.channels * config.patch_frames * config.patch_size**2
        self.see = nn.Sequential(nn.LayerNorm(pixels), nn.Linear(pixels, width), nn.GELU(), nn.Linear(width, width))
        self.hear = nn.Sequential(nn.Linear(config.samples_per_patch, width), nn.GELU(), nn.Linear(width, width))
        self.seen = FourierGrid(width, config.bands, (config.frames // config.patch_frames, rows, columns))
        self.heard = FourierGrid(width, config.sound_bands, (config.samples // config.samples_per_patch,))
        full = max(self.seen.width, self.heard.width) + config.padding
        own = {"picture": self.seen.width, "video": self.seen.width, "sound": self.heard.width}
        self.sense = nn.ParameterDict({name: torch.zeros(full - own[name]) for name in SENSES})
        self.latents = Latents(config.latents, full)
        self.query = nn.Parameter(torch.zeros(1, config.latents.width))
        self.answer = CrossBlock(config.latents.width, config.latents.width, config.latents)
        self.head = nn.Linear(config.latents.width, config.classes) if config.classes else nn.Identity()
        self.apply(initialise)
        for vector in (self.query, *self.sense.values()):
            nn.init.trunc_normal_(vector, std=0.02)

    def forward(
        self, images: Tensor | None = None, *, videos: Tensor | None = None, sounds: Tensor | None = None
    ) -> Tensor:
        """What `features` takes -> logits (B, classes), or the pooled vector (B, D) where there is no head."""
        return self.head(self.pool(self.features(images, videos=videos, sounds=sounds)))

    def features(
        self, images: Tensor | None = None, *, videos: Tensor | None = None, sounds: Tensor | None = None
    ) -> Tensor:
        """Whatever is given -> the final latents (B, N, D). Several at once is another task, to be trained for.

        Args:
            images: (B, C, H, W), as `preprocess` gives them; of any size that can be cut into patches.
            videos: (B, C, T, H, W), each frame likewise; of any length that can be.
            sounds: (B, S) float in [-1, 1]; S likewise.

        Raises:
            UsageError: nothing is given, or not as many of one as of another, or something cannot be cut into patches.
        """
        arrays = []
        if images is not None:
            arrays.append(self._elements("picture", self.seen(self._see(self._still(images)))))
        if videos is not None:
            arrays.append(self._elements("video", self.seen(self._see(videos))))
        if sounds is not None:
            arrays.append(self._elements("sound", self.heard(self._hear(sounds))))
        if len({len(array) for array in arrays}) != 1:
            raise UsageError("this network takes pictures, films or sounds; of several of them, as many of each")
        return self.latents(torch.cat(arrays, 1))

    def pool(self, features: Tensor) -> Tensor:
        """Latents (B, N, D) -> what the query for the class reads in them, (B, D)."""
        return self.answer(self.query.expand(len(features), -1, -1), features)[:, 0]

    def _elements(self, sense: str, elements: Tensor) -> Tensor:
        """(B, M, C') -> (B, M, C), filled up with the sense's own vector."""
        return torch.cat([elements, self.sense[sense].expand(*elements.shape[:2], -1)], 2)

    def _still(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> a film in which nothing moves, one patch long."""
        return images[:, :, None].expand(-1, -1, self.config.patch_frames, -1, -1)

    def _see(self, videos: Tensor) -> Tensor:
        """(B, C, T, H, W) -> a grid of elements (B, width, T / t, H / p, W / p)."""
        channels, *shape = videos.shape[1:]
        steps = (self.config.patch_frames, self.config.patch_size, self.config.patch_size)
        if channels != self.config.channels or any(side % step for side, step in zip(shape, steps, strict=True)):
            raise UsageError(
                f"a film of {channels} channels, {shape[0]} frames and {shape[1]}×{shape[2]} pixels cannot be cut into "
                f"patches of {self.config.channels} channels, {steps[0]} frames and {steps[1]}×{steps[2]} pixels"
            )
        for dimension, step in zip((2, 4, 6), steps, strict=True):
            videos = videos.unflatten(dimension, (-1, step))
        patches = videos.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, T / t, H / p, W / p, C t p²)
        return self.see(patches).movedim(-1, 1)

    def _hear(self, sounds: Tensor) -> Tensor:
        """(B, S) -> a row of elements (B, width, S / samples)."""
        step = self.config.samples_per_patch
        if sounds.dim() != 2 or sounds.shape[1] % step:
            raise UsageError(f"sounds are (B, S) with S a multiple of {step} samples, not {tuple(sounds.shape)}")
        return self.hear(sounds.unflatten(1, (-1, step))).mT
