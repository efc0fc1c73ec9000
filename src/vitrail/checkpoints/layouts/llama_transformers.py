"""LLaMA as the transformers library publishes it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Joined, Published, Row
from vitrail.checkpoints.tokenizers import read_byte_pairs
from vitrail.checkpoints.transformers import TransformersLayout
from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.models.model import Model
from vitrail.nn.rotary import Stretch
from vitrail.text.tokenizer import Tokenizer

_USUAL = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""Settings of transformers' LlamaConfig that change the mathematics, and the values that LLaMA itself has."""


def read_llama(said: Mapping[str, Any]) -> LlamaConfig:
    """LlamaConfig from config.json or its section of one; what is left out is as in transformers' LlamaConfig.

    Raises:
        CheckpointError: it has biases, wide heads or other positions than LLaMA's.
    """
    for name, value in _USUAL.items():
        if said.get(name, value) != value:
            raise CheckpointError(f"a LLaMA with '{name}' {said[name]} is not one that this family knows")
    width, heads = said.get("hidden_size", 4096), said.get("num_attention_heads", 32)
    if (said.get("head_dim") or width // heads) * heads != width:
        raise CheckpointError(f"{heads} heads of width {said['head_dim']} do not make up LLaMA's width of {width}")
    base, stretch = _read_rotary(said)
    end = said.get("eos_token_id", 2)
    return LlamaConfig(
        vocabulary=said.get("vocab_size", 32000),
        context=said.get("max_position_embeddings", 2048),
        width=width,
        depth=said.get("num_hidden_layers", 32),
        heads=heads,
        kv_heads=said.get("num_key_value_heads") or heads,
        mlp_width=said.get("intermediate_size", 11008),
        norm_eps=said.get("rms_norm_eps", 1e-6),
        rotary_base=base,
        tied=said.get("tie_word_embeddings", False),
        start=said.get("bos_token_id", 1),
        end=tuple(end) if isinstance(end, list) else (end,),
        stretch=stretch,
    )


def write_llama(config: LlamaConfig) -> dict[str, Any]:
    """LlamaConfig -> config.json, or its section of one, with the rotary positions in both spellings."""
    rotary: dict[str, Any] = {"rope_type": "default"}
    if config.stretch is not None:
        rotary = {
            "rope_type": "llama3",
            "factor": config.stretch.factor,
            "low_freq_factor": config.stretch.low,
            "high_freq_factor": config.stretch.high,
            "original_max_position_embeddings": config.stretch.context,
        }
    return {
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.width // config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rotary_base,
        "rope_scaling": None if config.stretch is None else rotary,
        "rope_parameters": {"rope_theta": config.rotary_base, **rotary},
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.start,
        "eos_token_id": config.end[0] if len(config.end) == 1 else list(config.end),
    }


def llama_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a LLaMA without its head.

    Args:
        ours: what stands before our names.
        theirs: what stands before theirs, "model.".
    """
    block, layer = f"{ours}blocks.{{i}}.", f"{theirs}layers.{{i}}."
    attention, mlp = f"{layer}self_attn.", f"{layer}mlp."
    return [
        Row(f"{ours}tokens.weight", f"{theirs}embed_tokens.weight"),
        Row(f"{ours}norm.weight", f"{theirs}norm.weight"),
        Row(f"{block}norm1.weight", f"{layer}input_layernorm.weight"),
        Row(f"{block}attention.queries.weight", f"{attention}q_proj.weight"),
        Row(f"{block}attention.keys_values.weight", Joined(f"{attention}k_proj.weight", f"{attention}v_proj.weight")),
        Row(f"{block}attention.out.weight", f"{attention}o_proj.weight"),
        Row(f"{block}norm2.weight", f"{layer}post_attention_layernorm.weight"),
        Row(f"{block}mlp.up.weight", Joined(f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight")),
        Row(f"{block}mlp.down.weight", f"{mlp}down_proj.weight"),
    ]


def _read_rotary(said: Mapping[str, Any]) -> tuple[float, Stretch | None]:
    """The base of the rotary positions and how they are stretched; newer files say both in one place."""
    rotary = said.get("rope_parameters") or {"rope_theta": said.get("rope_theta"), **(said.get("rope_scaling") or {})}
    base = rotary.get("rope_theta") or said.get("rope_theta") or 10000.0
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind == "default":
        return base, None
    if kind != "llama3":
        raise CheckpointError(f"the rotary positions are stretched in a way, '{kind}', that this family does not know")
    return base, Stretch(
        rotary["factor"],
        rotary["low_freq_factor"],
        rotary["high_freq_factor"],
        rotary["original_max_position_embeddings"],
    )


_SMOL = LlamaConfig(
    vocabulary=49152,
    context=8192,
    width=576,
    depth=30,
    heads=9,
    kv_heads=3,
    mlp_width=1536,
    norm_eps=1e-5,
    rotary_base=100000.0,
    tied=True,
    start=0,
    end=(0,),
)
_LLAMA_3 = LlamaConfig(
    vocabulary=128256,
    context=8192,
    kv_heads=8,
    mlp_width=14336,
    norm_eps=1e-5,
    rotary_base=500000.0,
    start=128000,
    end=(128001,),
)


class LlamaTransformers(TransformersLayout):
    """`model_type: llama`: LlamaForCausalLM."""

    family = "llama"
    model = Llama
    model_type = "llama"
    ignored = (r"model\.layers\.[0-9]+\.self_attn\.rotary_emb\.inv_freq", r"lm_head\.weight")
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, licence)
        for name, config, licence in (
            (
                "TinyLlama/TinyLlama_v1.1",
                LlamaConfig(width=2048, depth=22, kv_heads=4, mlp_width=5632, norm_eps=1e-5),
                "Apache-2.0",
            ),
            ("HuggingFaceTB/SmolLM2-135M", _SMOL, "Apache-2.0"),
            (
                "HuggingFaceTB/SmolLM2-360M",
                replace(_SMOL, width=960, depth=32, heads=15, kv_heads=5, mlp_width=2560),
                "Apache-2.0",
            ),
            ("meta-llama/Llama-2-7b-hf", LlamaConfig(context=4096, norm_eps=1e-5), "llama2"),
            ("meta-llama/Meta-Llama-3-8B", _LLAMA_3, "llama3"),
            (
                "meta-llama/Llama-3.2-1B",
                replace(
                    _LLAMA_3,
                    context=131072,
                    width=2048,
                    depth=16,
                    mlp_width=8192,
                    tied=True,
                    stretch=Stretch(factor=32.0),
                ),
                "llama3.2",
            ),
        )
    }

    def read_config(self, description: Description) -> LlamaConfig:
        """config.json -> LlamaConfig."""
        return read_llama(description.config)

    def write_config(self, model: Model) -> dict[str, Any]:
        """LlamaConfig -> config.json."""
        return {"architectures": ["LlamaForCausalLM"], **write_llama(model.config)}

    def rows(self, config: Any) -> list[Row]:
        """The table."""
        return [*llama_rows("", "model."), Row("head.weight", "lm_head.weight")]

    def read_preprocess(self, description: Description, config: Any) -> Preprocess:
        """There are no pictures."""
        return Preprocess(resize=None)

    def write_preprocess(self, preprocess: Preprocess) -> dict[str, dict[str, Any]]:
        """There are no pictures."""
        return {}

    def read_tokenizer(self, description: Description, config: Any) -> Tokenizer | None:
        """Its tokenizer.json, filled up with the end; None for a checkpoint that has a tokenizer.model alone."""
        return read_byte_pairs(description.tokenizer_files, config.context, config.end[0])
