"""Stable Diffusion XL: two readers of the text, and a UNet that is told the picture's size, too.

Podell et al., "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis", 2023 (2307.01952).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.chain import Chain
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoder, CLIPTextEncoderConfig
from vitrail.models.generator import Usual
from vitrail.models.stable_diffusion import TextToImage
from vitrail.models.unet import UNet, UNetConfig
from vitrail.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StableDiffusionXLConfig:
    """Four networks and the noise; the defaults are those of the base network 1.0.

    Attributes:
        unet: what denoises.
        autoencoder: what makes latents of pictures and pictures of latents.
        text: the first reader of the prompt, OpenAI's CLIP.
        text2: the second, open_clip's; it gives the vector, too.
        pad2: the token that fills up the second reader's texts; the vocabulary is the first's.
        chain: the noise it was trained on.
        zeros: whether nothing to be pushed away from is zeros, and not the empty text, as it was trained.
    """

    unet: UNetConfig = field(
        default_factory=lambda: UNetConfig(
            image_size=128,
            widths=(320, 640, 1280),
            depths=(2, 2, 2),
            transformer_depths=(0, 2, 10),
            middle_depth=10,
            heads=(5, 10, 20),
            context_width=2048,
            added_width=2816,
            linear_projection=True,
        )
    )
    autoencoder: AutoencoderKLConfig = field(
        default_factory=lambda: AutoencoderKLConfig(image_size=1024, scaling_factor=0.13025)
    )
    text: CLIPTextEncoderConfig = field(default_factory=CLIPTextEncoderConfig)
    text2: CLIPTextEncoderConfig = field(
        default_factory=lambda: CLIPTextEncoderConfig(
            CLIPTextConfig(width=1280, depth=32, heads=20, mlp_width=5120, activation="gelu"), 1280
        )
    )
    pad2: int = 0
    chain: Chain = field(default_factory=lambda: Chain(sampler="euler"))
    zeros: bool = True


class StableDiffusionXL(TextToImage):
    """The tokens of both readers before their last blocks, side by side; the second's vector; the picture's size."""

    family: ClassVar[str] = "stable-diffusion-xl"
    config: StableDiffusionXLConfig

    def __init__(self, config: StableDiffusionXLConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.unet)
        self.autoencoder = AutoencoderKL(config.autoencoder)
        self.text = CLIPTextEncoder(config.text)
        self.text2 = CLIPTextEncoder(config.text2)
        self.head = nn.Identity()
        self._made_of: Tokenizer | None = None  # what the second reader's tokenizer was made of

    @property
    def usual(self) -> Usual:  # type: ignore[override]
        """As diffusers' pipeline is run."""
        return Usual(50, self.config.chain.sampler, 5.0, self.size)

    def condition(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Texts, which may be empty -> {"context": (B, N, D), "vector": (B, P)}: §2.1."""
        ids = self.ids(prompts)
        return self.read(ids, self.second_tokenizer(prompts).to(ids.device))

    def read(self, ids: Tensor, ids2: Tensor) -> dict[str, Tensor]:
        """Token ids (B, N), and those of `second_tokenizer` -> what `condition` gives."""
        skip = 1 + self.clip_skip
        first, _ = self.text.read(ids, skip, norm=False)
        second, vector = self.text2.read(ids2, skip, norm=False)
        return {"context": torch.cat([first, second], dim=-1), "vector": vector}

    def condition_against(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The same; nothing is zeros, where it was trained so."""
        told = self.condition(prompts)
        if not self.config.zeros:
            return told
        said = torch.tensor([float(bool(prompt)) for prompt in prompts]).to(told["vector"])
        return {name: values * said.reshape(-1, *[1] * (values.ndim - 1)) for name, values in told.items()}

    @property
    def second_tokenizer(self) -> Tokenizer:
        """The second reader's: of the first's vocabulary, but filled up with `pad2`."""
        assert self.tokenizer is not None  # it has read the prompts
        if self._made_of is not self.tokenizer:
            self._made_of, self._second = self.tokenizer, self.tokenizer.filled_with(self.config.pad2)
        return self._second

    def look_at(self, cond: Any, size: tuple[int, int], hole: tuple[Tensor, Tensor] | None = None) -> Any:
        """Also the size as in §2.2: of the original and of the picture wanted, and between them a cut at no corner."""
        told = super().look_at(cond, size, hole)
        numbers = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32, device=told["vector"].device)
        return {**told, "numbers": numbers.expand(told["vector"].shape[0], -1)}
