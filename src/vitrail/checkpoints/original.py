"""Stable Diffusion in one file, by the names of its authors' code: CompVis's of 1 and 2, Stability's of XL.

The file holds every part under a name of its own (`PARTS`), and nothing but tensors: what kind it is, is seen by their
names. Here are the table of each part and what tells the kinds apart, for `layouts/stable_diffusion_original.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vitrail.checkpoints.layout import Joined, Pointwise, Row, Shapes, Transposed
from vitrail.checkpoints.layouts.clip_open_clip import block_rows as open_clip_block_rows
from vitrail.checkpoints.layouts.clip_text_transformers import CLIPTextTransformers
from vitrail.checkpoints.layouts.unet_diffusers import transformer_rows
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.clip_text import CLIPTextEncoderConfig
from vitrail.models.unet import UNetConfig

UNET, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
PARTS: Mapping[str, Mapping[str, str]] = {
    "1": {"unet": UNET, "autoencoder": AUTOENCODER, "text": "cond_stage_model.transformer."},
    "2": {"unet": UNET, "autoencoder": AUTOENCODER, "text": "cond_stage_model.model."},
    "xl": {
        "unet": UNET,
        "autoencoder": AUTOENCODER,
        "text": "conditioner.embedders.0.transformer.",
        "text2": "conditioner.embedders.1.model.",
    },
}
"""Kind -> what our parts are called in the file."""

_INPUT = f"{UNET}input_blocks.0.0.weight"
_SIGNS = {  # a tensor that only files of this kind have
    "1": (
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
        "cond_stage_model.transformer.final_layer_norm.weight",
    ),
    "2": ("cond_stage_model.model.ln_final.weight",),
    "xl": ("conditioner.embedders.1.model.ln_final.weight",),
}


def original_kind(shapes: Shapes) -> str | None:
    """Which Stable Diffusion a file holds whole, "1", "2" or "xl", by the names of its tensors; None for none."""
    if _INPUT not in shapes:
        return None
    return next((kind for kind, signs in _SIGNS.items() if any(sign in shapes for sign in signs)), None)


def input_channels(shapes: Shapes) -> int:
    """Channels that the UNet of such a file takes: 9 of one that inpaints."""
    return shapes[_INPUT][1]


def part_rows(kind: str, config: Any) -> list[Row]:
    """The table of a whole file.

    Args:
        kind: "1", "2" or "xl".
        config: of the pipeline: it has the config of every part, by our name of it.
    """
    text_rows = {"text": open_clip_text_rows if kind == "2" else openai_text_rows, "text2": open_clip_text_rows}
    tables: dict[str, Callable[[Any], list[Row]]] = {"unet": unet_rows, "autoencoder": autoencoder_rows, **text_rows}
    return [
        row.within(f"{part}.", theirs)
        for part, theirs in PARTS[kind].items()
        for row in tables[part](getattr(config, part))
    ]


def unet_rows(config: UNetConfig) -> list[Row]:
    """The UNet's, without what stands before it: its blocks are counted from one end to the other."""
    rows = [
        Row("time.up.{p}", "time_embed.0.{p}"),
        Row("time.down.{p}", "time_embed.2.{p}"),
        Row("added.up.{p}", "label_emb.0.0.{p}"),
        Row("added.down.{p}", "label_emb.0.2.{p}"),
        Row("stem.{p}", "input_blocks.0.0.{p}"),
        Row("norm.{p}", "out.0.{p}"),
        Row("out.{p}", "out.2.{p}"),
    ]

    def stage(ours: str, block: int, theirs: str, residual: int = 0) -> None:
        """A residual block, and behind it its transformer."""
        rows.extend(_unet_block_rows(f"{ours}residuals.{block}.", f"{theirs}{residual}."))
        transformer, behind = f"{ours}transformers.{block}.", f"{theirs}{residual + 1}."
        rows.extend(transformer_rows(transformer, behind, linear=config.linear_projection))

    number = 1  # the stem is block 0
    for level, depth in enumerate(config.depths):
        for block in range(depth):
            stage(f"down.{level}.", block, f"input_blocks.{number}.")
            number += 1
        rows.append(Row(f"down.{level}.resize.convolution.{{p}}", f"input_blocks.{number}.0.op.{{p}}"))
        number += 1
    stage("middle.", 0, "middle_block.")
    rows.extend(_unet_block_rows("middle.residuals.1.", "middle_block.2."))
    number = 0
    for place, level in enumerate(reversed(range(len(config.depths)))):
        for block in range(config.depths[level] + 1):
            stage(f"up.{place}.", block, f"output_blocks.{number}.")
            number += 1
        behind = 2 if config.transformer_depths[level] else 1
        resize = f"output_blocks.{number - 1}.{behind}.conv."
        rows.append(Row(f"up.{place}.resize.convolution.{{p}}", f"{resize}{{p}}"))
    return rows


def _unet_block_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a `ResidualBlock` that is told the time."""
    names = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "shortcut": "skip_connection",
    }
    return [Row(f"{ours}{mine}.{{p}}", f"{theirs}{other}.{{p}}") for mine, other in names.items()]


def autoencoder_rows(config: AutoencoderKLConfig) -> list[Row]:
    """The KL autoencoder's, without what stands before it: both halves count their levels from the largest pictures."""
    rows = [
        Row("encoder_projection.{p}", "quant_conv.{p}"),
        Row("decoder_projection.{p}", "post_quant_conv.{p}"),
    ]
    deepest = len(config.widths) - 1
    for half, levels, resize in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        rows += [
            Row(f"{half}.conv_{{end}}.{{p}}", f"{half}.conv_{{end}}.{{p}}"),
            Row(f"{half}.norm.{{p}}", f"{half}.norm_out.{{p}}"),
            *_coder_block_rows(f"{half}.middle.0.", f"{half}.mid.block_1."),
            *_coder_attention_rows(f"{half}.middle.1.", f"{half}.mid.attn_1."),
            *_coder_block_rows(f"{half}.middle.2.", f"{half}.mid.block_2."),
        ]
        for level in range(deepest + 1):
            ours = f"{half}.levels.{level}."
            theirs = f"{half}.{levels}.{level if half == 'encoder' else deepest - level}."
            rows += _coder_block_rows(f"{ours}blocks.{{j}}.", f"{theirs}block.{{j}}.")
            rows += _coder_attention_rows(f"{ours}attentions.{{j}}.", f"{theirs}attn.{{j}}.")
            rows.append(Row(f"{ours}resize.convolution.{{p}}", f"{theirs}{resize}.conv.{{p}}"))
    return rows


def _coder_block_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a `ResidualBlock` of the autoencoder."""
    return [
        Row(f"{ours}shortcut.{{p}}", f"{theirs}nin_shortcut.{{p}}"),
        Row(f"{ours}norm{{n}}.{{p}}", f"{theirs}norm{{n}}.{{p}}"),
        Row(f"{ours}conv{{n}}.{{p}}", f"{theirs}conv{{n}}.{{p}}"),
    ]


def _coder_attention_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a `SpatialAttention`, whose linear maps are 1×1 convolutions there."""
    return [
        Row(f"{ours}norm.{{p}}", f"{theirs}norm.{{p}}"),
        Row(f"{ours}attention.qkv.weight", Pointwise(*(f"{theirs}{part}.weight" for part in "qkv"))),
        Row(f"{ours}attention.qkv.bias", Joined(*(f"{theirs}{part}.bias" for part in "qkv"))),
        Row(f"{ours}attention.out.weight", Pointwise(f"{theirs}proj_out.weight")),
        Row(f"{ours}attention.out.bias", f"{theirs}proj_out.bias"),
    ]


def openai_text_rows(config: CLIPTextEncoderConfig) -> list[Row]:
    """OpenAI's text tower: transformers' own names, "text_model." and all."""
    return CLIPTextTransformers().rows(config)


def open_clip_text_rows(config: CLIPTextEncoderConfig) -> list[Row]:
    """open_clip's text tower, without what stands before it."""
    return [
        Row("text.tokens.{p}", "token_embedding.{p}"),
        Row("text.positions", "positional_embedding"),
        Row("text.norm.{p}", "ln_final.{p}"),
        *open_clip_block_rows("text.blocks.{i}.", "transformer.resblocks.{i}."),
        Row("projection.weight", Transposed("text_projection")),
    ]
