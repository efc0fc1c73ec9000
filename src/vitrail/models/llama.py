"""LLaMA: GPT's successor, with rotary positions, root-mean-square norms and gated MLPs.

Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023 (2302.13971), §2.2; shared keys and values
from LLaMA 2 (2307.09288), §2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vitrail.imaging.open import Picture
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.nn.cache import Cache, KeyValues
from vitrail.nn.mlp import SwiGLU
from vitrail.nn.rotary import Rotary, RotaryAttention, Stretch


@dataclass(frozen=True)
class LlamaConfig:
    """The numbers of a LLaMA; the defaults are the 7B's (Table 2).

    Attributes:
        vocabulary: how many different tokens there are.
        context: the most tokens it reads.
        width: D, the width of a token.
        depth: the number of blocks.
        heads: attention heads in a block.
        kv_heads: how many keys and values they share.
        mlp_width: hidden width of a block's MLP.
        norm_eps: ε of the norms.
        rotary_base: the base of the rotary positions.
        tied: whether the head is the embedding.
        start: the token that every text begins with.
        end: the tokens that end a text.
        stretch: how the rotary positions were slowed down for longer texts; None for not at all.
    """

    vocabulary: int = 32000
    context: int = 2048
    width: int = 4096
    depth: int = 32
    heads: int = 32
    kv_heads: int = 32
    mlp_width: int = 11008
    norm_eps: float = 1e-6
    rotary_base: float = 10000.0
    tied: bool = False
    start: int = 1
    end: tuple[int, ...] = (2,)
    stretch: Stretch | None = None


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)), with root-mean-square norms (§2.2)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.attention = RotaryAttention(config.width, config.heads, config.kv_heads)
        self.norm2 = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = SwiGLU(config.width, config.mlp_width, bias=False)

    def forward(
        self, tokens: Tensor, angles: tuple[Tensor, Tensor], visible: Tensor | None, past: KeyValues | None = None
    ) -> Tensor:
        """(B, n, D) -> (B, n, D); arguments as `RotaryAttention` takes them."""
        tokens = tokens + self.attention(self.norm1(tokens), angles, visible, past)
        return tokens + self.mlp(self.norm2(tokens))


class Llama(LanguageModel):
    """Tokens; blocks of attention to what came before; a last norm and a head."""

    family: ClassVar[str] = "llama"
    config: LlamaConfig
    most_pictures: int | None = 0

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.rotary = Rotary(config.width // config.heads, config.rotary_base, config.stretch)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.tokens.weight
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    @property
    def tied(self) -> Mapping[str, str]:  # type: ignore[override]
        """The head, where it is the embedding."""
        return {"head.weight": "tokens.weight"} if self.config.tied else {}

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return self.config.end

    def start(self, pixels: Tensor | None = None, rows: int = 1) -> Cache:
        """What the network knows before it reads: nothing. There are no pictures."""
        return self._no_pictures(pixels, rows, len(self.blocks))

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`."""
        positions, visible = cache.admit(ids, mask)
        return self.run(self.tokens(ids), positions, cache, visible)

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """The turns' texts, a line each, behind the token that every text begins with; it knows no conversation."""
        return self._text_prompt(turns, pictures, (self.config.start,))

    def run(self, tokens: Tensor, positions: Tensor, cache: Cache, visible: Tensor | None) -> Tensor:
        """Embedded tokens (B, n, D) at these positions, which see what `visible` says, -> (B, n, D).

        Raises:
            ValueError: there are more tokens than `context`.
        """
        if cache.length > self.config.context:
            raise ValueError(f"a text of {cache.length} tokens is too long: this network reads {self.config.context}")
        angles = self.rotary(positions)
        for block, past in zip(self.blocks, cache.layers, strict=True):
            tokens = block(tokens, angles, visible, past)
        return self.norm(tokens)
