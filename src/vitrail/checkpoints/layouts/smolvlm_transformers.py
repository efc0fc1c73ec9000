"""SmolVLM and SmolVLM2 as the transformers library publishes them."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.clip_transformers import block_rows
from vitrail.checkpoints.layouts.llama_transformers import llama_rows, read_llama, write_llama
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.checkpoints.tokenizers import read_byte_pairs
from vitrail.checkpoints.transformers import TransformersLayout, read_encoder, read_size, write_encoder
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.imaging.tiles import MAX_LONGEST, TiledPreprocess
from vitrail.models.llama import LlamaConfig
from vitrail.models.model import Model
from vitrail.models.siglip import SigLIPImageConfig
from vitrail.models.smolvlm import END, PICTURE, START, SmolVLM, SmolVLMConfig
from vitrail.text.tokenizer import Tokenizer

_PLAIN = "SiglipImageProcessor"  # what is done to a tile: these processors differ in how they cut alone
_SETTINGS = {"size": {"longest_edge": 4 * 364}, "max_image_size": {"longest_edge": 364}, "resample": 1}
"""What transformers' Idefics3ImageProcessor does where its file is silent."""

_TEMPLATE = (
    START + "{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{{ '' if message['content'][0]['type'] == 'image' else ' ' }}"
    "{% for part in message['content'] %}"
    "{{ '" + PICTURE + "' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}" + END + "\n{% endfor %}{{ 'Assistant:' if add_generation_prompt else '' }}"
)
"""What `SmolVLM.prompt` writes, in the words of transformers' processors."""

_ROLES = {"bos_token": START, "eos_token": END, "unk_token": "<|endoftext|>"}

_SMALL = SmolVLMConfig()  # the 256M
_MEDIUM = replace(_SMALL, text=replace(_SMALL.text, width=960, depth=32, heads=15, kv_heads=5, mlp_width=2560))
_LARGE = SmolVLMConfig(
    SigLIPImageConfig(image_size=384, patch_size=14, width=1152, depth=27, heads=16, mlp_width=4304),
    LlamaConfig(
        vocabulary=49155,
        context=16384,
        width=2048,
        depth=24,
        mlp_width=8192,
        norm_eps=1e-5,
        rotary_base=273768.0,
    ),
    shuffle=3,
    picture=49153,
)
_LARGE_2 = replace(
    _LARGE, text=replace(_LARGE.text, vocabulary=49280, context=8192, rotary_base=130000.0), picture=49190
)


def _published(configs: Mapping[str, SmolVLMConfig], release: int) -> dict[str, Published]:
    return {
        f"HuggingFaceTB/{name}": Published(replace(config, release=release), f"HuggingFaceTB/{name}", "Apache-2.0")
        for name, config in configs.items()
    }


class SmolVLMTransformers(TransformersLayout):
    """`model_type: idefics3`: Idefics3ForConditionalGeneration, SmolVLM's first release."""

    family = "smolvlm"
    model = SmolVLM
    model_type = "idefics3"
    processor = "Idefics3ImageProcessor"
    release: ClassVar[int] = 1
    architecture: ClassVar[str] = "Idefics3ForConditionalGeneration"
    ignored = (r"lm_head\.weight", r"model\.vision_model\.embeddings\.position_ids")  # the first where it is tied
    published: ClassVar[Mapping[str, Published]] = _published(
        {"SmolVLM-256M-Instruct": _SMALL, "SmolVLM-500M-Instruct": _MEDIUM, "SmolVLM-Instruct": _LARGE}, 1
    )

    def read_config(self, description: Description) -> SmolVLMConfig:
        """config.json -> SmolVLMConfig; what is left out is as in transformers' Idefics3Config.

        Raises:
            CheckpointError: the decoder is no LLaMA.
        """
        said = description.config
        image, text = said.get("vision_config") or {}, said.get("text_config") or {}
        if text.get("model_type", "llama") != "llama":
            raise CheckpointError(f"a SmolVLM with a '{text['model_type']}' for its decoder is not one Vitrail knows")
        decoder = read_llama({"rms_norm_eps": 1e-5, **text})
        return SmolVLMConfig(
            SigLIPImageConfig(
                image_size=read_size(image.get("image_size", 224)),
                patch_size=read_size(image.get("patch_size", 32)),
                channels=image.get("num_channels", 3),
                **read_encoder(image, width=1152, heads=16, activation="gelu_pytorch_tanh", norm_eps=1e-6),
            ),
            replace(decoder, tied=said.get("tie_word_embeddings", False)),
            shuffle=said.get("scale_factor", 2),
            picture=said.get("image_token_id", 128257),
            release=self.release,
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """SmolVLMConfig -> config.json."""
        config: SmolVLMConfig = model.config
        if not isinstance(config.image.image_size, int) or not isinstance(config.image.patch_size, int):
            raise CheckpointError("the transformers layout of this family has square pictures and patches only")
        text = write_llama(config.text)
        text["pad_token_id"] = None if model.tokenizer is None else model.tokenizer.pad
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "image_token_id": config.picture,
            "scale_factor": config.shuffle,
            "tie_word_embeddings": config.text.tied,
            "vision_config": {
                "model_type": f"{self.model_type}_vision",
                "image_size": config.image.image_size,
                "patch_size": config.image.patch_size,
                "num_channels": config.image.channels,
                **write_encoder(config.image),
            },
            "text_config": text,
        }

    def can_write(self, config: SmolVLMConfig) -> bool:
        """Networks of this release."""
        return config.release == self.release

    def rows(self, config: SmolVLMConfig) -> list[Row]:
        """The table."""
        return [
            Row("image.patchify.projection.{p}", "model.vision_model.embeddings.patch_embedding.{p}"),
            Row("image.positions", "model.vision_model.embeddings.position_embedding.weight"),
            *block_rows("image.blocks.{i}.", "model.vision_model.encoder.layers.{i}."),
            Row("image.norm.{p}", "model.vision_model.post_layernorm.{p}"),
            Row("connector.projection.weight", "model.connector.modality_projection.proj.weight"),
            *llama_rows("text.", "model.text_model."),
            Row("text.head.weight", "lm_head.weight"),
        ]

    def read_preprocess(self, description: Description, config: SmolVLMConfig) -> TiledPreprocess:
        """From preprocessor_config.json; without one, as published: longest edges of four tiles."""
        if not isinstance(config.image_size, int):
            raise ValueError(f"tiles of {config.image_size} pixels are no squares")
        said = description.preprocessor.get("image_processor", description.preprocessor) or {
            "size": {"longest_edge": 4 * config.image_size},
            "max_image_size": {"longest_edge": config.image_size},
        }
        said = {**_SETTINGS, **said}
        longest, tile = said["size"].get("longest_edge"), said["max_image_size"]["longest_edge"]
        if not isinstance(longest, int) or not 0 < longest <= MAX_LONGEST:
            raise CheckpointError(
                f"size in the preprocessor config is {said['size']!r}: it must have a longest_edge up to {MAX_LONGEST}"
            )
        square = {"height": tile, "width": tile}
        plain = from_transformers(
            {"do_convert_rgb": True, **said, "image_processor_type": _PLAIN}
            | {"do_resize": True, "size": square, "do_pad": False, "do_center_crop": False}
        )
        return TiledPreprocess(
            **{field.name: getattr(plain, field.name) for field in fields(Preprocess)},
            longest=longest if said.get("do_resize", True) else None,
            split=bool(said.get("do_image_splitting", True)),
        )

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """preprocessor_config.json."""
        if not isinstance(preprocess, TiledPreprocess):
            raise CheckpointError("a SmolVLM is saved with a `preprocess` that cuts pictures: a TiledPreprocess")
        longest = {} if preprocess.longest is None else {"longest_edge": preprocess.longest}
        said = to_transformers(preprocess, _PLAIN)
        del said["do_center_crop"]
        said |= {
            "image_processor_type": self.processor,
            "do_resize": preprocess.longest is not None,
            "size": longest or _SETTINGS["size"],
            "max_image_size": {"longest_edge": preprocess.tile},
            "do_image_splitting": preprocess.split,
            "do_pad": True,
        }
        return {"preprocessor_config.json": said}

    def read_tokenizer(self, description: Description, config: SmolVLMConfig) -> Tokenizer | None:
        """As transformers' GPT2Tokenizer.

        Raises:
            CheckpointError: where its config has the token of a picture, the tokenizer has another.
        """
        tokenizer = read_byte_pairs(description.tokenizer_files, config.text.context, config.text.end[0])
        if tokenizer is not None and tokenizer.backend.token_to_id(PICTURE) != config.picture:
            raise CheckpointError(f"its config has '{PICTURE}' as token {config.picture}, and its tokenizer has not")
        return tokenizer

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """The tokenizer's files, and what transformers' processor has to know to spell pictures and turns."""
        files = super().write_tokenizer(model)
        if model.tokenizer is None:
            return files
        known = model.tokenizer.backend.token_to_id
        roles = {role: token for role, token in _ROLES.items() if known(token) is not None}
        settings = json.loads(files["tokenizer_config.json"]) | roles
        processor = {
            "processor_class": self.processor.replace("ImageProcessor", "Processor"),
            "image_seq_len": model.config.tokens,
        }
        return {
            **files,
            "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
            "processor_config.json": json.dumps(processor, indent=2) + "\n",
            "chat_template.jinja": _TEMPLATE,
        }


class SmolVLM2Transformers(SmolVLMTransformers):
    """`model_type: smolvlm`: SmolVLMForConditionalGeneration, the same network and another processor.

    That also prepares videos, which are series of pictures to the network; here they are given as pictures.
    """

    model_type = "smolvlm"
    processor = "SmolVLMImageProcessor"
    release = 2
    architecture = "SmolVLMForConditionalGeneration"
    published: ClassVar[Mapping[str, Published]] = _published(
        {
            "SmolVLM2-256M-Video-Instruct": _SMALL,
            "SmolVLM2-500M-Video-Instruct": _MEDIUM,
            "SmolVLM2-2.2B-Instruct": _LARGE_2,
        },
        2,
    )
