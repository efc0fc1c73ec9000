"""IDEFICS, the open reproduction of Flamingo, as the transformers library publishes it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.layouts.clip_transformers import image_config, image_rows, read_section, write_image_config
from vitrail.checkpoints.layouts.llama_transformers import llama_rows, read_llama, write_llama
from vitrail.checkpoints.preprocessors import CLIP_MEAN, CLIP_STD, from_transformers
from vitrail.checkpoints.tokenizers import read_byte_pairs
from vitrail.checkpoints.transformers import TransformersLayout
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.flamingo import AROUND, END_OF_UTTERANCE, PICTURE, Flamingo, FlamingoConfig, ResamplerConfig
from vitrail.models.llama import LlamaConfig
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

_IMAGE = {  # where transformers' IdeficsVisionConfig differs from CLIP's
    "hidden_size": 768,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
}
_GATES = {"float": "one", "vector": "channels"}  # transformers' `alpha_type` -> ours

_9B = FlamingoConfig()
_80B = replace(_9B, text=LlamaConfig(width=8192, depth=80, heads=64, kv_heads=64, mlp_width=22016, norm_eps=1e-5))


class IdeficsTransformers(TransformersLayout):
    """`model_type: idefics`: IdeficsForVisionText2Text."""

    family = "flamingo"
    model = Flamingo
    model_type = "idefics"
    processor = "IdeficsImageProcessor"
    mean, std = CLIP_MEAN, CLIP_STD
    ignored = (
        r"model\..*\.rotary_emb\.inv_freq",
        r"model\.vision_model\.embeddings\.position_ids",
        r"lm_head\.(additional_fc\.)?weight",  # where it is the embedding
    )
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "other")
        for name, config in {
            "HuggingFaceM4/idefics-9b": _9B,
            "HuggingFaceM4/idefics-9b-instruct": replace(_9B, new_tokens=3),
            "HuggingFaceM4/idefics-80b": _80B,
            "HuggingFaceM4/idefics-80b-instruct": replace(_80B, new_tokens=3),
        }.items()
    }

    def read_config(self, description: Description) -> FlamingoConfig:
        """config.json -> FlamingoConfig; what is left out is as in transformers' IdeficsConfig."""
        config = description.config
        image = {**_IMAGE, **read_section(config, "vision_config")}
        image["hidden_size"] = image.get("embed_dim", image["hidden_size"])
        resampler = read_section(config, "perceiver_config")
        gates = config.get("alpha_type", "float")
        if gates not in _GATES:
            raise CheckpointError(f"the gates of an IDEFICS are 'float' or 'vector', not '{gates}'")
        text = read_llama(config)
        return FlamingoConfig(
            image_config(image),
            text,
            ResamplerConfig(
                latents=resampler.get("resampler_n_latents", 64),
                depth=resampler.get("resampler_depth", 6),
                heads=resampler.get("resampler_n_heads", 16),
                head_width=resampler.get("resampler_head_dim", 96),
                qk_norm=resampler.get("qk_layer_norms_perceiver", False),
            )
            if config.get("use_resampler", False)
            else None,
            every=config.get("cross_layer_interval", 1),
            gates=_GATES[gates],  # type: ignore[arg-type]
            qk_norm=config.get("qk_layer_norms", False),
            new_tokens=config.get("additional_vocab_size", 0),
            picture=_picture(description, text.vocabulary),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """FlamingoConfig -> config.json. How the gates are started is transformers' own default: at zero."""
        config: FlamingoConfig = model.config
        image, text, resampler = config.image, config.text, config.resampler
        if not isinstance(image, CLIPImageConfig) or not isinstance(text, LlamaConfig):
            raise CheckpointError("the transformers layout of Flamingo, IDEFICS, has CLIP's picture tower and a LLaMA")
        if text.kv_heads != text.heads or text.stretch is not None:
            raise CheckpointError("the transformers layout of Flamingo, IDEFICS, has the first LLaMA and no later one")
        vision = write_image_config(image, "idefics_vision")
        return {
            **write_llama(text),
            "architectures": ["IdeficsForVisionText2Text"],
            "model_type": self.model_type,
            "vision_config": {"embed_dim": vision.pop("hidden_size"), **vision},
            "use_resampler": resampler is not None,
            "perceiver_config": {}
            if resampler is None
            else {
                "use_resampler": True,
                "resampler_n_latents": resampler.latents,
                "resampler_depth": resampler.depth,
                "resampler_n_heads": resampler.heads,
                "resampler_head_dim": resampler.head_width,
                "qk_layer_norms_perceiver": resampler.qk_norm,
            },
            "cross_layer_interval": config.every,
            "alpha_type": next(theirs for theirs, ours in _GATES.items() if ours == config.gates),
            "qk_layer_norms": config.qk_norm,
            "additional_vocab_size": config.new_tokens,
            "pad_token_id": 0,
        }

    def rows(self, config: FlamingoConfig) -> list[Row]:
        """The table."""
        return [
            *image_rows("model."),
            *llama_rows("text.", "model."),
            Row("text.head.weight", "lm_head.weight"),
            Row("new_tokens.weight", "model.embed_tokens.additional_embedding.weight"),
            Row("new_head.weight", "lm_head.additional_fc.weight"),
            *_resampler_rows("resampler.", "model.perceiver_resampler."),
            *_look_rows("looks.{i}.", "model.gated_cross_attn_layers.{i}."),
        ]

    def read_preprocess(self, description: Description, config: FlamingoConfig) -> Preprocess:
        """From preprocessor_config.json, which may call the size `image_size`; without one, to the network's size."""
        said = dict(description.preprocessor)
        if "image_size" in said:
            said["size"] = said.pop("image_size")
        return from_transformers(said or {"size": config.image_size}, self.processor)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """preprocessor_config.json, with the size as older versions of transformers read it, too."""
        files = super().write_preprocess(preprocess)
        size = preprocess.output_size
        if size is not None and size[0] == size[1]:
            files["preprocessor_config.json"] |= {"image_size": size[0], "image_num_channels": preprocess.channels}
        return files

    def read_tokenizer(self, description: Description, config: FlamingoConfig) -> Tokenizer | None:
        """Its tokenizer.json; None for a checkpoint that has a tokenizer.model alone."""
        assert isinstance(config.text, LlamaConfig)
        return read_byte_pairs(description.tokenizer_files, config.context, config.text.end[0])

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """As every layout, filling up on the left, and with the roles of the tokens that IDEFICS has besides."""
        files = super().write_tokenizer(model)
        if model.tokenizer is not None:
            known = [
                token
                for token in (AROUND, PICTURE, END_OF_UTTERANCE)
                if model.tokenizer.backend.token_to_id(token) is not None
            ]
            said = json.loads(files["tokenizer_config.json"])
            said |= {"padding_side": "left", "additional_special_tokens": known}
            files["tokenizer_config.json"] = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
        return files


def _picture(description: Description, vocabulary: int) -> int:
    """The token that stands for a picture: as the tokenizer says, or the second one behind LLaMA's."""
    said = description.tokenizer_files.get("tokenizer.json", "{}")
    added = json.loads(said).get("added_tokens", [])
    return next((token["id"] for token in added if token["content"] == PICTURE), vocabulary + 1)


def _resampler_rows(ours: str, theirs: str) -> list[Row]:
    block, look, mlp = f"{ours}blocks.{{i}}.", f"{theirs}blocks.{{i}}.0.", f"{theirs}blocks.{{i}}.1."
    return [
        Row(f"{ours}latents", f"{theirs}latents"),
        Row(f"{ours}norm.{{p}}", f"{theirs}layer_norm.{{p}}"),
        Row(f"{block}picture_norm.{{p}}", f"{look}context_layer_norm.{{p}}"),
        Row(f"{block}norm1.{{p}}", f"{look}latents_layer_norm.{{p}}"),
        *_attention_rows(f"{block}attention.", look, "output_proj"),
        Row(f"{block}norm2.{{p}}", f"{mlp}ln.{{p}}"),
        Row(f"{block}up.{{p}}", f"{mlp}fc.{{p}}"),
        Row(f"{block}down.{{p}}", f"{mlp}c_proj.{{p}}"),
    ]


def _look_rows(ours: str, theirs: str) -> list[Row]:
    return [
        Row(f"{ours}gate1", f"{theirs}alpha_cross_attn"),
        Row(f"{ours}gate2", f"{theirs}alpha_dense"),
        Row(f"{ours}norm1.{{p}}", f"{theirs}input_layernorm.{{p}}"),
        *_attention_rows(f"{ours}attention.", f"{theirs}cross_attn.", "o_proj"),
        Row(f"{ours}norm2.{{p}}", f"{theirs}post_attention_layernorm.{{p}}"),
        Row(f"{ours}mlp.up.{{p}}", Joined(f"{theirs}mlp.gate_proj.{{p}}", f"{theirs}mlp.up_proj.{{p}}")),
        Row(f"{ours}mlp.down.{{p}}", f"{theirs}mlp.down_proj.{{p}}"),
    ]


def _attention_rows(ours: str, theirs: str, out: str) -> list[Row]:
    return [
        Row(f"{ours}query.{{p}}", f"{theirs}q_proj.{{p}}"),
        Row(f"{ours}key_value.{{p}}", Joined(f"{theirs}k_proj.{{p}}", f"{theirs}v_proj.{{p}}")),
        Row(f"{ours}out.{{p}}", f"{theirs}{out}.{{p}}"),
        Row(f"{ours}query_norm.{{p}}", f"{theirs}q_layer_norm.{{p}}"),
        Row(f"{ours}key_norm.{{p}}", f"{theirs}k_layer_norm.{{p}}"),
    ]
