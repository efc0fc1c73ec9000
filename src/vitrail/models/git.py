"""GIT: a picture's tokens in front of a text's, and one transformer that says what comes next.

Wang et al., "GIT: A Generative Image-to-text Transformer for Vision and Language", TMLR 2022 (2205.14100); what the
paper leaves open as in transformers' GitForCausalLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.models.bert import initialise
from vitrail.models.clip import CLIPImage, CLIPImageConfig
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.nn.cache import Cache
from vitrail.nn.mlp import MLP
from vitrail.nn.transformer import PostNormBlock


@dataclass(frozen=True)
class GITConfig:
    """The numbers of a GIT; the defaults are those of Microsoft's git-base.

    Attributes:
        image: the picture tower's numbers, a CLIP's.
        vocabulary: how many different tokens there are.
        context: the most tokens of a text.
        width: D, the width of a token in the decoder.
        depth: the decoder's number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the decoder's layer norms.
        frames: the most pictures of a video (§3.3); 0 for a network that reads single pictures only.
        begin: the token that begins a text, [CLS].
        ends: the tokens that end it, [SEP].
    """

    image: CLIPImageConfig = field(default_factory=lambda: CLIPImageConfig(patch_size=16))
    vocabulary: int = 30522
    context: int = 1024
    width: int = 768
    depth: int = 6
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    frames: int = 0
    begin: int = 101
    ends: tuple[int, ...] = (102,)

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels


class GIT(LanguageModel):
    """A picture tower and a decoder whose tokens see all of the picture and the text before them (Figures 2 and 3).

    It captions a picture, or answers one question about it: which of the two a checkpoint was trained for its name says
    and its config does not.
    """

    family: ClassVar[str] = "git"
    config: GITConfig

    def __init__(self, config: GITConfig) -> None:
        super().__init__()
        self.config = config
        self.most_pictures = max(1, config.frames)
        image, width = config.image, config.width
        self.image = CLIPImage(image, None)
        self.times = nn.Parameter(torch.zeros(config.frames, 1, image.width)) if config.frames else None
        self.projection = nn.Sequential(nn.Linear(image.width, width), nn.LayerNorm(width, eps=image.norm_eps))
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.empty(config.context, width).normal_(std=0.02))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                width,
                config.heads,
                MLP(width, config.mlp_width, act=config.activation),
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.head = nn.Linear(width, config.vocabulary)
        for part in (self.projection, self.tokens, self.blocks, self.head):
            part.apply(initialise)

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return self.config.ends

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, C, H, W), or videos (B, F, C, H, W), -> the tokens that a text sees, (B, 1 + N, D).

        Each picture of a video has so many, one after the other: (B, F · (1 + N), D).

        Raises:
            UsageError: a video has more pictures than the network tells apart.
        """
        if images.ndim == 4:
            return self.projection(self.image(images))
        count = images.shape[1]
        if self.times is None:
            raise UsageError(f"this GIT reads one picture, not a video of {count}")
        if count > len(self.times):
            raise UsageError(f"this GIT reads videos of at most {len(self.times)} pictures, not {count}")
        tokens = self.image(images.flatten(0, 1)).unflatten(0, images.shape[:2]) + self.times[:count]
        return self.projection(tokens.flatten(1, 2))

    def pool(self, features: Tensor) -> Tensor:
        """There is no one vector.

        Raises:
            UsageError: always.
        """
        raise UsageError("GIT has no vector for a picture: it writes about one; take a CLIP, a SigLIP or a DINOv2")

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        """Look at pictures (B, C, H, W), or videos (B, F, C, H, W); their tokens see each other and no text (Figure 3).

        Raises:
            UsageError: there are none, or a video is too long.
        """
        if pixels is None:
            raise UsageError("GIT writes about a picture: give it one")
        tokens, cache = self.features(pixels), Cache(len(self.blocks))
        cache.admit_prefix(tokens.shape[1])
        self._run(tokens, cache, None)
        return cache

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`."""
        positions, visible = cache.admit(ids, mask)
        length = cache.length - cache.prefix
        if length > self.config.context:
            raise ValueError(f"a text of {length} tokens is too long: this network reads {self.config.context}")
        return self._run(self.norm(self.tokens(ids) + self.positions[positions]), cache, visible)

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """[CLS] for a caption, [CLS] and the question for an answer, as the publisher's examples have it.

        Several pictures are one video's, in order, where the network reads videos.

        Raises:
            UsageError: it is asked in Chinese, about several pictures, after examples, or with too long a question.
        """
        if language != "en":
            raise UsageError(f"GIT reads and writes English only, not '{language}'")
        if len(turns) != 1:
            raise UsageError("GIT answers one question about one picture: it takes no examples and remembers no turns")
        most = max(1, self.config.frames)
        if not 1 <= len(pictures) <= most:
            wanted = "one picture" if most == 1 else f"1 to {most} pictures of a video"
            raise UsageError(f"this GIT reads {wanted}, not {len(pictures)}")
        ids = [self.config.begin]
        if turns[0].text:
            if self.tokenizer is None:
                raise UsageError("this GIT came without a tokenizer, so it cannot read a question: set its `tokenizer`")
            ids += self.tokenizer.plain(turns[0].text)
        if len(ids) >= self.config.context:
            raise UsageError(
                f"a question of {len(ids)} tokens leaves no room for an answer: GIT reads {self.config.context}"
            )
        pixels = self.preprocess(list(pictures))
        return Prompt(pixels[None] if self.config.frames else pixels, torch.tensor([ids]))

    def _run(self, tokens: Tensor, cache: Cache, visible: Tensor | None) -> Tensor:
        """Embedded tokens (B, n, D), which see what `visible` says of the cache and themselves, -> (B, n, D)."""
        for block, past in zip(self.blocks, cache.layers, strict=True):
            tokens = block(tokens, visible, past=past)
        return tokens
