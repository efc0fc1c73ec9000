"""SigLIP, and SigLIP 2 at fixed resolution, as the transformers library publishes them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, OneNumber, Published, Row
from vitrail.checkpoints.layouts.clip_transformers import block_rows
from vitrail.checkpoints.tokenizers import read_siglip
from vitrail.checkpoints.transformers import TransformersLayout, read_encoder, read_size, write_encoder
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF
from vitrail.models.model import Model
from vitrail.models.siglip import SigLIP, SigLIPConfig, SigLIPImageConfig, SigLIPTextConfig
from vitrail.text.tokenizer import Tokenizer

_SIZES: dict[str, dict[str, Any]] = {  # the fields that both towers have
    "base": {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072},
    "large": {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096},
    "so400m": {"width": 1152, "depth": 27, "heads": 16, "mlp_width": 4304},  # Alabdulmohsin et al. 2023 (2305.13035)
    "giant-opt": {"width": 1536, "depth": 40, "heads": 16, "mlp_width": 6144},
}
_USUAL: dict[str, Any] = {"activation": "gelu_pytorch_tanh", "norm_eps": 1e-6}  # where transformers differs from BERT
_ENGLISH, _MULTILINGUAL, _GEMMA = 32000, 250000, 256000  # vocabularies


def _published(
    name: str, size: str, patch: int, image: int, vocabulary: int = _ENGLISH, context: int = 64
) -> dict[str, Published]:
    text = "so400m" if size == "giant-opt" else size
    config = SigLIPConfig(
        SigLIPImageConfig(image_size=image, patch_size=patch, **_SIZES[size]),
        SigLIPTextConfig(vocabulary=vocabulary, context=context, **_SIZES[text]),
    )
    return {name: Published(config, name, "Apache-2.0")}


class SigLIPTransformers(TransformersLayout):
    """`model_type: siglip`: SiglipModel."""

    family = "siglip"
    model = SigLIP
    model_type = "siglip"
    processor = "SiglipImageProcessor"
    mean, std = HALF, HALF
    ignored = (r"(text|vision)_model\.embeddings\.position_ids",)
    published: ClassVar[Mapping[str, Published]] = {
        **_published("google/siglip-base-patch16-224", "base", 16, 224),
        **_published("google/siglip-base-patch16-256", "base", 16, 256),
        **_published("google/siglip-base-patch16-384", "base", 16, 384),
        **_published("google/siglip-base-patch16-512", "base", 16, 512),
        **_published("google/siglip-base-patch16-256-multilingual", "base", 16, 256, _MULTILINGUAL),
        **_published("google/siglip-large-patch16-256", "large", 16, 256),
        **_published("google/siglip-large-patch16-384", "large", 16, 384),
        **_published("google/siglip-so400m-patch14-224", "so400m", 14, 224, context=16),
        **_published("google/siglip-so400m-patch14-384", "so400m", 14, 384),
        **_published("google/siglip-so400m-patch16-256-i18n", "so400m", 16, 256, _MULTILINGUAL),
        **_published("google/siglip2-base-patch16-224", "base", 16, 224, _GEMMA),
        **_published("google/siglip2-base-patch16-256", "base", 16, 256, _GEMMA),
        **_published("google/siglip2-base-patch16-384", "base", 16, 384, _GEMMA),
        **_published("google/siglip2-base-patch16-512", "base", 16, 512, _GEMMA),
        **_published("google/siglip2-base-patch32-256", "base", 32, 256, _GEMMA),
        **_published("google/siglip2-large-patch16-256", "large", 16, 256, _GEMMA),
        **_published("google/siglip2-large-patch16-384", "large", 16, 384, _GEMMA),
        **_published("google/siglip2-large-patch16-512", "large", 16, 512, _GEMMA),
        **_published("google/siglip2-so400m-patch14-224", "so400m", 14, 224, _GEMMA),
        **_published("google/siglip2-so400m-patch14-384", "so400m", 14, 384, _GEMMA),
        **_published("google/siglip2-so400m-patch16-256", "so400m", 16, 256, _GEMMA),
        **_published("google/siglip2-so400m-patch16-384", "so400m", 16, 384, _GEMMA),
        **_published("google/siglip2-so400m-patch16-512", "so400m", 16, 512, _GEMMA),
        **_published("google/siglip2-giant-opt-patch16-256", "giant-opt", 16, 256, _GEMMA),
        **_published("google/siglip2-giant-opt-patch16-384", "giant-opt", 16, 384, _GEMMA),
    }

    def read_config(self, description: Description) -> SigLIPConfig:
        """config.json -> SigLIPConfig; what is left out is as in transformers' SiglipConfig: B/16."""
        image = description.config.get("vision_config") or {}
        text = description.config.get("text_config") or {}
        return SigLIPConfig(
            SigLIPImageConfig(
                image_size=read_size(image.get("image_size", 224)),
                patch_size=read_size(image.get("patch_size", 16)),
                channels=image.get("num_channels", 3),
                **read_encoder(image, **_USUAL),
            ),
            SigLIPTextConfig(
                vocabulary=text.get("vocab_size", 32000),
                context=text.get("max_position_embeddings", 64),
                **read_encoder(text, **_USUAL),
            ),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """SigLIPConfig -> config.json."""
        image, text = model.config.image, model.config.text
        if not isinstance(image.image_size, int) or not isinstance(image.patch_size, int):
            raise CheckpointError("the transformers layout of this family has square pictures and patches only")
        return {
            "architectures": ["SiglipModel"],
            "model_type": self.model_type,
            "vision_config": {
                "model_type": "siglip_vision_model",
                "image_size": image.image_size,
                "patch_size": image.patch_size,
                "num_channels": image.channels,
                **write_encoder(image),
            },
            "text_config": {
                "model_type": "siglip_text_model",
                "vocab_size": text.vocabulary,
                "max_position_embeddings": text.context,
                "projection_size": model.config.width,
                **write_encoder(text),
            },
        }

    def rows(self, config: SigLIPConfig) -> list[Row]:
        """The table."""
        return [
            Row("image.patchify.projection.{p}", "vision_model.embeddings.patch_embedding.{p}"),
            Row("image.positions", "vision_model.embeddings.position_embedding.weight"),
            *block_rows("image.blocks.{i}.", "vision_model.encoder.layers.{i}."),
            Row("image.norm.{p}", "vision_model.post_layernorm.{p}"),
            Row("image.pool.probe", "vision_model.head.probe"),
            Row("image.pool.qkv.{p}", "vision_model.head.attention.in_proj_{p}"),
            Row("image.pool.out.{p}", "vision_model.head.attention.out_proj.{p}"),
            Row("image.pool.norm.{p}", "vision_model.head.layernorm.{p}"),
            Row("image.pool.mlp.up.{p}", "vision_model.head.mlp.fc1.{p}"),
            Row("image.pool.mlp.down.{p}", "vision_model.head.mlp.fc2.{p}"),
            Row("text.tokens.weight", "text_model.embeddings.token_embedding.weight"),
            Row("text.positions", "text_model.embeddings.position_embedding.weight"),
            *block_rows("text.blocks.{i}.", "text_model.encoder.layers.{i}."),
            Row("text.norm.{p}", "text_model.final_layer_norm.{p}"),
            Row("text.projection.{p}", "text_model.head.{p}"),
            Row("logit_scale", OneNumber("logit_scale")),
            Row("logit_bias", OneNumber("logit_bias")),
        ]

    def read_tokenizer(self, description: Description, config: SigLIPConfig) -> Tokenizer | None:
        """As transformers' SiglipTokenizer, or SigLIP 2's; filled up to the context, for the last token is read."""
        return read_siglip(description.tokenizer_files, config.text.context)
