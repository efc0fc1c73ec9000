"""CLIP's text tower by itself: what tells Stable Diffusion what to draw.

Radford et al. 2021 (2103.00020), §2.4; read token by token, as in Rombach et al. 2022 (2112.10752), §3.3.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.clip import CLIP, CLIPText, CLIPTextConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer, token_ids


@dataclass(frozen=True)
class CLIPTextEncoderConfig:
    """A text tower, and the space its vectors are projected to; the defaults are those of Stable Diffusion 1.

    Attributes:
        text: the tower's numbers.
        width: E, the width of the space it shares with pictures; None where the projection was left out.
    """

    text: CLIPTextConfig = field(default_factory=lambda: CLIPTextConfig(width=768, heads=12, mlp_width=3072))
    width: int | None = None


class CLIPTextEncoder(Model):
    """Texts -> a token each place, or one vector each text."""

    family: ClassVar[str] = "clip-text"
    reads: ClassVar[bool] = True
    config: CLIPTextEncoderConfig

    def __init__(self, config: CLIPTextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.text = CLIPText(config.text)
        self.projection: nn.Module = nn.Identity()
        if config.width is not None:
            self.projection = nn.Linear(config.text.width, config.width, bias=False)
            nn.init.normal_(self.projection.weight, std=config.text.width**-0.5)
        self.head = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) int64 -> final tokens (B, N, D)."""
        return self.text(ids)

    def read(self, ids: Tensor, skip: int = 0, *, norm: bool = True) -> tuple[Tensor, Tensor]:
        """What a diffusion model reads of a text.

        Args:
            ids: token ids (B, N) int64.
            skip: how many blocks from the end the tokens are taken, 0 for behind the last: one less than what others
                call "clip skip".
            norm: whether the last norm is laid on those tokens.

        Returns:
            Tokens (B, N, D); and the vector of each text (B, E), which always has all blocks and the norm behind it.

        Raises:
            ValueError: there are more tokens than positions.
        """
        text = self.text
        final = tokens = text.hidden(ids, skip)
        for number in range(len(text.blocks) - skip, len(text.blocks)):
            final = text.blocks[number](final, causal=True)
        final = text.norm(final)
        vector = self.projection(final[torch.arange(ids.shape[0], device=ids.device), text.ends(ids)])
        return text.norm(tokens) if norm else tokens, vector

    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        """Texts, or the ids (B, N) that the tokenizer makes of them, -> (B, E), or (B, D) without a projection.

        Raises:
            UsageError: texts are given to a network without a tokenizer.
        """
        ids = token_ids(texts, self.tokenizer)
        return self.projection(self.text.vector(ids.to(self.text.positions.device)))


def prompt_ids(prompts: Sequence[str], tokenizer: Tokenizer) -> Tensor:
    """Prompts -> token ids (B, N); what is longer than the context is cut, and said in a warning.

    Raises:
        UsageError: something is no text.
    """
    ids = tokenizer(prompts)
    room = tokenizer.context - tokenizer.backend.num_special_tokens_to_add(is_pair=False)
    for prompt in prompts:
        lost = tokenizer.plain(prompt)[room:]
        if lost:
            warnings.warn(
                f"the prompt is longer than the {room} tokens that the network reads: not read is "
                f"'{tokenizer.decode(lost).strip()}'",
                stacklevel=3,
            )
    return ids


def text_tower(clip: CLIP) -> CLIPTextEncoder:
    """The half of a CLIP that reads, as a network of its own that shares its weights.

    Raises:
        UsageError: that half is a BERT.
    """
    text, config = clip.text, clip.config.text
    if not (isinstance(text, CLIPText) and isinstance(config, CLIPTextConfig)):
        raise UsageError("the text tower of this CLIP is a BERT, and diffusion models here read with CLIP's own kind")
    with torch.device("meta"):
        tower = CLIPTextEncoder(CLIPTextEncoderConfig(config, clip.config.width))
    tower.text, tower.projection, tower.tokenizer = text, clip.text_projection, clip.tokenizer
    return tower
