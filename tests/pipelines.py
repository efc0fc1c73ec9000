"""Pipelines of diffusers with random weights, so small that a picture takes a moment, and saved as it saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    EulerDiscreteScheduler,
    PNDMScheduler,
    ScoreSdeVePipeline,
    ScoreSdeVeScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.parity.references import randomise

LETTERS = "abcdefghijklmnopqrstuvwxyz!?,"
CONTEXT = 12
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
"""Stable Diffusion's."""

UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Letters, letters that end a word, some merges, and CLIP's two special tokens; "!" is token 0, as CLIP's is."""
    merges = ["a n", "o n</w>", "e r</w>", "an d</w>"]
    letters = sorted(LETTERS)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}, merges


def tokenizer(folder: Path, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """A CLIP tokenizer of these few tokens."""
    folder.mkdir(parents=True)
    words, merges = vocabulary()
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=CONTEXT)


def autoencoder(**odd: Any) -> AutoencoderKL:
    """Two pixels a latent; its posterior is as good as certain, so that what diffusers draws from it is the mean."""
    coder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        sample_size=16,
        **odd,
    )
    randomise(coder)
    with torch.no_grad():
        coder.quant_conv.weight[4:] = 0
        coder.quant_conv.bias[4:] = -60
    return coder


def text_encoder(*, projection: bool = False, **odd: Any) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Three blocks of 32 channels."""
    words, _ = vocabulary()
    config = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
        "projection_dim": 24,
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
        **odd,
    }
    return randomise((CLIPTextModelWithProjection if projection else CLIPTextModel)(CLIPTextConfig(**config)))


def stable_diffusion(folder: Path, *, channels: int = 4, second: bool = False) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with PNDM; or 2.1, where `second`, with DDIM and velocities, "!" for filling."""
    torch.manual_seed(1)
    how = {"set_alpha_to_one": False, "steps_offset": 1, **NOISE}
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(hidden_act="gelu" if second else "quick_gelu"),
        tokenizer=tokenizer(folder / "words", "!" if second else "<|endoftext|>"),
        unet=randomise(
            UNet2DConditionModel(in_channels=channels, cross_attention_dim=32, use_linear_projection=second, **UNET)
        ),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **how)
        if second
        else PNDMScheduler(skip_prk_steps=True, **how),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(folder: Path) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL with Euler."""
    torch.manual_seed(2)
    unet = {**UNET, "down_block_types": UNET["down_block_types"][::-1], "up_block_types": UNET["up_block_types"][::-1]}
    return StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projection=True, hidden_act="gelu", eos_token_id=2),
        tokenizer=tokenizer(folder / "words"),
        tokenizer_2=tokenizer(folder / "words_2", "!"),
        unet=randomise(
            UNet2DConditionModel(
                cross_attention_dim=64,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=24 + 6 * 8,
                transformer_layers_per_block=(1, 2),
                use_linear_projection=True,
                **unet,
            )
        ),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **NOISE),
        add_watermarker=False,
    )


def ddpm(folder: Path) -> DDPMPipeline:
    """As `google/ddpm-cifar10-32`, in grey."""
    torch.manual_seed(3)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        attention_head_dim=None,
    )
    return DDPMPipeline(randomise(unet), DDPMScheduler(variance_type="fixed_large"))


def score_sde(folder: Path) -> ScoreSdeVePipeline:
    """As `google/ncsnpp-ffhq-1024`, with so little noise that pictures stay in range without training."""
    torch.manual_seed(4)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("SkipDownBlock2D", "SkipDownBlock2D"),
        up_block_types=("SkipUpBlock2D", "SkipUpBlock2D"),
        layers_per_block=1,
        norm_eps=1e-6,
        mid_block_scale_factor=2**0.5,
        time_embedding_type="fourier",
        norm_num_groups=None,
        center_input_sample=True,
        attention_head_dim=None,
        add_attention=False,
    )
    # the levels that the network is told and those that a step goes by differ there by `sampling_eps`
    how = {"snr": 0.1, "correct_steps": 2, "sigma_max": 0.5, "sampling_eps": 1e-6}
    return ScoreSdeVePipeline(randomise(unet), ScoreSdeVeScheduler(**how))


def dit(folder: Path) -> DiTPipeline:
    """As `facebook/DiT-XL-2-256`, with as many classes, for diffusers takes class 1000 for none."""
    torch.manual_seed(5)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=1000,
    )
    randomise(transformer)
    for block in transformer.transformer_blocks:  # as published: the same in every block
        block.norm1.emb.load_state_dict(transformer.transformer_blocks[0].norm1.emb.state_dict())

    scheduler = DDIMScheduler(clip_sample=False, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    return DiTPipeline(transformer, autoencoder(), scheduler)


def save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """As diffusers saves it; of a DiT also its classes' names, which published indices have and diffusers forgets."""
    pipeline.save_pretrained(folder)
    if isinstance(pipeline, DiTPipeline):
        index = json.loads((folder / "model_index.json").read_text())
        names = {str(number): f"thing {number}, object {number}" for number in range(1000)}
        (folder / "model_index.json").write_text(json.dumps({**index, "id2label": names}))
    return folder
