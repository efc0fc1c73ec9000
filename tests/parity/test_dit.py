"""DiT gives diffusers' numbers from its files, and goes back into them."""

import json

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file, save_file

import vitrail
from tests.parity.diffusion import assert_same_names, load_diffusers
from tests.parity.references import assert_same, assert_same_tensors, randomise
from vitrail.checkpoints.layouts.dit_diffusers import DiTDiffusers

SMALL = {
    "num_attention_heads": 3,
    "attention_head_dim": 8,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 12,
    "num_embeds_ada_norm": 5,
}
ODD = {
    "plain": {},
    "no variance": {"out_channels": None},
    "patches of 4, three channels": {"patch_size": 4, "in_channels": 3, "out_channels": 6},
    "no bias": {"attention_bias": False, "norm_eps": 1e-6},
}


def reference_model(odd: str = "plain") -> DiTTransformer2DModel:
    """A small network with random weights, and as published the same embedding in every block."""
    model = randomise(DiTTransformer2DModel(**{**SMALL, **ODD[odd]}))
    with torch.no_grad():
        torch.nn.init.normal_(model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight)
        for block in model.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model


@pytest.mark.parametrize("side", [12, 20])
@pytest.mark.parametrize("odd", ODD)
@torch.inference_mode()
def test_a_network(odd, side, tmp_path):
    reference = reference_model(odd)
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    images = torch.randn(3, reference.config.in_channels, side, side)
    times, labels = torch.tensor([0, 500, 999]), torch.tensor([4, 0, 5])
    expected = reference(images, times, labels).sample
    assert model.family == "dit"
    assert_same(model(images, times, labels), expected)

    vitrail.save(model, tmp_path / "back")
    back = load_diffusers(DiTTransformer2DModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(images, times, labels).sample, expected)


@torch.inference_mode()
def test_the_name_of_the_class_before_diffusers_0_29(tmp_path):
    reference = reference_model()
    reference.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "_class_name": "Transformer2DModel"}))
    images, times, labels = torch.randn(1, 4, 12, 12), torch.tensor([7]), torch.tensor([3])
    assert_same(vitrail.load(tmp_path)(images, times, labels), reference(images, times, labels).sample)


@pytest.mark.parametrize("side", [256, 512])
def test_published_networks(side):
    config = DiTDiffusers.published[f"facebook/DiT-XL-2-{side}/transformer"].config
    assert_same_names(DiTDiffusers(), config, DiTTransformer2DModel, {"sample_size": side // 8, "out_channels": 8})


def test_blocks_that_embed_the_time_apart_are_refused(tmp_path):
    reference_model().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"] += 1
    save_file(tensors, path)
    with pytest.raises(vitrail.CheckpointError, match="one embedding of time and class"):
        vitrail.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"out_channels": 5}, "4 or 8, not 5"),
        ({"activation_fn": "geglu"}, "activation_fn"),
        ({"num_attention_heads": 0}, "heads"),
        ({"num_layers": 0}, "at least one block"),
    ],
)
def test_what_is_not_known_is_refused(changed, reason, tmp_path):
    reference_model().save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, **changed}))
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.load(tmp_path)
