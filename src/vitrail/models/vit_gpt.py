"""A Vision Transformer and a GPT that talks about what it sees: the patches stand in front of the question.

The image-question model that joins patch tokens and word tokens into one sequence, which one language model reads. Of
the published ones GIT (Wang et al. 2022, 2205.14100) and LLaVA (Liu et al. 2023, 2304.08485, §4.1) are nearest: a
linear map takes the encoder's tokens into the language model's space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.cache import Cache


@dataclass(frozen=True)
class ViTGPTConfig:
    """An encoder of pictures and a decoder of texts.

    Attributes:
        image: the encoder's numbers; it has no head, whatever its `classes`.
        text: the decoder's; its `context` counts tokens of text alone.
        turn: the token that every turn of a conversation begins with.
    """

    image: ViTConfig = field(default_factory=ViTConfig)
    text: GPT2Config = field(default_factory=GPT2Config)
    turn: int = 1

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels


class ViTGPT(LanguageModel):
    """[patches; question; answer], read by one GPT: a patch sees all patches, a word those and the words before it.

    A conversation is its turns one after another, each begun by the token `turn`; what the network says, it ends with
    `text.end`.
    """

    family: ClassVar[str] = "vit-gpt"
    config: ViTGPTConfig

    def __init__(self, config: ViTGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ViT(replace(config.image, classes=0))
        self.project = nn.Linear(config.image.width, config.text.width)
        self.text = GPT2(config.text)
        self.opening = (config.turn,)
        self.tied = {f"text.{second}": f"text.{first}" for second, first in self.text.tied.items()}
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """The decoder's."""
        return self.text.head

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return self.text.ends

    @property
    def context(self) -> int:
        """The most tokens of text that it reads."""
        return self.config.text.context

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the encoder's final tokens (B, 1 + N, D), the class token first."""
        return self.image.features(images)

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """Look at prepared pictures (B, C, H, W): the cache holds what their patches have become.

        Raises:
            UsageError: there is no picture.
        """
        if pixels is None:
            raise UsageError(f"{self.family} talks about a picture: show it one")
        patches = self.project(self.features(pixels)[:, self.image.prefix_tokens :])
        cache = Cache(len(self.text.blocks))
        cache.admit_prefix(patches.shape[1])
        self.text.run(patches, cache, None)
        return cache

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`."""
        return self.text.read(ids, cache, mask)

    def read_apart(self, ids: Tensor, parts: Tensor, cache: Cache) -> Tensor:
        """Read several conversations about the same picture at once, none of which sees another.

        Args:
            ids: (B, N) int64, one conversation behind the other.
            parts: (B, N) int64, the number of the conversation that a token belongs to.
            cache: as `start` gave it.

        Returns:
            What the tokens have become, (B, N, D), as if each conversation had been read alone.
        """
        count = ids.shape[1]
        first = torch.ones_like(parts, dtype=torch.bool)
        first[:, 1:] = parts[:, 1:] != parts[:, :-1]
        places = torch.arange(count, device=ids.device)
        positions = places - torch.where(first, places, 0).cummax(1).values
        positions = positions.clamp(max=self.context - 1)  # what fills up a row may be longer
        own = (parts[:, :, None] == parts[:, None]) & (places[:, None] >= places)
        visible = torch.cat([own.new_ones(*own.shape[:2], cache.length), own], 2)[:, None]
        return self.text.run(self.text.tokens(ids) + self.text.positions(positions), cache, visible)

    def transcript(self, turns: Sequence[Turn], language: str = "en") -> tuple[list[int], list[bool]]:
        """A conversation as ids, and which of them the network is to say.

        Raises:
            UsageError: the network has no tokenizer, or no text in this language.
        """
        return self._spelled(self._asked(turns, language), lambda turn: [self.config.turn])

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """See `LanguageModel.prompt`."""
        if len(pictures) != 1:
            raise UsageError(f"{self.family} talks about one picture, and not {len(pictures)}")
        ids = [*self.transcript(turns, language)[0], *self.opening]
        if len(ids) >= self.config.text.context:
            raise UsageError(
                f"{len(ids)} tokens leave no room for an answer: this network reads {self.config.text.context}"
            )
        return Prompt(self.preprocess(pictures[0]), torch.tensor([ids]))
