"""Visual question answering as classification: a picture's vector and a question's become one, which has an answer.

Antol et al., "VQA: Visual Question Answering", ICCV 2015 (1505.00468), §4, with transformers for its encoders and a
choice of how the two vectors are fused; and before that, attention: Yang et al., "Stacked Attention Networks for Image
Question Answering", CVPR 2016 (1511.02274), §3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.bert import BERT, BERTConfig
from vitrail.models.model import Model
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.fusion import FactorisedOuterProduct, Gate, OuterProduct, Sum


@dataclass(frozen=True)
class VQAConfig:
    """Two encoders, how they meet, and the answers there are.

    Attributes:
        image: the picture encoder's numbers; it has no classes of its own.
        text: the question encoder's.
        fusion: "sum", "outer", "factorised" or "gate", the tiles of `vitrail.nn.fusion`.
        width: D_o, the width of the fused vector.
        rank: R of the factorised outer product; nothing to the others.
        attention: whether the picture's vector is what the question attends to; else it is the picture encoder's own.
        classes: how many answers there are.
    """

    image: ViTConfig = field(default_factory=lambda: ViTConfig(classes=0))
    text: BERTConfig = field(default_factory=BERTConfig)
    fusion: Literal["sum", "outer", "factorised", "gate"] = "factorised"
    width: int = 768
    rank: int = 768
    attention: bool = True
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.image.classes:
            raise ValueError(f"image.classes is {self.image.classes}, and the picture encoder has none: say 0")

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels


class QuestionAttention(nn.Module):
    """Where a question looks in a picture: one layer of a stacked attention network.

    Yang et al. 2016, eq. 15-17: h = tanh(W_V v_i ⊕ (W_Q q + b)), p = softmax(w · h), ṽ = Σ p_i v_i. (Their eq. 18 adds
    q to ṽ; here that is for the fusion to do.)

    Args:
        picture: width of a picture's tokens.
        question: width of a question's vector.
    """

    def __init__(self, picture: int, question: int) -> None:
        super().__init__()
        self.key = nn.Linear(picture, picture, bias=False)
        self.query = nn.Linear(question, picture)
        self.score = nn.Linear(picture, 1)

    def forward(self, tokens: Tensor, question: Tensor, of: Tensor) -> Tensor:
        """What each question finds, (Q, D_v).

        Args:
            tokens: of the pictures, (B, N, D_v).
            question: vectors, (Q, D_q).
            of: (Q,) int64, the number of the picture that each is about.
        """
        return (self.weights(tokens, question, of)[:, None] @ tokens[of])[:, 0]

    def weights(self, tokens: Tensor, question: Tensor, of: Tensor) -> Tensor:
        """How much each question looks at each token, (Q, N); a row sums to 1. Arguments as of `forward`."""
        hidden = (self.key(tokens)[of] + self.query(question)[:, None]).tanh()
        return self.score(hidden)[..., 0].softmax(-1)


class VQA(Model):
    """See, read, fuse, and choose among the answers. Antol et al. 2015, figure 8, with a fusion to choose."""

    family: ClassVar[str] = "vqa"
    reads: ClassVar[bool] = True
    config: VQAConfig
    prefix_tokens: ClassVar[int] = ViT.prefix_tokens

    def __init__(self, config: VQAConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.image.width, config.text.width, config.width)
        self.image = ViT(config.image)
        self.text = BERT(config.text)
        self.attention = QuestionAttention(*widths[:2]) if config.attention else None
        self.fusion = (
            FactorisedOuterProduct(*widths, config.rank)
            if config.fusion == "factorised"
            else {"sum": Sum, "outer": OuterProduct, "gate": Gate}[config.fusion](*widths)
        )
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, images: Tensor, ids: Tensor, of: Tensor | None = None) -> Tensor:
        """How likely each answer is, as logits (Q, classes).

        Args:
            images: prepared pictures, (B, C, H, W).
            ids: the tokens of questions, (Q, N) int64.
            of: (Q,) int64, the number of the picture that each question is about; by default there is one question for
                each picture, in the same order.
        """
        if of is None:
            if len(images) != len(ids):
                raise ValueError(f"{len(ids)} questions and {len(images)} pictures: say which are about which")
            of = torch.arange(len(ids), device=ids.device)
        tokens = self.image.features(images)
        question = self.read(ids)
        picture = self.image.pool(tokens)[of] if self.attention is None else self.attention(tokens, question, of)
        return self.head(self.fusion(picture, question))

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the picture's final tokens (B, 1 + N, D_v), the class token first."""
        return self.image.features(images)

    def pool(self, features: Tensor) -> Tensor:
        """Final tokens (B, 1 + N, D_v) -> the picture's own vector (B, D_v), before any question is read."""
        return self.image.pool(features)

    def read(self, ids: Tensor) -> Tensor:
        """The tokens of questions (Q, N) -> their vectors (Q, D_q): the mean of what the tokens have become.

        A first token that is to gather what was asked is the same for all questions until it has learned to; their
        means differ from the start, and the rest learns from them at once.
        """
        told = (ids != self.config.text.pad)[..., None]
        return self.text.pooler((self.text(ids) * told).sum(1) / told.sum(1))

    @torch.no_grad()
    def answer(self, images: Tensor, questions: str | Sequence[str]) -> list[str]:
        """The likeliest answer to each question.

        Args:
            images: prepared pictures, (B, C, H, W).
            questions: one for each picture, or one for all of them.

        Raises:
            UsageError: there is no question for each picture, or the network has no tokenizer or names no answers.
        """
        if self.tokenizer is None or self.labels is None:
            raise UsageError("this network has no tokenizer or no answers: set its `tokenizer` and `labels`")
        asked = [questions] * len(images) if isinstance(questions, str) else list(questions)
        if len(asked) != len(images):
            raise UsageError(f"there are {len(asked)} questions about {len(images)} pictures: ask one about each")
        ids = self.tokenizer(asked).to(images.device)
        return [self.labels[index] for index in self(images, ids).argmax(1).tolist()]
