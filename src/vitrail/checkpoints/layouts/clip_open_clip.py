"""CLIP as the open_clip library publishes it."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Layout, Published, Row, Transposed
from vitrail.checkpoints.preprocessors import CLIP_MEAN, CLIP_STD, from_open_clip, to_open_clip
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.checkpoints.transformers import read_size, write_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Crop, Preprocess, Resize
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig, CLIPResNetConfig, CLIPTextConfig
from vitrail.models.model import Model
from vitrail.nn.patches import pair
from vitrail.text.tokenizer import Tokenizer

_READ = {  # what each section says that is read here, or is about training or tokenizers
    "model_cfg": ["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "nonscalar_logit_scale"],
    "vision_cfg": [
        "image_size",
        "patch_size",
        "width",
        "layers",
        "head_width",
        "mlp_ratio",
        "norm_kwargs",
        "patch_dropout",
    ],
    "text_cfg": [
        "context_length",
        "vocab_size",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "norm_kwargs",
        "eos_id",
        "pad_id",
        "hf_tokenizer_name",
        "tokenizer_mode",
        "tokenizer_kwargs",
    ],
}
_PLAIN: dict[str, dict[str, tuple[str, ...]]] = {  # and what it may say of the rest, besides that it is off
    "model_cfg": {},
    "vision_cfg": {"pool_type": ("tok",), "pos_embed_type": ("learnable",), "block_type": ("default",)},
    "text_cfg": {"pool_type": ("argmax", "eos"), "proj_type": ("linear",), "block_type": ("default",)},
}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of the config, once it is certain that it says nothing that a plain CLIP does not know.

    Raises:
        CheckpointError: it does; the sentence names the key.
    """
    section: Mapping[str, Any] = config[name]
    for key, value in section.items():
        if value and key not in _READ[name] and value not in _PLAIN[name].get(key, ()):
            said = "" if isinstance(value, Mapping) else f" '{value}'"
            raise CheckpointError(
                f"{name} in open_clip_config.json has {key}{said}, and Vitrail reads open_clip's plain CLIPs: "
                "a ViT or a ResNet beside CLIP's own text transformer"
            )
    return section


def _norm_eps(section: Mapping[str, Any]) -> float:
    """ε of a tower's norms."""
    said = section.get("norm_kwargs") or {}
    if said.keys() - {"eps"}:
        raise CheckpointError(f"norm_kwargs in open_clip_config.json is {said}, where only eps is known")
    return said.get("eps", 1e-5)


def _norm_keys(eps: float) -> dict[str, Any]:
    return {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}


def _ratio(hidden: int, width: int) -> float:
    """The mlp_ratio for which ⌊width × ratio⌋ is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _published(
    hub: str, embed_dim: int, vision: dict[str, Any], text: dict[str, Any], *, quick_gelu: bool = False
) -> Published:
    """An entry from the numbers of open_clip's own model configs."""
    model_cfg = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu}
    config = read_model_config(model_cfg)
    height, width = pair(config.image_size)
    preprocess = Preprocess(Resize(height, "shortest"), Crop((height, width)), mean=CLIP_MEAN, std=CLIP_STD)
    return Published(config, hub, "MIT", preprocess)


def read_model_config(model_cfg: Mapping[str, Any]) -> CLIPConfig:
    """`model_cfg` -> CLIPConfig; what is left out is as in open_clip's CLIPVisionCfg and CLIPTextCfg.

    Raises:
        CheckpointError: it is not a plain CLIP.
    """
    model_cfg = _section({"model_cfg": model_cfg}, "model_cfg")
    vision, text = _section(model_cfg, "vision_cfg"), _section(model_cfg, "text_cfg")
    activation = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    width, text_width = vision.get("width", 768), text.get("width", 512)
    head_width, layers = vision.get("head_width", 64), vision.get("layers", 12)
    image: CLIPImageConfig | CLIPResNetConfig
    if isinstance(layers, list | tuple):
        image = CLIPResNetConfig(
            image_size=read_size(vision.get("image_size", 224)),
            width=width,
            depths=tuple(layers),
            heads=width * 32 // head_width,
        )
    else:
        image = CLIPImageConfig(
            image_size=read_size(vision.get("image_size", 224)),
            patch_size=read_size(vision.get("patch_size", 16)),
            width=width,
            depth=layers,
            heads=width // head_width,
            mlp_width=int(width * vision.get("mlp_ratio", 4.0)),
            activation=activation,
            norm_eps=_norm_eps(vision),
            antialias=True,
        )
    return CLIPConfig(
        image,
        CLIPTextConfig(
            vocabulary=text.get("vocab_size", 49408),
            context=text.get("context_length", 77),
            width=text_width,
            depth=text.get("layers", 12),
            heads=text.get("heads", 8),
            mlp_width=int(text_width * text.get("mlp_ratio", 4.0)),
            activation=activation,
            norm_eps=_norm_eps(text),
            end=text.get("eos_id", 2) if text.get("pool_type") == "eos" else None,
        ),
        model_cfg["embed_dim"],
    )


def _vision_config(config: CLIPImageConfig | CLIPResNetConfig) -> dict[str, Any]:
    """The picture tower's numbers -> `vision_cfg`."""
    if config.channels != 3:
        raise CheckpointError(f"the open_clip layout has pictures of 3 channels, not {config.channels}")
    said: dict[str, Any] = {"image_size": write_size(config.image_size), "width": config.width}
    if isinstance(config, CLIPResNetConfig):
        head_width = config.width * 32 // config.heads
        return {**said, "layers": list(config.depths), "head_width": head_width, "patch_size": None}
    return {
        **said,
        "layers": config.depth,
        "head_width": config.width // config.heads,
        "mlp_ratio": _ratio(config.mlp_width, config.width),
        "patch_size": write_size(config.patch_size),
        **_norm_keys(config.norm_eps),
    }


def _text_config(config: CLIPTextConfig) -> dict[str, Any]:
    """The text tower's numbers -> `text_cfg`."""
    return {
        "context_length": config.context,
        "vocab_size": config.vocabulary,
        "width": config.width,
        "heads": config.heads,
        "layers": config.depth,
        **({} if config.mlp_width == 4 * config.width else {"mlp_ratio": _ratio(config.mlp_width, config.width)}),
        **({} if config.end is None else {"pool_type": "eos", "eos_id": config.end}),
        **_norm_keys(config.norm_eps),
    }


def _tokenizer_keys(tokenizer: Tokenizer | None) -> dict[str, str]:
    """What makes open_clip take the tokenizer beside the weights, where that is not OpenAI's, which it has itself."""
    if tokenizer is None:
        return {}
    openai = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    its_own = {token: tokenizer.backend.token_to_id(token) for token in openai} == openai
    return {} if its_own else {"hf_tokenizer_name": "local-dir"}


def _text(width: int, layers: int = 12) -> dict[str, Any]:
    return {"width": width, "heads": width // 64, "layers": layers}


def _resnet(layers: tuple[int, ...], image_size: int = 224, width: int = 64) -> dict[str, Any]:
    return {"layers": layers, "image_size": image_size, "width": width}


def _large(image_size: int = 224) -> dict[str, Any]:
    return {"image_size": image_size, "layers": 24, "width": 1024, "patch_size": 14}


_HUGE = {"layers": 32, "width": 1280, "head_width": 80, "patch_size": 14}
_GIANT = {"layers": 40, "width": 1408, "head_width": 88, "mlp_ratio": 4.3637, "patch_size": 14}
_GIGANTIC = {"layers": 48, "width": 1664, "head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14}


class CLIPOpenCLIP(Layout):
    """A hub folder with open_clip_config.json and open_clip_model.safetensors; its sizes by open_clip's names.

    OpenAI's own networks are those with "quickgelu", as in open_clip.
    """

    library = "open_clip"
    family = "clip"
    model: type[Model] = CLIP
    config_file = "open_clip_config.json"
    weights_file = "open_clip_model.safetensors"
    published: ClassVar[Mapping[str, Published]] = {
        **{
            f"{name}-quickgelu": _published(f"timm/{hub}.openai", embed, vision, _text(text), quick_gelu=True)
            for name, hub, embed, vision, text in (
                ("RN50", "resnet50_clip", 1024, _resnet((3, 4, 6, 3)), 512),
                ("RN101", "resnet101_clip", 512, _resnet((3, 4, 23, 3)), 512),
                ("RN50x4", "resnet50x4_clip", 640, _resnet((4, 6, 10, 6), 288, 80), 640),
                ("RN50x16", "resnet50x16_clip", 768, _resnet((6, 8, 18, 8), 384, 96), 768),
                ("RN50x64", "resnet50x64_clip", 1024, _resnet((3, 15, 36, 10), 448, 128), 1024),
                ("ViT-B-32", "vit_base_patch32_clip_224", 512, {"patch_size": 32}, 512),
                ("ViT-B-16", "vit_base_patch16_clip_224", 512, {"patch_size": 16}, 512),
                ("ViT-L-14", "vit_large_patch14_clip_224", 768, _large(), 768),
                ("ViT-L-14-336", "vit_large_patch14_clip_336", 768, _large(336), 768),
            )
        },
        **{
            name: _published(f"laion/CLIP-{name}-laion2B-{samples}", embed, vision, text)
            for name, samples, embed, vision, text in (
                ("ViT-B-32", "s34B-b79K", 512, {"patch_size": 32}, _text(512)),
                ("ViT-B-16", "s34B-b88K", 512, {"patch_size": 16}, _text(512)),
                ("ViT-L-14", "s32B-b82K", 768, _large(), _text(768)),
                ("ViT-H-14", "s32B-b79K", 1024, _HUGE, _text(1024, 24)),
                ("ViT-g-14", "s34B-b88K", 1024, _GIANT, _text(1024, 24)),
                ("ViT-bigG-14", "39B-b160k", 1280, _GIGANTIC, _text(1280, 32)),
            )
        },
    }

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `model_cfg`."""
        return "model_cfg" in config

    def read_config(self, description: Description) -> CLIPConfig:
        """open_clip_config.json -> CLIPConfig."""
        return read_model_config(description.config["model_cfg"])

    def write_config(self, model: Model) -> dict[str, Any]:
        """CLIPConfig and preprocessing -> open_clip_config.json."""
        assert isinstance(model, CLIP)
        image, text = model.config.image, model.config.text
        if not isinstance(text, CLIPTextConfig):
            raise CheckpointError("the open_clip layout of CLIP has no BERT: its text tower is CLIP's own")
        activations = {tower.activation for tower in (image, text) if not isinstance(tower, CLIPResNetConfig)}
        if activations not in ({"gelu"}, {"quick_gelu"}):
            raise CheckpointError(
                f"the open_clip layout has gelu or quick_gelu in both towers, not {' and '.join(sorted(activations))}"
            )
        return {
            "model_cfg": {
                "embed_dim": model.config.width,
                **({"quick_gelu": True} if activations == {"quick_gelu"} else {}),
                "vision_cfg": _vision_config(image),
                "text_cfg": {**_text_config(text), **_tokenizer_keys(model.tokenizer)},
            },
            "preprocess_cfg": to_open_clip(model.preprocess, pair(image.image_size), exact=False),
        }

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        resnet = isinstance(config.image, CLIPResNetConfig)
        return [
            *(_resnet_rows() if resnet else _image_rows()),
            Row("text.tokens.{p}", "token_embedding.{p}"),
            Row("text.positions", "positional_embedding"),
            Row("text.norm.{p}", "ln_final.{p}"),
            *block_rows("text.blocks.{i}.", "transformer.resblocks.{i}."),
            Row("text_projection.weight", Transposed("text_projection")),
            Row("logit_scale", "logit_scale"),
        ]

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """From preprocess_cfg, to the network's size."""
        return from_open_clip(description.config.get("preprocess_cfg") or {}, pair(config.image_size))

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """Nothing beside open_clip_config.json."""
        return {}

    def read_labels(self, description: Description, config: Any) -> None:
        """It has none: labels are texts."""
        return None

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """From the files beside the weights: filled up as open_clip's own does, or one of transformers if it says so.

        open_clip's own vocabulary is in its package: a folder without tokenizer files has no tokenizer here.
        """
        text = description.config["model_cfg"]["text_cfg"]
        if text.get("tokenizer_mode") or text.get("tokenizer_kwargs"):
            return None  # other tokens than the files say
        pad = None if text.get("hf_tokenizer_name") else 0
        return read_clip(description.tokenizer_files, config.text.context, pad=pad, fixed=True)


def _image_rows() -> list[Row]:
    """The Vision Transformer's."""
    return [
        Row("image.class_token", "visual.class_embedding"),
        Row("image.positions", "visual.positional_embedding"),
        Row("image.patchify.projection.{p}", "visual.conv1.{p}"),
        Row("image.norm_before.{p}", "visual.ln_pre.{p}"),
        Row("image.norm.{p}", "visual.ln_post.{p}"),
        Row("image.projection.weight", Transposed("visual.proj")),
        *block_rows("image.blocks.{i}.", "visual.transformer.resblocks.{i}."),
    ]


def block_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a tower's blocks. `ours` and `theirs` stand before the names, dot and all."""
    return [
        Row(f"{ours}attention.qkv.{{p}}", f"{theirs}attn.in_proj_{{p}}"),
        Row(f"{ours}attention.out.{{p}}", f"{theirs}attn.out_proj.{{p}}"),
        Row(f"{ours}norm{{j}}.{{p}}", f"{theirs}ln_{{j}}.{{p}}"),
        Row(f"{ours}mlp.up.{{p}}", f"{theirs}mlp.c_fc.{{p}}"),
        Row(f"{ours}mlp.down.{{p}}", f"{theirs}mlp.c_proj.{{p}}"),
    ]


def _resnet_rows() -> list[Row]:
    """The ResNet's; open_clip counts convolutions and stages from 1."""
    pool = "visual.attnpool."
    rows = [
        Row("image.attention_pool.positions", f"{pool}positional_embedding"),
        Row("image.attention_pool.query.{p}", f"{pool}q_proj.{{p}}"),
        Row("image.attention_pool.key_value.{p}", Joined(f"{pool}k_proj.{{p}}", f"{pool}v_proj.{{p}}")),
        Row("image.attention_pool.out.{p}", f"{pool}c_proj.{{p}}"),
    ]
    for number in range(3):
        rows += _layer_rows(f"image.stem.{number}.", f"visual.conv{number + 1}.", f"visual.bn{number + 1}.")
    for number in range(4):
        ours, theirs = f"image.stages.{number}.{{i}}.", f"visual.layer{number + 1}.{{i}}."
        for place, part in enumerate(("reduce", "filter", "expand"), start=1):
            rows += _layer_rows(f"{ours}{part}.", f"{theirs}conv{place}.", f"{theirs}bn{place}.")
        rows += _layer_rows(f"{ours}shortcut.", f"{theirs}downsample.0.", f"{theirs}downsample.1.")
    return rows


def _layer_rows(ours: str, convolution: str, norm: str) -> list[Row]:
    """A convolution's and its norm's."""
    return [Row(f"{ours}convolution.{{p}}", f"{convolution}{{p}}"), Row(f"{ours}norm.{{p}}", f"{norm}{{p}}")]
