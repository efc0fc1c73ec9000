"""DDPM and NCSN++ as the diffusers library publishes them: both are a UNet2DModel there.

Their hub folders are those of pipelines, with the network beside the pipeline's own index: so a network alone has a
name here and no hub id, and is loaded from a folder.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.diffusers import (
    DiffusersLayout,
    attention_rows,
    block_rows,
    refuse_other_activations,
    refuse_unusual,
)
from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.transformers import read_size, write_size
from vitrail.errors import CheckpointError
from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.model import Model
from vitrail.models.ncsnpp import NCSNpp, NCSNppConfig

_USUAL = {  # what neither family knows otherwise
    "mid_block_type": "UNetMidBlock2D",
    "downsample_type": "conv",
    "upsample_type": "conv",
    "attn_norm_num_groups": None,
    "resnet_time_scale_shift": "default",
    "class_embed_type": None,
    "num_class_embeds": None,
    "time_embedding_dim": None,
}

CELEBA_HQ = DDPMConfig(
    image_size=256, widths=(128, 128, 256, 256, 512, 512), attention=(False, False, False, False, True, False)
)

FFHQ_1024 = NCSNppConfig(
    image_size=1024,
    widths=(16, 32, 64, 128, 256, 512, 512, 512),
    depth=1,
    attention=(False, False, False, False, False, False, True, False),
)


class UNet2DDiffusers(DiffusersLayout):
    """`_class_name: UNet2DModel`; the way the time is embedded says which family it is."""

    class_name = "UNet2DModel"
    time: ClassVar[str]
    plain: ClassVar[str]  # the block without attention, "{}Block2D" with a direction for the braces
    attending: ClassVar[str]

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `_class_name` and `time_embedding_type`."""
        return super().recognises(config) and config.get("time_embedding_type", "positional") == self.time

    def read_levels(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that both families have."""
        what = f"a UNet2DModel with the time embedded as '{self.time}'"
        refuse_unusual(said, _USUAL, what)
        refuse_other_activations(said, what)
        usual = ["AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]  # diffusers' own, where a file is silent
        down = said.get("down_block_types", ["DownBlock2D", *usual])
        attention = tuple(kind == self.attending.format("Down") for kind in down)
        up = said.get("up_block_types", self.write_blocks("Up", attention[::-1]))
        if [list(down), list(up)] != [self.write_blocks("Down", attention), self.write_blocks("Up", attention[::-1])]:
            raise CheckpointError(
                f"{what} has, in Vitrail, only the blocks {self.plain.format('Down')} and "
                f"{self.attending.format('Down')} and on the way up their like; here are {', '.join([*down, *up])}"
            )
        return {
            "image_size": read_size(said.get("sample_size") or 32),
            "channels": said.get("in_channels", 3),
            "widths": tuple(said.get("block_out_channels", (224, 448, 672, 896))),
            "depth": said.get("layers_per_block", 2),
            "attention": attention,
            "middle_attention": said.get("add_attention", True),
            "head_width": said.get("attention_head_dim", 8),
            "norm_eps": said.get("norm_eps", 1e-5),
            "dropout": said.get("dropout", 0.0),
        }

    def write_config(self, model: Model) -> dict[str, Any]:
        """Our config -> config.json."""
        config = model.config
        return {
            "_class_name": self.class_name,
            "sample_size": write_size(config.image_size),
            "in_channels": config.channels,
            "time_embedding_type": self.time,
            "down_block_types": self.write_blocks("Down", config.attention),
            "up_block_types": self.write_blocks("Up", config.attention[::-1]),
            "block_out_channels": list(config.widths),
            "layers_per_block": config.depth,
            "add_attention": config.middle_attention,
            "attention_head_dim": config.head_width,
            "norm_eps": config.norm_eps,
            "dropout": config.dropout,
            "act_fn": "silu",
            **self.write_rest(config),
        }

    @abstractmethod
    def write_rest(self, config: Any) -> dict[str, Any]:
        """What only one family has."""

    def write_blocks(self, direction: str, attention: tuple[bool, ...]) -> list[str]:
        """`down_block_types` or `up_block_types`."""
        return [(self.attending if attends else self.plain).format(direction) for attends in attention]

    def rows(self, config: Any) -> list[Row]:
        """What is called alike in both families."""
        middle = "mid_block."
        return [
            Row("input.{p}", "conv_in.{p}"),
            Row("time.up.{p}", "time_embedding.linear_1.{p}"),
            Row("time.down.{p}", "time_embedding.linear_2.{p}"),
            *block_rows("middle.0.", f"{middle}resnets.0."),
            *attention_rows("middle.1.", f"{middle}attentions.0."),
            *block_rows("middle.2.", f"{middle}resnets.1."),
            *(
                row
                for way in ("down", "up")
                for row in block_rows(f"{way}.{{i}}.blocks.{{j}}.", f"{way}_blocks.{{i}}.resnets.{{j}}.")
            ),
            *attention_rows("down.{i}.attentions.{j}.", "down_blocks.{i}.attentions.{j}."),
        ]


class DDPMDiffusers(UNet2DDiffusers):
    """Waves of the step for the time, and blocks as in Ho et al."""

    family = "ddpm"
    model = DDPM
    time = "positional"
    plain, attending = "{}Block2D", "Attn{}Block2D"
    published: ClassVar[Mapping[str, Published]] = {
        "google/ddpm-cifar10-32/unet": Published(DDPMConfig(), "", "Apache-2.0"),
        **{
            f"google/ddpm-{ema}{subject}-256/unet": Published(CELEBA_HQ, "", "Apache-2.0")
            for subject in ("celebahq", "church", "bedroom", "cat")
            for ema in ("", "ema-")
        },
    }

    def read_config(self, description: Description) -> DDPMConfig:
        """config.json -> DDPMConfig."""
        said = description.config
        refuse_unusual(said, {"center_input_sample": False, "mid_block_scale_factor": 1}, "a DDPM")
        padding = said.get("downsample_padding", 1)
        if padding not in (0, 1):
            raise CheckpointError(f"a DDPM halves a picture with a margin of 0 or 1, not {padding}")
        return DDPMConfig(
            **self.read_levels(said),
            outputs=said.get("out_channels", 3),
            groups=said.get("norm_num_groups", 32),
            cosine_first=said.get("flip_sin_to_cos", True),
            frequency_shift=said.get("freq_shift", 0),
            padding="symmetric" if padding else "trailing",
        )

    def write_rest(self, config: DDPMConfig) -> dict[str, Any]:
        """Channels of the output, groups, waves and margin."""
        return {
            "out_channels": config.outputs,
            "norm_num_groups": config.groups,
            "flip_sin_to_cos": config.cosine_first,
            "freq_shift": config.frequency_shift,
            "downsample_padding": 1 if config.padding == "symmetric" else 0,
        }

    def rows(self, config: DDPMConfig) -> list[Row]:
        """The table."""
        return [
            *super().rows(config),
            *attention_rows("up.{i}.attentions.{j}.", "up_blocks.{i}.attentions.{j}."),
            Row("down.{i}.resize.convolution.{p}", "down_blocks.{i}.downsamplers.0.conv.{p}"),
            Row("up.{i}.resize.convolution.{p}", "up_blocks.{i}.upsamplers.0.conv.{p}"),
            Row("norm.{p}", "conv_norm_out.{p}"),
            Row("output.{p}", "conv_out.{p}"),
        ]


class NCSNppDiffusers(UNet2DDiffusers):
    """Fourier features of the noise for the time, and blocks that show and draw the picture as in Song et al."""

    family = "ncsnpp"
    model = NCSNpp
    time = "fourier"
    plain, attending = "Skip{}Block2D", "AttnSkip{}Block2D"
    published: ClassVar[Mapping[str, Published]] = {
        **{
            f"google/ncsnpp-{subject}-256/unet": Published(NCSNppConfig(), "", "Apache-2.0")
            for subject in ("church", "bedroom", "celebahq", "ffhq")
        },
        "google/ncsnpp-ffhq-1024/unet": Published(FFHQ_1024, "", "Apache-2.0"),
    }

    def read_config(self, description: Description) -> NCSNppConfig:
        """config.json -> NCSNppConfig."""
        said = description.config
        refuse_unusual(said, {"norm_num_groups": None, "in_channels": 3, "out_channels": 3}, "an NCSN++")
        scale = said.get("mid_block_scale_factor", 1)
        if abs(scale - math.sqrt(2)) > 1e-6:
            raise CheckpointError(f"an NCSN++ divides by the root of two at the bottom as elsewhere, not by {scale}")
        config = NCSNppConfig(**self.read_levels(said), center_input=said.get("center_input_sample", False))
        _refuse_narrow_attention(config)
        return config

    def write_rest(self, config: NCSNppConfig) -> dict[str, Any]:
        """What diffusers takes these blocks with."""
        if config.channels != 3:
            raise CheckpointError(f"the diffusers layout knows an NCSN++ for 3 channels alone, not {config.channels}")
        _refuse_narrow_attention(config)
        return {
            "out_channels": 3,
            "norm_num_groups": None,
            "center_input_sample": config.center_input,
            "mid_block_scale_factor": math.sqrt(2),
        }

    def rows(self, config: NCSNppConfig) -> list[Row]:
        """The table. What the finest resolution draws is the output of the whole network there."""
        last = len(config.widths) - 1
        return [
            *super().rows(config),
            *attention_rows("up.{i}.attention.", "up_blocks.{i}.attentions.0."),
            Row("fourier.frequencies", "time_proj.weight"),
            Row("down.{i}.show.{p}", "down_blocks.{i}.skip_conv.{p}"),
            *block_rows("down.{i}.resize.", "down_blocks.{i}.resnet_down."),
            *block_rows("up.{i}.resize.", "up_blocks.{i}.resnet_up."),
            Row(f"up.{last}.norm.{{p}}", "conv_norm_out.{p}"),
            Row(f"up.{last}.output.{{p}}", "conv_out.{p}"),
            Row("up.{i}.norm.{p}", "up_blocks.{i}.skip_norm.{p}"),
            Row("up.{i}.output.{p}", "up_blocks.{i}.skip_conv.{p}"),
        ]


def _refuse_narrow_attention(config: NCSNppConfig) -> None:
    """diffusers groups the channels around attention by rules of its own, which are the paper's code's from 128 up."""
    narrow = [width for width, attends in zip(config.widths, config.attention, strict=True) if attends and width < 128]
    if narrow:
        raise CheckpointError(
            f"diffusers norms {narrow[0]} channels otherwise where they attend than an NCSN++ does: "
            "let a resolution with attention have at least 128"
        )
