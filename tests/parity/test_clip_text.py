"""CLIP's text tower gives transformers' numbers from transformers' files, and goes back into them."""

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import vitrail
from tests.parity.references import assert_same, load_transformers, randomise, save_transformers

VOCABULARY = 60
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 13,
    "projection_dim": 24,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}


def texts() -> Tensor:
    """Two texts: one that fills the context, one filled up with the first token."""
    ids = torch.randint(3, 40, (2, 13))
    ids[0, -1] = ids[1, 5] = VOCABULARY - 1
    ids[1, 6:] = 0
    return ids


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
@pytest.mark.parametrize("odd", [{}, {"hidden_act": "gelu"}, {"eos_token_id": 2}])
@pytest.mark.parametrize("form", ["published", "in memory"])
@torch.inference_mode()
def test_text_tower(kind, odd, form, tmp_path):
    reference = randomise(kind(CLIPTextConfig(**{**SMALL, **odd})))
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    ids = texts()
    expected = reference(ids, output_hidden_states=True)
    vector = expected.text_embeds if kind is CLIPTextModelWithProjection else expected.pooler_output
    norm = reference.get_submodule("final_layer_norm" if kind is CLIPTextModel else "text_model.final_layer_norm")
    assert model.family == "clip-text"
    assert_same(model(ids), expected.last_hidden_state)
    assert_same(model.encode_text(ids), vector)
    assert_same(model.read(ids)[0], expected.last_hidden_state)
    tokens, vectors = model.read(ids, 1, norm=False)
    assert_same(tokens, expected.hidden_states[-2])
    assert_same(vectors, vector)
    assert_same(model.read(ids, 2)[0], norm(expected.hidden_states[-3]))

    vitrail.save(model, tmp_path / "back")
    assert_same(load_transformers(kind, tmp_path / "back")(ids)[0], expected[0])
