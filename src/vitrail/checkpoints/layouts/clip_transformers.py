"""CLIP as the transformers library publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.preprocessors import CLIP_MEAN, CLIP_STD
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.checkpoints.transformers import (
    TransformersLayout,
    read_encoder,
    read_size,
    shortest_edge,
    write_encoder,
    write_size,
)
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.model import Model
from vitrail.nn.patches import pair
from vitrail.text.tokenizer import Tokenizer

LEGACY_END = 2
"""What `eos_token_id` was before transformers learned it: there a text ends at its highest id."""


def image_config(said: Mapping[str, Any]) -> CLIPImageConfig:
    """`vision_config` -> the picture tower's numbers; what is left out is as in transformers' CLIPVisionConfig."""
    return CLIPImageConfig(
        image_size=read_size(said.get("image_size", 224)),
        patch_size=read_size(said.get("patch_size", 32)),
        channels=said.get("num_channels", 3),
        **read_encoder(said, activation="quick_gelu", norm_eps=1e-5),
    )


def write_image_config(config: CLIPImageConfig, model_type: str) -> dict[str, Any]:
    """The picture tower's numbers -> `vision_config`.

    Args:
        config: the picture tower's numbers.
        model_type: what transformers calls such a tower, "clip_vision_model".

    Raises:
        CheckpointError: transformers has no words for them.
    """
    for size in (config.image_size, config.patch_size):
        if len(set(pair(size))) > 1:
            raise CheckpointError(f"the transformers layout of CLIP has square pictures and patches, not {size}")
    return {
        "model_type": model_type,
        "image_size": write_size(config.image_size),
        "patch_size": write_size(config.patch_size),
        "num_channels": config.channels,
        **write_encoder(config),
    }


def image_rows(theirs: str = "") -> list[Row]:
    """The rows of the picture tower; `theirs` stands before their names, "git.image_encoder."."""
    tower = f"{theirs}vision_model."
    embeddings = f"{tower}embeddings."
    return [
        Row("image.class_token", f"{embeddings}class_embedding"),
        Row("image.positions", f"{embeddings}position_embedding.weight"),
        Row("image.patchify.projection.{p}", f"{embeddings}patch_embedding.{{p}}"),
        Row("image.norm_before.{p}", f"{tower}pre_layrnorm.{{p}}"),  # published so, and so it stays
        Row("image.norm.{p}", f"{tower}post_layernorm.{{p}}"),
        Row("image.projection.{p}", f"{theirs}visual_projection.{{p}}"),
        *block_rows("image.blocks.{i}.", f"{tower}encoder.layers.{{i}}."),
    ]


def block_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a tower's blocks."""
    return [
        Row(f"{ours}attention.qkv.{{p}}", Joined(*(f"{theirs}self_attn.{part}_proj.{{p}}" for part in "qkv"))),
        Row(f"{ours}attention.out.{{p}}", f"{theirs}self_attn.out_proj.{{p}}"),
        Row(f"{ours}norm{{j}}.{{p}}", f"{theirs}layer_norm{{j}}.{{p}}"),
        Row(f"{ours}mlp.up.{{p}}", f"{theirs}mlp.fc1.{{p}}"),
        Row(f"{ours}mlp.down.{{p}}", f"{theirs}mlp.fc2.{{p}}"),
    ]


def read_section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A tower's section of config.json; the oldest files keep it under "…_dict", which goes before."""
    section = config.get(f"{name}_dict")
    if section is None:
        section = config.get(name)
    return {} if section is None else section


_LARGE = CLIPImageConfig(patch_size=14, width=1024, depth=24, heads=16, mlp_width=4096)
_LARGE_336 = CLIPImageConfig(image_size=336, patch_size=14, width=1024, depth=24, heads=16, mlp_width=4096)
_LARGE_TEXT = CLIPTextConfig(width=768, heads=12, mlp_width=3072)


class CLIPTransformers(TransformersLayout):
    """`model_type: clip`: CLIPModel, a Vision Transformer beside CLIP's text transformer."""

    family = "clip"
    model: type[Model] = CLIP
    model_type = "clip"
    processor = "CLIPImageProcessor"
    mean, std = CLIP_MEAN, CLIP_STD
    ignored = (r".*\.position_ids",)
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "MIT")
        for name, config in {
            "openai/clip-vit-base-patch32": CLIPConfig(),
            "openai/clip-vit-base-patch16": CLIPConfig(CLIPImageConfig(patch_size=16)),
            "openai/clip-vit-large-patch14": CLIPConfig(_LARGE, _LARGE_TEXT, 768),
            "openai/clip-vit-large-patch14-336": CLIPConfig(_LARGE_336, _LARGE_TEXT, 768),
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": CLIPConfig(
                CLIPImageConfig(activation="gelu"), CLIPTextConfig(activation="gelu")
            ),
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": CLIPConfig(
                CLIPImageConfig(patch_size=14, width=1280, depth=32, heads=16, mlp_width=5120, activation="gelu"),
                CLIPTextConfig(width=1024, depth=24, heads=16, mlp_width=4096, activation="gelu"),
                1024,
            ),
            "laion/CLIP-ViT-g-14-laion2B-s12B-b42K": CLIPConfig(
                CLIPImageConfig(patch_size=14, width=1408, depth=40, heads=16, mlp_width=6144, activation="gelu"),
                CLIPTextConfig(width=1024, depth=24, heads=16, mlp_width=4096, activation="gelu"),
                1024,
            ),
            "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": CLIPConfig(
                CLIPImageConfig(patch_size=14, width=1664, depth=48, heads=16, mlp_width=8192, activation="gelu"),
                CLIPTextConfig(width=1280, depth=32, heads=20, mlp_width=5120, activation="gelu"),
                1280,
            ),
        }.items()
    }

    def read_config(self, description: Description) -> CLIPConfig:
        """config.json -> CLIPConfig; what is left out is as in transformers' CLIPTextConfig and CLIPConfig."""
        config = description.config
        text = read_section(config, "text_config")
        end = text.get("eos_token_id", 49407)
        return CLIPConfig(
            image_config(read_section(config, "vision_config")),
            CLIPTextConfig(
                vocabulary=text.get("vocab_size", 49408),
                context=text.get("max_position_embeddings", 77),
                **read_encoder(text, width=512, heads=8, mlp_width=2048, activation="quick_gelu", norm_eps=1e-5),
                end=None if end == LEGACY_END else end,
            ),
            config.get("projection_dim", 512),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """CLIPConfig -> config.json."""
        image, text, width = model.config.image, model.config.text, model.config.width
        if not isinstance(image, CLIPImageConfig):
            raise CheckpointError("the transformers layout of CLIP has no ResNet: its picture tower is a ViT")
        if not isinstance(text, CLIPTextConfig):
            raise CheckpointError("the transformers layout of CLIP has no BERT: its text tower is CLIP's own")
        if text.end == LEGACY_END:
            raise CheckpointError(f"the transformers layout of CLIP cannot say that texts end with token {LEGACY_END}")
        return {
            "architectures": ["CLIPModel"],
            "model_type": self.model_type,
            "projection_dim": width,
            "vision_config": {**write_image_config(image, "clip_vision_model"), "projection_dim": width},
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": text.vocabulary,
                "max_position_embeddings": text.context,
                **write_encoder(text),
                "projection_dim": width,
                "eos_token_id": LEGACY_END if text.end is None else text.end,
            },
        }

    def can_write(self, config: Any) -> bool:
        """Networks with CLIP's own text tower; those with a BERT have a `model_type` of their own."""
        return isinstance(config.text, CLIPTextConfig)

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        return [
            *image_rows(),
            Row("text.tokens.{p}", "text_model.embeddings.token_embedding.{p}"),
            Row("text.positions", "text_model.embeddings.position_embedding.weight"),
            Row("text.norm.{p}", "text_model.final_layer_norm.{p}"),
            *block_rows("text.blocks.{i}.", "text_model.encoder.layers.{i}."),
            Row("text_projection.{p}", "text_projection.{p}"),
            Row("logit_scale", "logit_scale"),
        ]

    def usual_preprocess(self, config: Any) -> Preprocess:
        """As its processor does, to the network's size."""
        return shortest_edge(config.image_size, self.processor)

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """As transformers' CLIPTokenizer; what stands behind a text's end is never seen, so that texts stay short."""
        return read_clip(description.tokenizer_files, config.text.context)
