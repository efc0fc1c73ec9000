"""BERT: a transformer encoder that reads a text in both directions. A tile for the families that read texts with it.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019
(1810.04805).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitrail.nn.mlp import MLP
from vitrail.nn.transformer import PostNormBlock


@dataclass(frozen=True)
class BERTConfig:
    """The numbers of a BERT; the defaults are BERT-Base, uncased (§3).

    Attributes:
        vocabulary: how many different tokens there are.
        context: the most tokens a text has.
        width: H, the width of a token.
        depth: L, the number of blocks.
        heads: A, attention heads in a block.
        mlp_width: hidden width of a block's MLP.
        activation: the MLP's nonlinearity, a name of `vitrail.nn.activation`.
        norm_eps: ε of the layer norms.
        pad: the token that fills up a short text; it is never attended to.
        types: how many segments a text may have ("sentence A", "sentence B": Figure 2).
        pooler: whether there is a tanh layer above the first token, which next sentence prediction reads (§3.1).
    """

    vocabulary: int = 30522
    context: int = 512
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "gelu"
    norm_eps: float = 1e-12
    pad: int = 0
    types: int = 2
    pooler: bool = False


class BERT(nn.Module):
    """The sum of three embeddings, and blocks of attention to both sides, normed after each half. Figure 2, §3.

    The first token of every text, [CLS], gathers what the text says.
    """

    def __init__(self, config: BERTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context, config.width))
        self.types = nn.Embedding(config.types, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                config.width,
                config.heads,
                MLP(config.width, config.mlp_width, act=config.activation),
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.pooler = (
            nn.Sequential(nn.Linear(config.width, config.width), nn.Tanh()) if config.pooler else nn.Identity()
        )
        self.apply(initialise)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Token ids (B, N) int64 -> what each token has become (B, N, D).

        Args:
            ids: numbers of tokens, [CLS] first, `pad` where a text has ended.
            mask: bool, True where a token may be attended to, of any shape that broadcasts to (B, heads, N, N); by
                default all that is not `pad`.
            types: (B, N) int64, the segment of each token; the first one's unless said.

        Raises:
            ValueError: the texts are longer than `context`.
        """
        length = ids.shape[1]
        if length > self.config.context:
            raise ValueError(f"a text of {length} tokens is too long: this network reads {self.config.context}")
        if mask is None:
            mask = (ids != self.config.pad)[:, None, None]
        segments = self.types.weight[0] if types is None else self.types(types)
        tokens = self.norm(self.tokens(ids) + segments + self.positions[:length])
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, D): the first token's, through the pooler where there is one."""
        return self.pooler(tokens[:, 0])


def initialise(module: nn.Module) -> None:
    """Start weights from N(0, 0.02²), biases at zero, as the paper's code does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
