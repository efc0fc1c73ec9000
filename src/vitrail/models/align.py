"""ALIGN: pictures and texts in one space, learned from a billion noisy pairs by two plain networks.

Jia et al., "Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision", ICML 2021
(2102.05918).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitrail.models.bert import BERT, BERTConfig
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.models.image_text import ImageText


@dataclass(frozen=True)
class ALIGNConfig:
    """Two towers; the defaults are EfficientNet-B7 and BERT-Base.

    Attributes:
        image: the picture tower's numbers; those of a head (`classes`, `dropout`) mean nothing here. Padding is fixed,
            as in the published network.
        text: the text tower's.
    """

    image: EfficientNetConfig = field(
        default_factory=lambda: EfficientNetConfig(
            image_size=289, width=2.0, depth=3.1, classes=0, padding="fixed", dropout=0.0
        )
    )
    text: BERTConfig = field(default_factory=BERTConfig)

    @property
    def width(self) -> int:
        """E, the width of the common space: the channels of the picture tower's last stage."""
        return self.image.scaled_stages[-1].width

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side, or (height, width), of the pictures, in pixels."""
        return self.image.image_size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.image.channels

    @property
    def depth(self) -> int:
        """The number of blocks in both towers."""
        return len(self.image.strides) + self.text.depth


class ALIGN(ImageText):
    """An EfficientNet's mean over all places, and a BERT's first token through a linear layer: §4.1, figure 1."""

    family: ClassVar[str] = "align"
    config: ALIGNConfig

    def __init__(self, config: ALIGNConfig) -> None:
        super().__init__()
        self.config = config
        whole = EfficientNet(config.image)  # its last convolution belongs to the classification head: §4.1
        self.image = nn.Sequential(OrderedDict(stem=whole.stem, stages=whole.stages))
        self.text = BERT(config.text)
        self.text_projection = nn.Linear(config.text.width, config.width)
        self.temperature = nn.Parameter(torch.tensor(1.0))  # σ of eq. 1 and 2, learned; it starts at 1: §5
        self.head = nn.Identity()
        nn.init.xavier_uniform_(self.text_projection.weight)
        nn.init.zeros_(self.text_projection.bias)

    @property
    def logit_scale(self) -> Tensor:  # type: ignore[override]  # the parameter is the temperature
        """(), ln of the factor that cosines are multiplied by: -ln σ."""
        return -self.temperature.log()

    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in any float dtype -> the final feature map (B, E, ⌈H / 32⌉, ⌈W / 32⌉) in the weights'.

        H and W may be anything; with fixed padding a side that comes out odd on the way down may lose its last row.
        """
        return self.image(images.to(self.text_projection.weight.dtype))

    def pool(self, features: Tensor) -> Tensor:
        """The final feature map (B, E, h, w) -> one vector a picture (B, E): its mean."""
        return features.mean((2, 3))

    def patch_vectors(self, features: Tensor) -> Tensor:
        """The final feature map (B, E, h, w) -> (B, h × w, E), row by row: the vectors whose mean the picture's is."""
        return features.flatten(2).transpose(1, 2)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, N) int64, `pad` behind short texts -> one vector a text (B, E).

        Raises:
            ValueError: the texts are longer than the context.
        """
        return self.text_projection(self.text(ids)[:, 0])
