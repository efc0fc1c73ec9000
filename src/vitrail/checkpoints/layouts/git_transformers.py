"""GIT as the transformers library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.layouts.bert_transformers import bert_rows
from vitrail.checkpoints.layouts.clip_transformers import image_config, image_rows, read_section, write_image_config
from vitrail.checkpoints.preprocessors import CLIP_MEAN, CLIP_STD
from vitrail.checkpoints.tokenizers import read_wordpiece
from vitrail.checkpoints.transformers import TransformersLayout, read_encoder, shortest_edge, write_encoder
from vitrail.imaging.preprocess import HALF, Preprocess
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.git import GIT, GITConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

_BASE = CLIPImageConfig(patch_size=16)
_LARGE = CLIPImageConfig(patch_size=14, width=1024, depth=24, heads=16, mlp_width=4096)
_BASE_VQA, _LARGE_VQA = replace(_BASE, image_size=480), replace(_LARGE, image_size=420)


class GITTransformers(TransformersLayout):
    """`model_type: git`: GitForCausalLM, for single pictures."""

    family = "git"
    model: type[Model] = GIT
    model_type = "git"
    processor = "CLIPImageProcessor"
    mean, std = CLIP_MEAN, CLIP_STD
    ignored = (r".*\.position_ids",)
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(GITConfig(image), name, "MIT")
        for name, image in {
            "microsoft/git-base": _BASE,
            "microsoft/git-base-coco": _BASE,
            "microsoft/git-base-textcaps": _BASE,
            "microsoft/git-base-vqav2": _BASE_VQA,
            "microsoft/git-base-textvqa": _BASE_VQA,
            "microsoft/git-large": _LARGE,
            "microsoft/git-large-coco": _LARGE,
            "microsoft/git-large-textcaps": _LARGE,
            "microsoft/git-large-vqav2": _LARGE_VQA,
            "microsoft/git-large-textvqa": _LARGE_VQA,
            "microsoft/git-large-r": _LARGE,
            "microsoft/git-large-r-coco": _LARGE,
            "microsoft/git-large-r-textcaps": _LARGE,
        }.items()
    }

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `model_type`, where there are no embeddings of time."""
        return super().recognises(config) and not config.get("num_image_with_embedding")

    def read_config(self, description: Description) -> GITConfig:
        """config.json -> GITConfig; what is left out is as in transformers' GitConfig."""
        config = description.config
        end = config.get("eos_token_id", 102)
        return GITConfig(
            image_config({"patch_size": 16, **read_section(config, "vision_config")}),
            vocabulary=config.get("vocab_size", 30522),
            context=config.get("max_position_embeddings", 1024),
            **read_encoder(config, depth=6),
            frames=config.get("num_image_with_embedding") or 0,
            begin=config.get("bos_token_id", 101),
            ends=tuple(end) if isinstance(end, list) else (end,),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """GITConfig -> config.json."""
        config: GITConfig = model.config
        return {
            "architectures": ["GitForCausalLM"],
            "model_type": self.model_type,
            "vision_config": write_image_config(config.image, "git_vision_model"),
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.context,
            **write_encoder(config),
            "num_image_with_embedding": config.frames or None,
            "bos_token_id": config.begin,
            "eos_token_id": config.ends[0] if len(config.ends) == 1 else list(config.ends),
            "pad_token_id": 0 if model.tokenizer is None else model.tokenizer.pad,
            "tie_word_embeddings": False,
        }

    def can_write(self, config: GITConfig) -> bool:
        """Networks that read single pictures."""
        return not config.frames

    def rows(self, config: GITConfig) -> list[Row]:
        """The table. The hub's videos have "temperal" in their names, which transformers does not read any more."""
        times, misspelt = (
            Joined(*(f"git.img_{word}_embedding.{frame}" for frame in range(config.frames)))
            for word in ("temporal", "temperal")
        )
        return [
            *image_rows("git.image_encoder."),
            Row("times", times, misspelt),
            Row("projection.{i}.{p}", "git.visual_projection.visual_projection.{i}.{p}"),
            *bert_rows("", "git."),
            Row("head.{p}", "output.{p}"),
        ]

    def usual_preprocess(self, config: GITConfig) -> Preprocess:
        """As its processor does, to the network's size."""
        return shortest_edge(config.image_size, self.processor)

    def read_tokenizer(self, description: Description, config: GITConfig) -> Tokenizer | None:
        """As transformers' BertTokenizer."""
        return read_wordpiece(description.tokenizer_files, config.context)


class GITVideoTransformers(GITTransformers):
    """`model_type: git` with `num_image_with_embedding`: GitForCausalLM, for the pictures of a video."""

    processor = "VideoMAEImageProcessor"
    mean, std = HALF, HALF
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(GITConfig(image, frames=6), name, "MIT")
        for name, image in {
            "microsoft/git-base-vatex": _BASE,
            "microsoft/git-base-msrvtt-qa": _BASE,
            "microsoft/git-large-vatex": _LARGE,
            "microsoft/git-large-msrvtt-qa": _LARGE,
        }.items()
    }

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `model_type` and the embeddings of time."""
        return config.get("model_type") == self.model_type and bool(config.get("num_image_with_embedding"))

    def can_write(self, config: GITConfig) -> bool:
        """Networks that read videos."""
        return bool(config.frames)
