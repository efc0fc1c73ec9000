"""GPT-2 as the transformers library publishes it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published, Row, Transposed
from vitrail.checkpoints.tokenizers import read_byte_pairs
from vitrail.checkpoints.transformers import TransformersLayout, read_activation, write_activation
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.model import Model
from vitrail.text.tokenizer import Tokenizer

_USUAL = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
"""Settings of transformers' GPT2Config that change the mathematics, and the values that GPT-2 itself has."""


def gpt2_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a GPT-2 without its head; transformers keeps its matrices as (in, out).

    Args:
        ours: what stands before our names.
        theirs: what stands before theirs, "transformer.".
    """
    block, layer = f"{ours}blocks.{{i}}.", f"{theirs}h.{{i}}."
    products = {
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    }
    return [
        Row(f"{ours}tokens.weight", f"{theirs}wte.weight"),
        Row(f"{ours}positions.weight", f"{theirs}wpe.weight"),
        Row(f"{ours}norm.{{p}}", f"{theirs}ln_f.{{p}}"),
        Row(f"{block}norm{{j}}.{{p}}", f"{layer}ln_{{j}}.{{p}}"),
        *(Row(f"{block}{mine}.weight", Transposed(f"{layer}{other}.weight")) for mine, other in products.items()),
        *(Row(f"{block}{mine}.bias", f"{layer}{other}.bias") for mine, other in products.items()),
    ]


class GPT2Transformers(TransformersLayout):
    """`model_type: gpt2`: GPT2LMHeadModel. The oldest files leave out "transformer." and keep their masks, too."""

    family = "gpt2"
    model = GPT2
    model_type = "gpt2"
    base_prefix = "transformer."
    ignored = (r"(transformer\.)?h\.[0-9]+\.attn\.(bias|masked_bias)", r"lm_head\.weight")
    published: ClassVar[Mapping[str, Published]] = {
        f"openai-community/{name}": Published(
            GPT2Config(width=width, depth=depth, heads=heads, mlp_width=4 * width), f"openai-community/{name}", "MIT"
        )
        for name, width, depth, heads in (
            ("gpt2", 768, 12, 12),
            ("gpt2-medium", 1024, 24, 16),
            ("gpt2-large", 1280, 36, 20),
            ("gpt2-xl", 1600, 48, 25),
        )
    }

    def read_config(self, description: Description) -> GPT2Config:
        """config.json -> GPT2Config; what is left out is as in transformers' GPT2Config."""
        said = description.config
        for name, value in _USUAL.items():
            if said.get(name, value) != value:
                raise CheckpointError(f"a GPT-2 with '{name}' {said[name]} is not one that this family knows")
        width, end = said.get("n_embd", 768), said.get("eos_token_id", 50256)
        return GPT2Config(
            vocabulary=said.get("vocab_size", 50257),
            context=said.get("n_positions", 1024),
            width=width,
            depth=said.get("n_layer", 12),
            heads=said.get("n_head", 12),
            mlp_width=said.get("n_inner") or 4 * width,
            activation=read_activation(said.get("activation_function", "gelu_new")),
            norm_eps=said.get("layer_norm_epsilon", 1e-5),
            end=end[0] if isinstance(end, list) and len(end) == 1 else end,
        )

    def write_config(self, model: Model) -> dict[str, Any]:
        """GPT2Config -> config.json."""
        config = model.config
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": self.model_type,
            "vocab_size": config.vocabulary,
            "n_positions": config.context,
            "n_embd": config.width,
            "n_layer": config.depth,
            "n_head": config.heads,
            "n_inner": config.mlp_width,
            "activation_function": write_activation(config.activation),
            "layer_norm_epsilon": config.norm_eps,
            "bos_token_id": config.end,
            "eos_token_id": config.end,
        }

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        return gpt2_rows("", self.base_prefix)

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """There are no pictures."""
        return Preprocess(resize=None)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """There are no pictures."""
        return {}

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """As transformers' GPT2Tokenizer, filled up with the end."""
        return read_byte_pairs(description.tokenizer_files, config.context, config.end)
