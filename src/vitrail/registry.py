"""Every family in one table. Importing it touches neither torch nor a model."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.checkpoints.layout import Layout, Published
    from vitrail.models.model import Model


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        name: what `model.family` says.
        title: the name people know it by.
        paper: first author, year and arXiv number.
        module: where its `nn.Module` is, "module:Class".
        config: where its config dataclass is.
        layouts: the published forms it is read from and written to, "module:Class".
    """

    name: str
    title: str
    paper: str
    module: str
    config: str
    layouts: tuple[str, ...]

    def load_model(self) -> "type[Model]":
        """The family's module class (imports torch)."""
        return _resolve(self.module)

    def load_config(self) -> type:
        """The family's config dataclass (imports torch)."""
        return _resolve(self.config)

    def load_layouts(self) -> "list[Layout]":
        """The family's layouts (imports torch)."""
        return [_resolve(layout)() for layout in self.layouts]


_LAYOUTS = "vitrail.checkpoints.layouts"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "vit",
            "ViT",
            "Dosovitskiy 2020 (2010.11929)",
            "vitrail.models.vit:ViT",
            "vitrail.models.vit:ViTConfig",
            (f"{_LAYOUTS}.vit_transformers:ViTTransformers", f"{_LAYOUTS}.vit_timm:ViTTimm"),
        ),
        Family(
            "deit",
            "DeiT, distilled",
            "Touvron 2020 (2012.12877)",
            "vitrail.models.deit:DeiT",
            "vitrail.models.deit:DeiTConfig",
            (f"{_LAYOUTS}.vit_transformers:DeiTTransformers", f"{_LAYOUTS}.vit_timm:DeiTTimm"),
        ),
        Family(
            "dinov2",
            "DINOv2, with and without registers",
            "Oquab 2023 (2304.07193), Darcet 2023 (2309.16588)",
            "vitrail.models.dinov2:DINOv2",
            "vitrail.models.dinov2:DINOv2Config",
            (
                f"{_LAYOUTS}.dinov2_transformers:DINOv2Transformers",
                f"{_LAYOUTS}.dinov2_transformers:DINOv2WithRegistersTransformers",
                f"{_LAYOUTS}.dinov2_timm:DINOv2Timm",
            ),
        ),
        Family(
            "clip",
            "CLIP, and Chinese CLIP",
            "Radford 2021 (2103.00020), Yang 2022 (2211.01335)",
            "vitrail.models.clip:CLIP",
            "vitrail.models.clip:CLIPConfig",
            (
                f"{_LAYOUTS}.clip_transformers:CLIPTransformers",
                f"{_LAYOUTS}.chinese_clip_transformers:ChineseCLIPTransformers",
                f"{_LAYOUTS}.clip_open_clip:CLIPOpenCLIP",
            ),
        ),
        Family(
            "clip-text",
            "CLIP's text tower, as Stable Diffusion reads it",
            "Radford 2021 (2103.00020)",
            "vitrail.models.clip_text:CLIPTextEncoder",
            "vitrail.models.clip_text:CLIPTextEncoderConfig",
            (f"{_LAYOUTS}.clip_text_transformers:CLIPTextTransformers",),
        ),
        Family(
            "stable-diffusion",
            "Stable Diffusion 1 and 2",
            "Rombach 2021 (2112.10752)",
            "vitrail.models.stable_diffusion:StableDiffusion",
            "vitrail.models.stable_diffusion:StableDiffusionConfig",
            (
                f"{_LAYOUTS}.stable_diffusion_diffusers:StableDiffusionDiffusers",
                f"{_LAYOUTS}.stable_diffusion_original:StableDiffusionOriginal",
            ),
        ),
        Family(
            "stable-diffusion-xl",
            "Stable Diffusion XL",
            "Podell 2023 (2307.01952)",
            "vitrail.models.stable_diffusion_xl:StableDiffusionXL",
            "vitrail.models.stable_diffusion_xl:StableDiffusionXLConfig",
            (
                f"{_LAYOUTS}.stable_diffusion_diffusers:StableDiffusionXLDiffusers",
                f"{_LAYOUTS}.stable_diffusion_original:StableDiffusionXLOriginal",
            ),
        ),
        Family(
            "ddpm-pipeline",
            "DDPM, whole",
            "Ho 2020 (2006.11239)",
            "vitrail.models.ddpm_pipeline:DDPMPipeline",
            "vitrail.models.ddpm_pipeline:DDPMPipelineConfig",
            (f"{_LAYOUTS}.unconditional_diffusers:DDPMPipelineDiffusers",),
        ),
        Family(
            "score-sde-pipeline",
            "NCSN++, whole",
            "Song 2020 (2011.13456)",
            "vitrail.models.score_sde_pipeline:ScoreSDEPipeline",
            "vitrail.models.score_sde_pipeline:ScoreSDEPipelineConfig",
            (f"{_LAYOUTS}.unconditional_diffusers:ScoreSDEPipelineDiffusers",),
        ),
        Family(
            "dit-pipeline",
            "DiT, whole",
            "Peebles 2022 (2212.09748)",
            "vitrail.models.dit_pipeline:DiTPipeline",
            "vitrail.models.dit_pipeline:DiTPipelineConfig",
            (f"{_LAYOUTS}.unconditional_diffusers:DiTPipelineDiffusers",),
        ),
        Family(
            "siglip",
            "SigLIP, and SigLIP 2 at fixed resolution",
            "Zhai 2023 (2303.15343), Tschannen 2025 (2502.14786)",
            "vitrail.models.siglip:SigLIP",
            "vitrail.models.siglip:SigLIPConfig",
            (f"{_LAYOUTS}.siglip_transformers:SigLIPTransformers",),
        ),
        Family(
            "align",
            "ALIGN",
            "Jia 2021 (2102.05918)",
            "vitrail.models.align:ALIGN",
            "vitrail.models.align:ALIGNConfig",
            (f"{_LAYOUTS}.align_transformers:ALIGNTransformers",),
        ),
        Family(
            "gpt2",
            "GPT-2",
            "Radford 2019 (Language Models are Unsupervised Multitask Learners)",
            "vitrail.models.gpt2:GPT2",
            "vitrail.models.gpt2:GPT2Config",
            (f"{_LAYOUTS}.gpt2_transformers:GPT2Transformers",),
        ),
        Family(
            "llama",
            "LLaMA",
            "Touvron 2023 (2302.13971)",
            "vitrail.models.llama:Llama",
            "vitrail.models.llama:LlamaConfig",
            (f"{_LAYOUTS}.llama_transformers:LlamaTransformers",),
        ),
        Family(
            "git",
            "GIT",
            "Wang 2022 (2205.14100)",
            "vitrail.models.git:GIT",
            "vitrail.models.git:GITConfig",
            (
                f"{_LAYOUTS}.git_transformers:GITTransformers",
                f"{_LAYOUTS}.git_transformers:GITVideoTransformers",
            ),
        ),
        Family(
            "vit-gpt",
            "ViT and GPT, patches in front of the question",
            "Wang 2022 (2205.14100), Liu 2023 (2304.08485)",
            "vitrail.models.vit_gpt:ViTGPT",
            "vitrail.models.vit_gpt:ViTGPTConfig",
            (),
        ),
        Family(
            "vqa",
            "VQA: answers chosen, with a choice of fusions",
            "Antol 2015 (1505.00468), Yang 2015 (1511.02274)",
            "vitrail.models.vqa:VQA",
            "vitrail.models.vqa:VQAConfig",
            (),
        ),
        Family(
            "flamingo",
            "Flamingo, and IDEFICS",
            "Alayrac 2022 (2204.14198), Laurençon 2023 (2306.16527)",
            "vitrail.models.flamingo:Flamingo",
            "vitrail.models.flamingo:FlamingoConfig",
            (f"{_LAYOUTS}.idefics_transformers:IdeficsTransformers",),
        ),
        Family(
            "smolvlm",
            "SmolVLM and SmolVLM2",
            "Marafioti 2025 (2504.05299), Laurençon 2024 (2408.12637)",
            "vitrail.models.smolvlm:SmolVLM",
            "vitrail.models.smolvlm:SmolVLMConfig",
            (
                f"{_LAYOUTS}.smolvlm_transformers:SmolVLMTransformers",
                f"{_LAYOUTS}.smolvlm_transformers:SmolVLM2Transformers",
            ),
        ),
        Family(
            "perceiver",
            "Perceiver IO, classification",
            "Jaegle 2021 (2103.03206), Jaegle 2021 (2107.14795)",
            "vitrail.models.perceiver:Perceiver",
            "vitrail.models.perceiver:PerceiverConfig",
            (f"{_LAYOUTS}.perceiver_transformers:PerceiverTransformers",),
        ),
        Family(
            "perceiver-flow",
            "Perceiver IO, optical flow",
            "Jaegle 2021 (2107.14795)",
            "vitrail.models.perceiver_flow:PerceiverFlow",
            "vitrail.models.perceiver_flow:PerceiverFlowConfig",
            (f"{_LAYOUTS}.perceiver_transformers:PerceiverFlowTransformers",),
        ),
        Family(
            "perceiver-multimodal",
            "Perceiver IO, video, sound and label",
            "Jaegle 2021 (2107.14795)",
            "vitrail.models.perceiver_multimodal:PerceiverMultimodal",
            "vitrail.models.perceiver_multimodal:PerceiverMultimodalConfig",
            (f"{_LAYOUTS}.perceiver_transformers:PerceiverMultimodalTransformers",),
        ),
        Family(
            "perceiver-senses",
            "Perceiver, naming pictures, films and sounds",
            "Jaegle 2021 (2103.03206), Jaegle 2021 (2107.14795)",
            "vitrail.models.perceiver_senses:PerceiverSenses",
            "vitrail.models.perceiver_senses:PerceiverSensesConfig",
            (),
        ),
        Family(
            "latent-diffusion",
            "Latent diffusion from texts, with a transformer",
            "Rombach 2021 (2112.10752), Peebles 2022 (2212.09748)",
            "vitrail.models.latent_diffusion:LatentDiffusion",
            "vitrail.models.latent_diffusion:LatentDiffusionConfig",
            (),
        ),
        Family(
            "efficientnet",
            "EfficientNet and EfficientNet-Lite",
            "Tan 2019 (1905.11946)",
            "vitrail.models.efficientnet:EfficientNet",
            "vitrail.models.efficientnet:EfficientNetConfig",
            (
                f"{_LAYOUTS}.efficientnet_transformers:EfficientNetTransformers",
                f"{_LAYOUTS}.efficientnet_timm:EfficientNetTimm",
                f"{_LAYOUTS}.efficientnet_lite_package:EfficientNetLitePackage",
            ),
        ),
        Family(
            "autoencoder-kl",
            "KL autoencoder of latent diffusion",
            "Rombach 2021 (2112.10752)",
            "vitrail.models.autoencoder_kl:AutoencoderKL",
            "vitrail.models.autoencoder_kl:AutoencoderKLConfig",
            (f"{_LAYOUTS}.autoencoder_diffusers:AutoencoderKLDiffusers",),
        ),
        Family(
            "vq-autoencoder",
            "VQ autoencoder of latent diffusion",
            "van den Oord 2017 (1711.00937), Esser 2020 (2012.09841)",
            "vitrail.models.vq_autoencoder:VQAutoencoder",
            "vitrail.models.vq_autoencoder:VQAutoencoderConfig",
            (f"{_LAYOUTS}.autoencoder_diffusers:VQAutoencoderDiffusers",),
        ),
        Family(
            "ddpm",
            "DDPM",
            "Ho 2020 (2006.11239)",
            "vitrail.models.ddpm:DDPM",
            "vitrail.models.ddpm:DDPMConfig",
            (f"{_LAYOUTS}.ddpm_diffusers:DDPMDiffusers",),
        ),
        Family(
            "ncsnpp",
            "NCSN++",
            "Song 2020 (2011.13456)",
            "vitrail.models.ncsnpp:NCSNpp",
            "vitrail.models.ncsnpp:NCSNppConfig",
            (f"{_LAYOUTS}.ddpm_diffusers:NCSNppDiffusers",),
        ),
        Family(
            "dit",
            "DiT",
            "Peebles 2022 (2212.09748)",
            "vitrail.models.dit:DiT",
            "vitrail.models.dit:DiTConfig",
            (f"{_LAYOUTS}.dit_diffusers:DiTDiffusers",),
        ),
        Family(
            "lsgm",
            "LSGM: a diffusion prior in an autoencoder's latents",
            "Vahdat 2021 (2106.05931)",
            "vitrail.models.lsgm:LSGM",
            "vitrail.models.lsgm:LSGMConfig",
            (),
        ),
        Family(
            "unet",
            "the conditional UNet of Stable Diffusion 1.5, 2.1 and XL",
            "Rombach 2021 (2112.10752), Podell 2023 (2307.01952)",
            "vitrail.models.unet:UNet",
            "vitrail.models.unet:UNetConfig",
            (f"{_LAYOUTS}.unet_diffusers:UNetDiffusers",),
        ),
    )
}


def layouts() -> "Iterator[Layout]":
    """Every layout of every family, imported as it is reached."""
    for family in FAMILIES.values():
        yield from family.load_layouts()


def published(name: str) -> "tuple[Layout, Published] | None":
    """The published checkpoint of that name or hub id, and its layout; None where the registry has none."""
    for layout in layouts():
        if name in layout.published:
            return layout, layout.published[name]
        for entry in layout.published.values():
            if entry.hub and entry.hub == name:
                return layout, entry
    return None


def _resolve(where: str) -> Any:
    module, name = where.split(":")
    return getattr(import_module(module), name)
