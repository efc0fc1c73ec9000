"""CLIP's text tower by itself as the transformers library publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.clip_transformers import LEGACY_END, block_rows
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.checkpoints.transformers import TransformersLayout, read_encoder, write_encoder
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoder, CLIPTextEncoderConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer


class CLIPTextTransformers(TransformersLayout):
    """`model_type: clip_text_model`: CLIPTextModel, or with its projection CLIPTextModelWithProjection."""

    family = "clip-text"
    model: type[Model] = CLIPTextEncoder
    model_type = "clip_text_model"
    ignored = (r".*\.position_ids",)
    published: ClassVar[Mapping[str, Published]] = {}

    def read_config(self, description: Description) -> CLIPTextEncoderConfig:
        """config.json -> CLIPTextEncoderConfig; what is left out is as in transformers' CLIPTextConfig."""
        said = description.config
        end = said.get("eos_token_id", 49407)
        projected = any(name.endswith("text_projection.weight") for name in description.shapes)
        return CLIPTextEncoderConfig(
            CLIPTextConfig(
                vocabulary=said.get("vocab_size", 49408),
                context=said.get("max_position_embeddings", 77),
                **read_encoder(said, width=512, heads=8, mlp_width=2048, activation="quick_gelu", norm_eps=1e-5),
                end=None if end == LEGACY_END else end,
            ),
            said.get("projection_dim", 512) if projected else None,
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """CLIPTextEncoderConfig -> config.json."""
        text, width = model.config.text, model.config.width
        if text.end == LEGACY_END:
            raise CheckpointError(f"the transformers layout of CLIP cannot say that texts end with token {LEGACY_END}")
        return {
            "architectures": ["CLIPTextModel" if width is None else "CLIPTextModelWithProjection"],
            "model_type": self.model_type,
            "vocab_size": text.vocabulary,
            "max_position_embeddings": text.context,
            **write_encoder(text),
            "projection_dim": text.width if width is None else width,
            "bos_token_id": text.vocabulary - 2,
            "eos_token_id": LEGACY_END if text.end is None else text.end,
        }

    def rows(self, config: Any) -> list[Row]:
        """The table. transformers 5 leaves out "text_model." where there is no projection."""
        tower = [
            Row("text.tokens.{p}", "embeddings.token_embedding.{p}"),
            Row("text.positions", "embeddings.position_embedding.weight"),
            Row("text.norm.{p}", "final_layer_norm.{p}"),
            *block_rows("text.blocks.{i}.", "encoder.layers.{i}."),
        ]
        return [
            *(row.within("", "text_model.", "") for row in tower),
            Row("projection.{p}", "text_projection.{p}"),
        ]

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """There are no pictures."""
        return Preprocess(resize=None)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """There are no pictures."""
        return {}

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """As transformers' CLIPTokenizer, filled up to the whole context: a diffusion model reads the filling, too."""
        return read_clip(description.tokenizer_files, config.text.context, fixed=True)
