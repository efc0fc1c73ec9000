"""ALIGN as the transformers library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.bert_transformers import bert_rows, read_bert, write_bert
from vitrail.checkpoints.layouts.efficientnet_transformers import block_rows, read_fields, write_fields
from vitrail.checkpoints.tokenizers import read_wordpiece
from vitrail.checkpoints.transformers import TransformersLayout
from vitrail.imaging.preprocess import Crop, Preprocess, Resize
from vitrail.models.align import ALIGN, ALIGNConfig
from vitrail.models.bert import BERTConfig
from vitrail.models.efficientnet import EfficientNetConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

MOST_TOKENS = 64
"""Of a text in training (2102.05918, §5), and what transformers' processor fills up to; BERT has positions for more."""


class ALIGNTransformers(TransformersLayout):
    """`model_type: align`: AlignModel."""

    family = "align"
    model = ALIGN
    model_type = "align"
    processor = "EfficientNetImageProcessor"
    ignored = (r"text_model\.embeddings\.(position_ids|token_type_ids)",)
    published: ClassVar[Mapping[str, Published]] = {
        "kakaobrain/align-base": Published(
            ALIGNConfig(text=BERTConfig(pooler=True)),
            "kakaobrain/align-base",
            "Apache-2.0",  # as kakaobrain/coyo-align-b7-base, of which it is a conversion
        )
    }

    def read_config(self, description: Description) -> ALIGNConfig:
        """config.json -> ALIGNConfig; whether there is a pooler is read from the tensors' names."""
        said, shapes = description.config, description.shapes
        image = EfficientNetConfig(**read_fields(said.get("vision_config") or {}, len(shapes)), classes=0, dropout=0.0)
        pooler = "text_model.pooler.dense.weight" in shapes
        return ALIGNConfig(image, read_bert(said.get("text_config") or {}, pooler=pooler))

    def write_config(self, model: Model) -> dict[str, Any]:
        """ALIGNConfig -> config.json."""
        config = model.config
        image = {"model_type": "align_vision_model", **write_fields(config.image), "hidden_dim": config.width}
        return {
            "architectures": ["AlignModel"],
            "model_type": self.model_type,
            "projection_dim": config.width,
            "vision_config": image,
            "text_config": {"model_type": "align_text_model", **write_bert(config.text)},
        }

    def before_writing(self, model: Model) -> Model:
        """Give the text tower a pooler where it has none: transformers' has one, which nothing reads."""
        assert isinstance(model, ALIGN)
        config = model.config
        if config.text.pooler:
            return model
        with torch.device("meta"):
            changed = ALIGN(replace(config, text=replace(config.text, pooler=True)))
        unread = {
            name: torch.zeros(tensor.shape) for name, tensor in changed.state_dict().items() if ".pooler." in name
        }
        changed.load_state_dict({**model.state_dict(), **unread}, assign=True)
        changed.preprocess, changed.tokenizer = model.preprocess, model.tokenizer
        return changed.train(model.training)

    def rows(self, config: ALIGNConfig) -> list[Row]:
        """The table."""
        return [
            *block_rows(config.image, "image.", "vision_model."),
            *bert_rows("text.", "text_model."),
            Row("text_projection.{p}", "text_projection.{p}"),
            Row("temperature", "temperature"),
        ]

    def usual_preprocess(self, config: ALIGNConfig) -> Preprocess:
        """As the published network is given its pictures."""
        return Preprocess(
            Resize((346, 346), resample=Image.Resampling.BILINEAR),
            Crop((289, 289), "floor"),
            rescale=1 / 127.5,
            rescale_offset=True,
            mean=None,
            std=None,
        )

    def read_tokenizer(self, description: Description, config: ALIGNConfig) -> Tokenizer | None:
        """As transformers' BertTokenizer. What fills up is masked, so that texts stay as short as they are."""
        return read_wordpiece(description.tokenizer_files, min(config.text.context, MOST_TOKENS))
