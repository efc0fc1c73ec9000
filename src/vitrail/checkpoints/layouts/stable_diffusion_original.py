"""Stable Diffusion 1, 2 and XL as one `.safetensors` file by the original names."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.diffusers import GeneratorLayout
from vitrail.checkpoints.layout import Description, Published, Row
from vitrail.checkpoints.layouts.stable_diffusion_diffusers import StableDiffusionDiffusers, StableDiffusionXLDiffusers
from vitrail.checkpoints.original import PARTS, input_channels, part_rows
from vitrail.checkpoints.tokenizers import read_clip
from vitrail.errors import CheckpointError
from vitrail.models.model import Model
from vitrail.models.stable_diffusion import StableDiffusion
from vitrail.models.stable_diffusion_xl import StableDiffusionXL
from vitrail.text.tokenizer import Tokenizer

_PREFIXES = sorted({prefix for parts in PARTS.values() for prefix in parts.values()})
_NETWORKS = {**StableDiffusionDiffusers.published, **StableDiffusionXLDiffusers.published}


class _StableDiffusionOriginal(GeneratorLayout):
    """One file, which says nothing but its tensors; its kind is in `config["original"]`, as `original_kind` sees it.

    A kind has the config of the network it was published with, `usual`; `architecture` names another of the same kind:
    2.1-base's noise is another than 2.1's, and nothing in the file says so. A file has no tokenizer: it is read from
    vocab.json and merges.txt beside it.
    """

    library = "original"
    published: ClassVar[Mapping[str, Published]] = {}
    usual: ClassVar[Mapping[str, str]]  # kind -> published name

    ignored: tuple[str, ...] = (
        # averages of earlier weights, what training needed besides, numbers of the noise: whatever is no part's own
        f"(?!{'|'.join(re.escape(prefix) for prefix in _PREFIXES)}).*",
        r".*\.position_ids",
        r".*\.logit_scale",
        r".*\.attn_mask",
        r"first_stage_model\.(loss|model_ema)\..*",
    )

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By the kind."""
        return config.get("original") in self.usual

    def read_config(self, description: Description) -> Any:
        """The published network's; only a UNet that inpaints takes more channels.

        Raises:
            CheckpointError: the architecture that was named is none of this kind.
        """
        kind = description.config["original"]
        name = description.config.get("architecture") or self.usual[kind]
        config = _NETWORKS[name].config if name in _NETWORKS else None
        if config is None or self.kind_of(config) != kind:
            known = ", ".join(known for known, one in _NETWORKS.items() if self.kind_of(one.config) == kind)
            raise CheckpointError(f"these are not the weights of '{name}'; their names are those of {known}")
        return replace(config, unet=replace(config.unet, channels=input_channels(description.shapes)))

    def kind_of(self, config: Any) -> str:
        """Which kind holds networks of this config."""
        if hasattr(config, "text2"):
            return "xl"
        return "1" if config.text.text.activation == "quick_gelu" else "2"

    def write_config(self, model: Model) -> dict[str, Any]:
        """Nothing, where the names alone say which network it is.

        Raises:
            CheckpointError: they do not.
        """
        config = model.config
        plain = replace(config, unet=replace(config.unet, channels=4))
        if plain not in [known.config for known in _NETWORKS.values()]:
            raise CheckpointError(
                "the original layout of Stable Diffusion holds no config: it can say the published networks alone"
            )
        return {}

    def write_described(self, model: Model) -> dict[str, dict[str, Any]]:
        """No files beside the weights' but the tokenizer's."""
        self.write_config(model)
        return {}

    def rows(self, config: Any) -> list[Row]:
        """The tables of all parts."""
        return part_rows(self.kind_of(config), config)

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """From vocab.json and merges.txt beside the file, filled up to the whole context; None where they are not."""
        pad = 0 if self.kind_of(config) == "2" else None  # what open_clip fills up with; OpenAI repeats the end
        return read_clip(description.tokenizer_files, config.text.text.context, pad=pad, fixed=True)


class StableDiffusionOriginal(_StableDiffusionOriginal):
    """1, by `cond_stage_model.transformer`, and 2, by `cond_stage_model.model`.

    The text tower of 2 is read without its last block, which the network does not use, and is written without it.
    """

    family = "stable-diffusion"
    model: type[Model] = StableDiffusion
    usual: ClassVar[Mapping[str, str]] = {
        "1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "2": "stabilityai/stable-diffusion-2-1",
    }
    ignored = (
        *_StableDiffusionOriginal.ignored,
        r"cond_stage_model\.model\.(transformer\.resblocks\.23\..*|text_projection)",
    )


class StableDiffusionXLOriginal(_StableDiffusionOriginal):
    """XL, by `conditioner.embedders`."""

    family = "stable-diffusion-xl"
    model: type[Model] = StableDiffusionXL
    usual: ClassVar[Mapping[str, str]] = {"xl": "stabilityai/stable-diffusion-xl-base-1.0"}
