"""The conditional UNet as the diffusers library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.diffusers import DiffusersLayout, block_rows, refuse_other_activations, refuse_unusual
from vitrail.checkpoints.layout import Description, Joined, Pointwise, Published, Row
from vitrail.checkpoints.transformers import read_size, write_size
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.model import Model
from vitrail.models.stable_diffusion_xl import StableDiffusionXLConfig
from vitrail.models.unet import UNet, UNetConfig

_USUAL: dict[str, Any] = {
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "attention_type": "default",
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
}
"""Settings of UNet2DConditionModel that change the mathematics, and the values of every Stable Diffusion."""

_CLASSES = {"class_embed_type": None, "num_class_embeds": None, "class_embeddings_concat": False}
_WITH, _WITHOUT = "CrossAttn", ""  # what names of blocks begin with: "CrossAttnDownBlock2D", "DownBlock2D"


def _published(name: str, config: UNetConfig, licence: str) -> tuple[str, Published]:
    return f"{name}/unet", Published(config, f"{name}/unet", licence)


STABLE_DIFFUSION_2 = UNetConfig(heads=(5, 10, 20, 20), context_width=1024, linear_projection=True)
_RAIL, _RAIL_PLUS = "LicenseRef-CreativeML-OpenRAIL-M", "LicenseRef-CreativeML-OpenRAIL++-M"


class UNetDiffusers(DiffusersLayout):
    """`_class_name: UNet2DConditionModel`, as Stable Diffusion 1.5, 2.1 and XL have it, and inpainting."""

    family = "unet"
    model: type[Model] = UNet
    class_name = "UNet2DConditionModel"
    published: ClassVar[Mapping[str, Published]] = dict(
        (
            _published("stable-diffusion-v1-5/stable-diffusion-v1-5", UNetConfig(), _RAIL),
            _published("stable-diffusion-v1-5/stable-diffusion-inpainting", UNetConfig(channels=9), _RAIL),
            _published(
                "stabilityai/stable-diffusion-2-1",
                replace(STABLE_DIFFUSION_2, image_size=96, upcast_attention=True),
                _RAIL_PLUS,
            ),
            _published("stabilityai/stable-diffusion-2-1-base", STABLE_DIFFUSION_2, _RAIL_PLUS),
            _published("stabilityai/stable-diffusion-xl-base-1.0", StableDiffusionXLConfig().unet, _RAIL_PLUS),
            _published(
                "stabilityai/stable-diffusion-xl-refiner-1.0",
                UNetConfig(
                    image_size=128,
                    widths=(384, 768, 1536, 1536),
                    transformer_depths=(0, 4, 4, 0),
                    middle_depth=4,
                    heads=(6, 12, 24, 24),
                    context_width=1280,
                    added_width=2560,
                    linear_projection=True,
                ),
                _RAIL_PLUS,
            ),
        )
    )

    def read_config(self, description: Description) -> UNetConfig:
        """config.json -> UNetConfig; what is left out is as in diffusers' UNet2DConditionModel."""
        said = description.config
        for name, value in _CLASSES.items():
            if said.get(name, value) != value:
                raise CheckpointError(
                    f"this UNet is told a class ('{name}' {said[name]!r}): Vitrail's are told texts alone"
                )
        refuse_unusual(said, _USUAL, "a UNet2DConditionModel")
        refuse_other_activations(said, "a UNet2DConditionModel")
        widths = tuple(said.get("block_out_channels", (320, 640, 1280, 1280)))
        transformers = _levels(said.get("transformer_layers_per_block", 1), len(widths))
        has_transformers = _read_kinds(said, len(widths))
        added = said.get("addition_embed_type")
        if added not in (None, "text_time"):
            raise CheckpointError(
                f"a UNet2DConditionModel with 'addition_embed_type' {added!r} is not one Vitrail knows"
            )
        size = said.get("sample_size")
        return UNetConfig(
            image_size=64 if size is None else read_size(size),
            channels=said.get("in_channels", 4),
            out_channels=said.get("out_channels", 4),
            widths=widths,
            depths=_levels(said.get("layers_per_block", 2), len(widths)),
            transformer_depths=tuple(
                depth if has else 0 for depth, has in zip(transformers, has_transformers, strict=True)
            ),
            middle_depth=transformers[-1],
            # this name is a mistake that diffusers keeps: what it gives is how many heads there are
            heads=_levels(said.get("attention_head_dim", 8), len(widths)),
            context_width=said.get("cross_attention_dim", 1280),
            added_width=said["projection_class_embeddings_input_dim"] if added else 0,
            number_width=said["addition_time_embed_dim"] if added else 256,
            groups=said.get("norm_num_groups", 32),
            norm_eps=said.get("norm_eps", 1e-5),
            linear_projection=said.get("use_linear_projection", False),
            upcast_attention=said.get("upcast_attention") or False,  # null in XL
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """UNetConfig -> config.json."""
        config: UNetConfig = model.config
        kinds = [_WITH if depth else _WITHOUT for depth in config.transformer_depths]
        depths = [depth or 1 for depth in config.transformer_depths]  # where there are none the number says nothing
        if kinds[-1] == _WITH and depths[-1] != config.middle_depth:
            raise CheckpointError(
                "the diffusers layout of a UNet has transformers in its middle as deep as on its last level: "
                f"{config.transformer_depths[-1]}, not {config.middle_depth}"
            )
        depths[-1] = config.middle_depth
        added = bool(config.added_width)
        return {
            "_class_name": self.class_name,
            "sample_size": write_size(config.image_size),
            "in_channels": config.channels,
            "out_channels": config.out_channels,
            "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
            "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
            "block_out_channels": list(config.widths),
            "layers_per_block": _one(config.depths),
            "transformer_layers_per_block": _one(depths),
            "attention_head_dim": _one(config.heads),
            "cross_attention_dim": config.context_width,
            "norm_num_groups": config.groups,
            "norm_eps": config.norm_eps,
            "use_linear_projection": config.linear_projection,
            "upcast_attention": config.upcast_attention,
            "addition_embed_type": "text_time" if added else None,
            "addition_time_embed_dim": config.number_width if added else None,
            "projection_class_embeddings_input_dim": config.added_width if added else None,
            **_USUAL,
            **_CLASSES,
        }

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        rows = [
            Row("time.up.{p}", "time_embedding.linear_1.{p}"),
            Row("time.down.{p}", "time_embedding.linear_2.{p}"),
            Row("added.up.{p}", "add_embedding.linear_1.{p}"),
            Row("added.down.{p}", "add_embedding.linear_2.{p}"),
            Row("stem.{p}", "conv_in.{p}"),
            Row("norm.{p}", "conv_norm_out.{p}"),
            Row("out.{p}", "conv_out.{p}"),
            Row("down.{i}.resize.convolution.{p}", "down_blocks.{i}.downsamplers.0.conv.{p}"),
            Row("up.{i}.resize.convolution.{p}", "up_blocks.{i}.upsamplers.0.conv.{p}"),
        ]
        for ours, theirs in (
            ("down.{i}.", "down_blocks.{i}."),
            ("middle.", "mid_block."),
            ("up.{i}.", "up_blocks.{i}."),
        ):
            rows += block_rows(f"{ours}residuals.{{j}}.", f"{theirs}resnets.{{j}}.")
            rows += transformer_rows(
                f"{ours}transformers.{{j}}.", f"{theirs}attentions.{{j}}.", linear=config.linear_projection
            )
        return rows

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """There are no pictures, but latents."""
        return Preprocess(resize=None)


def transformer_rows(ours: str, theirs: str, *, linear: bool) -> list[Row]:
    """The rows of a `SpatialTransformer`, which has the same names in the original files and in diffusers.

    Args:
        ours: what stands before our names, dot and all.
        theirs: what stands before theirs.
        linear: whether they hold the maps into and out of it as matrices, and not as 1×1 convolutions.
    """
    maps = Joined if linear else Pointwise
    block, layer = f"{ours}blocks.{{n}}.", f"{theirs}transformer_blocks.{{n}}."
    return [
        Row(f"{ours}norm.{{p}}", f"{theirs}norm.{{p}}"),
        Row(f"{ours}into.weight", maps(f"{theirs}proj_in.weight")),
        Row(f"{ours}into.bias", f"{theirs}proj_in.bias"),
        Row(f"{ours}out.weight", maps(f"{theirs}proj_out.weight")),
        Row(f"{ours}out.bias", f"{theirs}proj_out.bias"),
        Row(f"{block}attention.qkv.{{p}}", Joined(*(f"{layer}attn1.to_{part}.{{p}}" for part in "qkv"))),
        Row(f"{block}attention.out.{{p}}", f"{layer}attn1.to_out.0.{{p}}"),
        Row(f"{block}cross.query.{{p}}", f"{layer}attn2.to_q.{{p}}"),
        Row(f"{block}cross.key_value.{{p}}", Joined(f"{layer}attn2.to_k.{{p}}", f"{layer}attn2.to_v.{{p}}")),
        Row(f"{block}cross.out.{{p}}", f"{layer}attn2.to_out.0.{{p}}"),
        Row(f"{block}mlp.up.{{p}}", f"{layer}ff.net.0.proj.{{p}}"),
        Row(f"{block}mlp.down.{{p}}", f"{layer}ff.net.2.{{p}}"),
        Row(f"{block}norm{{m}}.{{p}}", f"{layer}norm{{m}}.{{p}}"),
    ]


def _read_kinds(said: Mapping[str, Any], levels: int) -> list[bool]:
    """Which levels have transformers, by the names of their blocks."""
    usual = [_WITH] * (levels - 1) + [_WITHOUT]
    down = list(said.get("down_block_types", (f"{kind}DownBlock2D" for kind in usual)))
    up = list(said.get("up_block_types", (f"{kind}UpBlock2D" for kind in reversed(usual))))
    for kind in (*down, *up):
        if kind not in (f"{have}{way}Block2D" for have in (_WITH, _WITHOUT) for way in ("Down", "Up")):
            raise CheckpointError(f"a UNet2DConditionModel with a block {kind!r} is not one that Vitrail knows")
    if len(down) != levels or [kind.replace("Down", "Up") for kind in reversed(down)] != up:
        raise CheckpointError(
            f"the levels of this UNet are not the same on the way down ({', '.join(down)}) and up ({', '.join(up)})"
        )
    return [kind.startswith(_WITH) for kind in down]


def _levels(said: Any, levels: int) -> tuple[Any, ...]:
    """A number for every level, where one may stand for all of them."""
    return (said,) * levels if isinstance(said, int) else tuple(said)


def _one(numbers: Any) -> Any:
    """One number where it stands for all of them."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)
