"""GPT-2: a transformer that reads from left to right and says what comes next.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, §2.3; what the paper leaves open as in the
authors' code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vitrail.imaging.open import Picture
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.nn.cache import Cache
from vitrail.nn.mlp import MLP
from vitrail.nn.transformer import Block


@dataclass(frozen=True)
class GPT2Config:
    """The numbers of a GPT-2; the defaults are the smallest one's (Table 2).

    Attributes:
        vocabulary: how many different tokens there are.
        context: the most tokens it reads.
        width: D, the width of a token.
        depth: the number of blocks.
        heads: attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the layer norms.
        end: the token that ends a text.
    """

    vocabulary: int = 50257
    context: int = 1024
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    end: int = 50256


class GPT2(LanguageModel):
    """Tokens and positions, added; blocks of attention to what came before; a last norm. The head is the embedding."""

    family: ClassVar[str] = "gpt2"
    config: GPT2Config
    tied: Mapping[str, str] = {"head.weight": "tokens.weight"}
    most_pictures: int | None = 0

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                MLP(config.width, config.mlp_width, act=config.activation),
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        self._initialise()

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return (self.config.end,)

    def start(self, pixels: Tensor | None = None, rows: int = 1) -> Cache:
        """What the network knows before it reads: nothing. There are no pictures."""
        return self._no_pictures(pixels, rows, len(self.blocks))

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        """See `LanguageModel.read`."""
        positions, visible = cache.admit(ids, mask)
        if cache.length - cache.prefix > self.config.context:
            raise ValueError(
                f"a text of {cache.length - cache.prefix} tokens is too long: this network reads {self.config.context}"
            )
        return self.run(self.tokens(ids) + self.positions(positions), cache, visible)

    def run(self, tokens: Tensor, cache: Cache, visible: Tensor | None) -> Tensor:
        """Embedded tokens (B, n, D), which see what `visible` says of the cache and themselves, -> (B, n, D)."""
        for block, past in zip(self.blocks, cache.layers, strict=True):
            tokens = block(tokens, visible, past=past)
        return self.norm(tokens)

    def transcript(self, turns: Sequence[Turn], language: str = "en") -> tuple[list[int], list[bool]]:
        """A conversation as ids, and which of them the network is to say: the turns, each answer with its end.

        What a Flamingo's language model is taught beforehand; pictures are nothing to it.

        Raises:
            UsageError: there is no tokenizer.
        """
        return self._spelled(turns, lambda turn: [])

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        """The turns' texts, a line each, as they stand: GPT-2 goes on with a text, and knows no conversation."""
        silent = not any(turn.text for turn in turns)
        return self._text_prompt(turns, pictures, self.ends if silent else ())  # its end begins a text, too

    def _initialise(self) -> None:
        """Weights from N(0, 0.02²), those that end on the residual path smaller by √(2 · depth) (§2.3)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                onto_path = name.endswith(("attention.out.weight", "mlp.down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * self.config.depth) ** 0.5 if onto_path else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
