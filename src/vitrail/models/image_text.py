"""What networks that put pictures and texts into one space have in common."""

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.model import Model
from vitrail.text.tokenizer import token_ids


class ImageText(Model):
    """Two towers, one for pictures and one for texts, whose vectors are near where the two mean the same.

    A family gives `features` and `pool` for pictures, as every model does, and `embed_tokens` for texts; here is what
    users call, by open_clip's names.

    Attributes:
        logit_scale: (), ln of the factor that cosines are multiplied by (Radford et al. 2021, 2103.00020, §2.3).
        logit_bias: () or None, what is added to them (SigLIP: Zhai et al. 2023, 2303.15343, algorithm 1).
    """

    reads: ClassVar[bool] = True
    entries: ClassVar[tuple[str, ...]] = ("features",)
    logit_scale: Tensor
    logit_bias: Tensor | None
    head: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.logit_bias = None  # here and not in the class, where a parameter of that name could not take its place

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) -> one vector a text (B, E), not scaled to length 1."""
        raise NotImplementedError

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Prepared pictures (B, C, H, W) -> (B, E), of length 1 if `normalize`."""
        vectors = self.pool(self.features(images))
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def encode_text(self, texts: str | Sequence[str] | Tensor, normalize: bool = False) -> Tensor:
        """Texts, or the ids (B, N) that the tokenizer makes of them, -> (B, E), of length 1 if `normalize`.

        Raises:
            UsageError: texts are given to a network without a tokenizer.
        """
        vectors = self.embed_tokens(token_ids(texts, self.tokenizer).to(self.logit_scale.device))
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def forward(self, images: Tensor, texts: str | Sequence[str] | Tensor) -> Tensor:
        """How well each picture and each text go together: logits (pictures, texts)."""
        pictures, words = self.encode_image(images, normalize=True), self.encode_text(texts, normalize=True)
        logits = self.logit_scale.exp() * pictures @ words.T
        return logits if self.logit_bias is None else logits + self.logit_bias
