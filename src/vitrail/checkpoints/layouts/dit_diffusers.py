"""DiT as the diffusers library publishes it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.checkpoints.diffusers import DiffusersLayout, refuse_unusual
from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.transformers import read_size
from vitrail.errors import CheckpointError
from vitrail.models.dit import DiT, DiTConfig
from vitrail.models.model import Model

_USUAL = {  # diffusers' own, and of every published network
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
    "dropout": 0.0,
}


class Copies(Joined):
    """The publisher keeps several times what we keep once."""

    def part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Each copy's shape is ours."""
        return shape

    def join(self, parts: list[Tensor]) -> Tensor:
        """The publisher's copies -> ours.

        Raises:
            CheckpointError: they are not the same.
        """
        for name, part in zip(self, parts, strict=True):
            if not torch.equal(part, parts[0]):
                raise CheckpointError(
                    f"'{name}' and '{self[0]}' differ: a DiT has one embedding of time and class for all its blocks"
                )
        return parts[0]

    def split(self, tensor: Tensor) -> Sequence[Tensor]:
        """Ours -> the publisher's copies, which a file cannot hold as one."""
        return [tensor.clone() for _ in self]


class DiTDiffusers(DiffusersLayout):
    """`_class_name: DiTTransformer2DModel`, and Transformer2DModel until diffusers 0.29."""

    family = "dit"
    model = DiT
    class_name = "DiTTransformer2DModel"
    ignored = (r"pos_embed\.pos_embed",)
    published: ClassVar[Mapping[str, Published]] = {
        f"facebook/DiT-XL-2-{side}/transformer": Published(
            DiTConfig(image_size=side // 8), f"facebook/DiT-XL-2-{side}/transformer", "CC-BY-NC-4.0"
        )
        for side in (256, 512)
    }

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By `_class_name`, and `norm_type` where that is older than the family."""
        older = config.get("_class_name") == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero"
        return older or super().recognises(config)

    def read_config(self, description: Description) -> DiTConfig:
        """config.json -> DiTConfig."""
        said = description.config
        refuse_unusual(said, _USUAL, "a DiT")
        if not said.get("num_layers", 28):
            raise CheckpointError("a DiT has at least one block")
        heads, channels = said.get("num_attention_heads", 16), said.get("in_channels", 4)
        outputs = said.get("out_channels") or channels
        if outputs not in (channels, 2 * channels):
            raise CheckpointError(f"a DiT on {channels} channels says {channels} or {2 * channels}, not {outputs}")
        return DiTConfig(
            image_size=read_size(said.get("sample_size", 32)),
            patch_size=said.get("patch_size", 2),
            channels=channels,
            width=heads * said.get("attention_head_dim", 72),
            depth=said.get("num_layers", 28),
            heads=heads,
            classes=said.get("num_embeds_ada_norm", 1000),
            variance=outputs == 2 * channels,
            norm_eps=said.get("norm_eps", 1e-5),
            qkv_bias=said.get("attention_bias", True),
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """DiTConfig -> config.json."""
        config = model.config
        if not isinstance(config.image_size, int):
            raise CheckpointError("the diffusers layout knows a DiT for square pictures alone")
        return {
            "_class_name": self.class_name,
            **_USUAL,
            "sample_size": config.image_size,
            "patch_size": config.patch_size,
            "in_channels": config.channels,
            "out_channels": config.channels * (2 if config.variance else 1),
            "num_attention_heads": config.heads,
            "attention_head_dim": config.width // config.heads,
            "num_layers": config.depth,
            "num_embeds_ada_norm": config.classes,
            "norm_eps": config.norm_eps,
            "attention_bias": config.qkv_bias,
        }

    def rows(self, config: DiTConfig) -> list[Row]:
        """The table. Every block there has a copy of what embeds time and class, and uses it."""
        block = "transformer_blocks.{i}."

        def copies(name: str) -> Copies:
            return Copies(*(f"transformer_blocks.{number}.norm1.emb.{name}" for number in range(config.depth)))

        return [
            Row("patchify.projection.{p}", "pos_embed.proj.{p}"),
            Row("time.up.{p}", copies("timestep_embedder.linear_1.{p}")),
            Row("time.down.{p}", copies("timestep_embedder.linear_2.{p}")),
            Row("classes.{p}", copies("class_embedder.embedding_table.{p}")),
            Row("blocks.{i}.modulation.projection.{p}", f"{block}norm1.linear.{{p}}"),
            Row("blocks.{i}.attention.qkv.{p}", Joined(*(f"{block}attn1.to_{part}.{{p}}" for part in "qkv"))),
            Row("blocks.{i}.attention.out.{p}", f"{block}attn1.to_out.0.{{p}}"),
            Row("blocks.{i}.mlp.up.{p}", f"{block}ff.net.0.proj.{{p}}"),
            Row("blocks.{i}.mlp.down.{p}", f"{block}ff.net.2.{{p}}"),
            Row("output.modulation.projection.{p}", "proj_out_1.{p}"),
            Row("output.projection.{p}", "proj_out_2.{p}"),
        ]
