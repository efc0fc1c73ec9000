"""The autoencoders of latent diffusion as the diffusers library publishes them."""

from collections.abc import Mapping, Sequence
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
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.model import Model
from vitrail.models.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig

_DOWN, _UP = "DownEncoderBlock2D", "UpDecoderBlock2D"  # before either stands "Attn" where there is attention


class _AutoencoderDiffusers(DiffusersLayout):
    """What the two have in common."""

    def _read_halves(self, said: Mapping[str, Any], latent_channels: int) -> dict[str, Any]:
        """The fields of `AutoencoderConfig`; what is left out is as in diffusers' signature, but `latent_channels`."""
        what = f"an {self.class_name}" if self.class_name[0] == "A" else f"a {self.class_name}"
        channels = said.get("in_channels", 3)
        refuse_unusual(said, {"out_channels": channels}, what)
        refuse_other_activations(said, what)
        widths = tuple(said.get("block_out_channels", (64,)))
        down = _attends(said.get("down_block_types", [_DOWN]), _DOWN, what)
        up = _attends(said.get("up_block_types", [_UP]), _UP, what)
        if not len(widths) == len(down) == len(up) or down != up[::-1]:
            raise CheckpointError(f"{what} whose decoder does not mirror its encoder is not one that Vitrail knows")
        return {
            "image_size": read_size(said.get("sample_size", 32)),
            "channels": channels,
            "latent_channels": said.get("latent_channels", latent_channels),
            "widths": widths,
            "depth": said.get("layers_per_block", 1),
            "attention_levels": tuple(level for level, attends in enumerate(down) if attends),
            "middle_attention": said.get("mid_block_add_attention", True),
            "groups": said.get("norm_num_groups", 32),
            "scaling_factor": said.get("scaling_factor", 0.18215),
        }

    def _write_halves(self, model: Model) -> dict[str, Any]:
        """These fields as diffusers names them."""
        config = model.config
        attends = ["Attn" if level in config.attention_levels else "" for level in range(len(config.widths))]
        return {
            "_class_name": self.class_name,
            "act_fn": "silu",
            "block_out_channels": list(config.widths),
            "down_block_types": [f"{attention}{_DOWN}" for attention in attends],
            "in_channels": config.channels,
            "latent_channels": config.latent_channels,
            "layers_per_block": config.depth,
            "mid_block_add_attention": config.middle_attention,
            "norm_num_groups": config.groups,
            "out_channels": config.channels,
            "sample_size": write_size(config.image_size),
            "scaling_factor": config.scaling_factor,
            "up_block_types": [f"{attention}{_UP}" for attention in reversed(attends)],
        }

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        return [
            *_half_rows("encoder", "down_blocks", "downsamplers"),
            *_half_rows("decoder", "up_blocks", "upsamplers"),
            Row("encoder_projection.{p}", "quant_conv.{p}"),
            Row("decoder_projection.{p}", "post_quant_conv.{p}"),
            Row("codebook.weight", "quantize.embedding.weight"),
        ]


class AutoencoderKLDiffusers(_AutoencoderDiffusers):
    """`AutoencoderKL`: Stable Diffusion's, SDXL's and FLUX's."""

    family = "autoencoder-kl"
    model: type[Model] = AutoencoderKL
    class_name = "AutoencoderKL"
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "MIT")
        for name, config in {
            "stabilityai/sd-vae-ft-mse": AutoencoderKLConfig(image_size=256),
            "stabilityai/sd-vae-ft-ema": AutoencoderKLConfig(image_size=256),
            "stabilityai/sdxl-vae": AutoencoderKLConfig(image_size=1024, scaling_factor=0.13025),
            "madebyollin/sdxl-vae-fp16-fix": AutoencoderKLConfig(image_size=512, scaling_factor=0.13025, float16=True),
        }.items()
    }

    def read_config(self, description: Description) -> AutoencoderKLConfig:
        """config.json -> AutoencoderKLConfig; what is left out is as in diffusers' signature."""
        said = description.config
        refuse_unusual(said, {"latents_mean": None, "latents_std": None}, "an AutoencoderKL")
        return AutoencoderKLConfig(
            **self._read_halves(said, latent_channels=4),
            shift_factor=said.get("shift_factor"),
            encoder_projection=said.get("use_quant_conv", True),
            decoder_projection=said.get("use_post_quant_conv", True),
            float16=not said.get("force_upcast", True),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """AutoencoderKLConfig -> config.json."""
        config = model.config
        return {
            **self._write_halves(model),
            "force_upcast": not config.float16,
            "shift_factor": config.shift_factor,
            "use_post_quant_conv": config.decoder_projection,
            "use_quant_conv": config.encoder_projection,
        }


class VQAutoencoderDiffusers(_AutoencoderDiffusers):
    """`VQModel`, with group norms: those of latent diffusion and aMUSEd, not Kandinsky's MoVQ."""

    family = "vq-autoencoder"
    model: type[Model] = VQAutoencoder
    class_name = "VQModel"
    published: ClassVar[Mapping[str, Published]] = {}

    def read_config(self, description: Description) -> VQAutoencoderConfig:
        """config.json -> VQAutoencoderConfig; what is left out is as in diffusers' signature."""
        said = description.config
        refuse_unusual(said, {"norm_type": "group"}, "a VQModel")
        halves = self._read_halves(said, latent_channels=3)
        width = said.get("vq_embed_dim")
        return VQAutoencoderConfig(
            **halves,
            codes=said.get("num_vq_embeddings", 256),
            code_width=halves["latent_channels"] if width is None else width,
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """VQAutoencoderConfig -> config.json."""
        return {
            **self._write_halves(model),
            "norm_type": "group",
            "num_vq_embeddings": model.config.codes,
            "vq_embed_dim": model.config.code_width,
        }


def _attends(kinds: Sequence[str], usual: str, what: str) -> list[bool]:
    """Which levels have attention, by the names of their kinds."""
    for kind in kinds:
        if kind not in (usual, f"Attn{usual}"):
            raise CheckpointError(f"{what} with a level '{kind}' is not one that Vitrail knows")
    return [kind != usual for kind in kinds]


def _half_rows(half: str, levels: str, resize: str) -> list[Row]:
    """The rows of the encoder or the decoder."""
    level, theirs = f"{half}.levels.{{i}}.", f"{half}.{levels}.{{i}}."
    return [
        Row(f"{half}.conv_{{end}}.{{p}}", f"{half}.conv_{{end}}.{{p}}"),
        Row(f"{half}.norm.{{p}}", f"{half}.conv_norm_out.{{p}}"),
        *block_rows(f"{half}.middle.0.", f"{half}.mid_block.resnets.0."),
        *attention_rows(f"{half}.middle.1.", f"{half}.mid_block.attentions.0."),
        *block_rows(f"{half}.middle.2.", f"{half}.mid_block.resnets.1."),
        *block_rows(f"{level}blocks.{{j}}.", f"{theirs}resnets.{{j}}."),
        *attention_rows(f"{level}attentions.{{j}}.", f"{theirs}attentions.{{j}}."),
        Row(f"{level}resize.convolution.{{p}}", f"{theirs}{resize}.0.conv.{{p}}"),
    ]
