"""What the layouts of networks with a BERT in them have in common, as the transformers library publishes them."""

from collections.abc import Mapping
from typing import Any

from vitrail.checkpoints.layout import Joined, Row
from vitrail.checkpoints.transformers import read_encoder, write_encoder
from vitrail.models.bert import BERTConfig


def read_bert(said: Mapping[str, Any], *, pooler: bool) -> BERTConfig:
    """BERTConfig from its section of config.json; what is left out is as in transformers' BertConfig."""
    return BERTConfig(
        vocabulary=said.get("vocab_size", 30522),
        context=said.get("max_position_embeddings", 512),
        **read_encoder(said),
        pad=said.get("pad_token_id", 0),
        types=said.get("type_vocab_size", 2),
        pooler=pooler,
    )


def write_bert(config: BERTConfig) -> dict[str, Any]:
    """BERTConfig -> its section of config.json."""
    return {
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        **write_encoder(config),
        "pad_token_id": config.pad,
        "type_vocab_size": config.types,
    }


def bert_rows(ours: str, theirs: str) -> list[Row]:
    """The rows of a BERT.

    Args:
        ours: what stands before our names, "text.".
        theirs: what stands before theirs, "text_model.".
    """
    embeddings, block, layer = f"{theirs}embeddings.", f"{ours}blocks.{{i}}.", f"{theirs}encoder.layer.{{i}}."
    return [
        Row(f"{ours}tokens.weight", f"{embeddings}word_embeddings.weight"),
        Row(f"{ours}positions", f"{embeddings}position_embeddings.weight"),
        Row(f"{ours}types.weight", f"{embeddings}token_type_embeddings.weight"),
        Row(f"{ours}norm.{{p}}", f"{embeddings}LayerNorm.{{p}}"),
        Row(
            f"{block}attention.qkv.{{p}}",
            Joined(*(f"{layer}attention.self.{part}.{{p}}" for part in ("query", "key", "value"))),
        ),
        Row(f"{block}attention.out.{{p}}", f"{layer}attention.output.dense.{{p}}"),
        Row(f"{block}norm1.{{p}}", f"{layer}attention.output.LayerNorm.{{p}}"),
        Row(f"{block}mlp.up.{{p}}", f"{layer}intermediate.dense.{{p}}"),
        Row(f"{block}mlp.down.{{p}}", f"{layer}output.dense.{{p}}"),
        Row(f"{block}norm2.{{p}}", f"{layer}output.LayerNorm.{{p}}"),
        Row(f"{ours}pooler.0.{{p}}", f"{theirs}pooler.dense.{{p}}"),
    ]
