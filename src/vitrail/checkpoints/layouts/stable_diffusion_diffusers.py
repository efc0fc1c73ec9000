"""Stable Diffusion 1, 2 and XL as diffusers publishes them: folders of parts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published
from vitrail.checkpoints.layouts.autoencoder_diffusers import AutoencoderKLDiffusers
from vitrail.checkpoints.layouts.clip_text_transformers import CLIPTextTransformers
from vitrail.checkpoints.layouts.unet_diffusers import STABLE_DIFFUSION_2, UNetDiffusers
from vitrail.checkpoints.pipelines import SCHEDULER, Part, PipelineLayout, part_of
from vitrail.checkpoints.schedulers import read_chain, write_chain
from vitrail.checkpoints.tokenizers import read_clip, write_clip
from vitrail.errors import CheckpointError
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.chain import Chain
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoderConfig
from vitrail.models.model import Model
from vitrail.models.stable_diffusion import StableDiffusion, StableDiffusionConfig
from vitrail.models.stable_diffusion_xl import StableDiffusionXL, StableDiffusionXLConfig
from vitrail.models.unet import UNetConfig
from vitrail.text.tokenizer import Tokenizer

_RAIL, _RAIL_PLUS = "LicenseRef-CreativeML-OpenRAIL-M", "LicenseRef-CreativeML-OpenRAIL++-M"
_TEXT_2 = CLIPTextEncoderConfig(
    CLIPTextConfig(width=1024, depth=23, heads=16, mlp_width=4096, activation="gelu")
)  # open_clip's ViT-H without its last block


class _TextToImageDiffusers(PipelineLayout):
    """What 1, 2 and XL have in common."""

    def read_chain(self, description: Description) -> Chain:
        """From the scheduler's config. Latents are not clipped, whatever it says."""
        return read_chain(description.config["parts"][SCHEDULER], clips=False)

    def write_scheduler(self, config: Any) -> dict[str, Any]:
        """scheduler_config.json."""
        return write_chain(config.chain)

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """The first reader's, filled up to the whole context."""
        words = part_of(description, "tokenizer").tokenizer_files
        return read_clip(words, config.text.text.context, fixed=True)


class StableDiffusionDiffusers(_TextToImageDiffusers):
    """`StableDiffusionPipeline`, and the same parts under the names of what they are used for."""

    family = "stable-diffusion"
    model: type[Model] = StableDiffusion
    class_names = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
    parts: ClassVar[Mapping[str, Part]] = {
        "unet": Part("unet", UNetDiffusers()),
        "vae": Part("autoencoder", AutoencoderKLDiffusers()),
        "text_encoder": Part("text", CLIPTextTransformers()),
    }
    tokenizers = ("tokenizer",)
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, licence)
        for name, config, licence in (
            ("stable-diffusion-v1-5/stable-diffusion-v1-5", StableDiffusionConfig(), _RAIL),
            (
                "stable-diffusion-v1-5/stable-diffusion-inpainting",
                StableDiffusionConfig(unet=UNetConfig(channels=9)),
                _RAIL,
            ),
            (
                "stabilityai/stable-diffusion-2-1-base",
                StableDiffusionConfig(STABLE_DIFFUSION_2, AutoencoderKLConfig(), _TEXT_2, Chain()),
                _RAIL_PLUS,
            ),
            (
                "stabilityai/stable-diffusion-2-1",
                StableDiffusionConfig(
                    replace(STABLE_DIFFUSION_2, image_size=96, upcast_attention=True),
                    AutoencoderKLConfig(image_size=768),
                    _TEXT_2,
                    Chain(sampler="ddim", predicts="velocity"),
                ),
                _RAIL_PLUS,
            ),
        )
    }

    def read_config(self, description: Description) -> StableDiffusionConfig:
        """The parts' configs and the scheduler's -> StableDiffusionConfig."""
        # the oldest schedulers' files say an offset of 0, and diffusers' pipeline knows better
        chain = replace(self.read_chain(description), offset=1)
        return StableDiffusionConfig(**self.read_parts(description), chain=chain)

    def write_index(self, config: Any) -> dict[str, Any]:
        """That there is no safety checker."""
        none = [None, None]
        return {"safety_checker": none, "feature_extractor": none, "image_encoder": none} | {
            "requires_safety_checker": False
        }

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """The tokenizer's files."""
        return {f"tokenizer/{name}": said for name, said in _tokenizer_files(model).items()}


class StableDiffusionXLDiffusers(_TextToImageDiffusers):
    """`StableDiffusionXLPipeline`, and the same parts under the names of what they are used for."""

    family = "stable-diffusion-xl"
    model: type[Model] = StableDiffusionXL
    class_names = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    )
    parts: ClassVar[Mapping[str, Part]] = {
        **StableDiffusionDiffusers.parts,
        "text_encoder_2": Part("text2", CLIPTextTransformers()),
    }
    tokenizers = ("tokenizer", "tokenizer_2")
    published: ClassVar[Mapping[str, Published]] = {
        "stabilityai/stable-diffusion-xl-base-1.0": Published(
            StableDiffusionXLConfig(), "stabilityai/stable-diffusion-xl-base-1.0", _RAIL_PLUS
        )
    }

    def read_config(self, description: Description) -> StableDiffusionXLConfig:
        """The parts' configs and the scheduler's -> StableDiffusionXLConfig."""
        parts = self.read_parts(description)
        second = read_clip(part_of(description, "tokenizer_2").tokenizer_files, parts["text2"].text.context)
        return StableDiffusionXLConfig(
            **parts,
            pad2=0 if second is None else second.pad,
            chain=self.read_chain(description),
            zeros=description.config.get("force_zeros_for_empty_prompt", True),
        )

    def write_index(self, config: Any) -> dict[str, Any]:
        """What it does with nothing, and that there are no optional parts."""
        none = [None, None]
        return {"feature_extractor": none, "image_encoder": none} | {"force_zeros_for_empty_prompt": config.zeros}

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """The first reader's, filled up to the whole context.

        Raises:
            CheckpointError: the second reader's splits texts in another way.
        """
        first = super().read_tokenizer(description, config)
        second = read_clip(part_of(description, "tokenizer_2").tokenizer_files, config.text2.text.context)
        if first and second and first.backend.get_vocab() != second.backend.get_vocab():
            raise CheckpointError("the two tokenizers of this pipeline have different vocabularies: XL's have one")
        return first

    def write_tokenizer(self, model: Model) -> dict[str, str]:
        """The files of both tokenizers, which differ in what they fill up with."""
        first, second = _tokenizer_files(model), _tokenizer_files(model, model.config.pad2)
        return {
            f"{part}/{name}": said
            for part, files in (("tokenizer", first), ("tokenizer_2", second))
            for name, said in files.items()
        }


def _tokenizer_files(model: Model, pad: int | None = None) -> dict[str, str]:
    """vocab.json and merges.txt, as every tool for Stable Diffusion reads them, and what fills up.

    Raises:
        CheckpointError: the model has no tokenizer, or none of this kind.
    """
    if model.tokenizer is None:
        raise CheckpointError("a pipeline is saved together with its tokenizer: set the network's `tokenizer` first")
    return write_clip(model.tokenizer if pad is None else replace(model.tokenizer, pad=pad))
