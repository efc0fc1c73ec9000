"""DeiT: a Vision Transformer that learns from a teacher through a token of its own.

Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021 (2012.12877).
DeiT without distillation is a ViT, and is published as one.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.models.vit import ViT, ViTConfig, initialise


@dataclass(frozen=True)
class DeiTConfig(ViTConfig):
    """A ViT's numbers, and whether the distillation token has a head.

    Attributes:
        distillation_head: False for a network fine-tuned without a teacher, whose distillation token only takes part in
            attention (transformers' DeiTForImageClassification).
    """

    distillation_head: bool = True


class DeiT(ViT):
    """A class token learns from the labels, a distillation token from the teacher (§3, figure 2)."""

    family: ClassVar[str] = "deit"
    config: DeiTConfig
    prefix_tokens: ClassVar[int] = 2  # class and distillation

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__(config)
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.distillation_head:
            self.distillation_head = nn.Linear(config.width, config.classes) if config.classes else nn.Identity()
            self.distillation_head.apply(initialise)
        nn.init.trunc_normal_(self.distillation_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes): the mean of both heads' ("Classification with our approach", §3).

        Without classes, the mean of both tokens; without a distillation head, what the class token's says.
        """
        features = self.features(images)
        if not self.config.distillation_head:
            return self.head(self.pool(features))
        return (self.head(features[:, 0]) + self.distillation_head(features[:, 1])) / 2

    def first_tokens(self) -> tuple[Tensor, ...]:
        """The class and the distillation token, each (1, 1, D)."""
        return self.class_token, self.distillation_token
