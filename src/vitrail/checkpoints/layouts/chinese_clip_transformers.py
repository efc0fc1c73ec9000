"""Chinese CLIP as the transformers library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.bert_transformers import bert_rows, read_bert, write_bert
from vitrail.checkpoints.layouts.clip_transformers import (
    CLIPTransformers,
    image_config,
    image_rows,
    read_section,
    write_image_config,
)
from vitrail.checkpoints.tokenizers import read_wordpiece
from vitrail.errors import CheckpointError
from vitrail.models.bert import BERTConfig
from vitrail.models.clip import CLIPConfig, CLIPImageConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

_BASE = CLIPImageConfig(patch_size=16)  # 2211.01335, Table 1
_LARGE = CLIPImageConfig(patch_size=14, width=1024, depth=24, heads=16, mlp_width=4096)
_HUGE = CLIPImageConfig(patch_size=14, width=1280, depth=32, heads=16, mlp_width=5120)
_ROBERTA = BERTConfig(vocabulary=21128)  # RoBERTa-wwm-ext: BERT's form, other training
_ROBERTA_LARGE = replace(_ROBERTA, width=1024, depth=24, heads=16, mlp_width=4096)


class ChineseCLIPTransformers(CLIPTransformers):
    """`model_type: chinese_clip`: ChineseCLIPModel, CLIP's Vision Transformer beside a BERT."""

    model_type = "chinese_clip"
    processor = "ChineseCLIPImageProcessor"
    ignored = (r".*\.(position_ids|token_type_ids)",)
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "MIT")  # the licence of OFA-Sys/Chinese-CLIP, where the weights come from
        for name, config in {
            "OFA-Sys/chinese-clip-vit-base-patch16": CLIPConfig(_BASE, _ROBERTA, 512),
            "OFA-Sys/chinese-clip-vit-large-patch14": CLIPConfig(_LARGE, _ROBERTA, 768),
            "OFA-Sys/chinese-clip-vit-large-patch14-336px": CLIPConfig(replace(_LARGE, image_size=336), _ROBERTA, 768),
            "OFA-Sys/chinese-clip-vit-huge-patch14": CLIPConfig(_HUGE, _ROBERTA_LARGE, 1024),
        }.items()
    }

    def read_config(self, description: Description) -> CLIPConfig:
        """config.json -> CLIPConfig; what is left out is as in transformers' ChineseCLIPConfig."""
        config = description.config
        return CLIPConfig(
            image_config(read_section(config, "vision_config")),
            read_bert(read_section(config, "text_config"), pooler=False),
            config.get("projection_dim", 512),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """CLIPConfig -> config.json."""
        image, text, width = model.config.image, model.config.text, model.config.width
        if not isinstance(image, CLIPImageConfig):
            raise CheckpointError("the transformers layout of Chinese CLIP has no ResNet: its picture tower is a ViT")
        return {
            "architectures": ["ChineseCLIPModel"],
            "model_type": self.model_type,
            "projection_dim": width,
            "vision_config": {**write_image_config(image, "chinese_clip_vision_model"), "projection_dim": width},
            "text_config": {"model_type": "chinese_clip_text_model", **write_bert(text)},
        }

    def can_write(self, config: CLIPConfig) -> bool:
        """Networks with a BERT for a text tower."""
        return isinstance(config.text, BERTConfig)

    def rows(self, config: CLIPConfig) -> list[Row]:
        """The table."""
        return [
            *image_rows(),
            *bert_rows("text.", "text_model."),
            Row("text_projection.{p}", "text_projection.{p}"),
            Row("logit_scale", "logit_scale"),
        ]

    def read_tokenizer(self, description: Description, config: CLIPConfig) -> Tokenizer | None:
        """As transformers' BertTokenizer. What fills up is masked, so that texts stay as short as they are."""
        return read_wordpiece(description.tokenizer_files, config.text.context)
