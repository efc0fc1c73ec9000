"""What SigLIP promises in Python, besides the reference's numbers."""

import math

import pytest
import torch

from vitrail import UsageError
from vitrail.explain import patch_components, where_it_looked
from vitrail.models.siglip import SigLIP, SigLIPConfig, SigLIPImageConfig, SigLIPTextConfig

SMALL = SigLIPConfig(
    SigLIPImageConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3, mlp_width=48),
    SigLIPTextConfig(vocabulary=50, context=9, width=16, depth=2, heads=2, mlp_width=40),
)


@torch.inference_mode()
def test_shapes():
    model, images, ids = SigLIP(SMALL).eval(), torch.randn(2, 3, 36, 20), torch.randint(50, (3, 9))
    features = model.features(images)
    assert features.shape == (2, 4 * 2, 24)
    assert model.prefix_tokens == 0
    assert model.encode_image(images).shape == model.pool(features).shape == (2, 24)
    assert model.encode_text(ids).shape == (3, 24)
    assert model.patch_vectors(features).shape == (2, 8, 24)
    assert model(images, ids).shape == (2, 3)
    assert (SMALL.width, SMALL.image_size, SMALL.channels, SMALL.depth) == (24, 32, 3, 4)


@torch.inference_mode()
def test_logits_are_scaled_cosines_and_a_bias():
    model, images, ids = SigLIP(SMALL).eval(), torch.randn(2, 3, 32, 32), torch.randint(50, (3, 9))
    assert model.logit_scale.item() == pytest.approx(math.log(10))
    assert model.logit_bias.item() == -10
    pictures, texts = model.encode_image(images), model.encode_text(ids)
    cosines = torch.nn.functional.cosine_similarity(pictures[:, None], texts[None], dim=-1)
    torch.testing.assert_close(model(images, ids), 10 * cosines - 10)


@torch.inference_mode()
def test_pixels_that_fill_no_patch_are_not_seen():
    model, images = SigLIP(SMALL).eval(), torch.randn(2, 3, 39, 33)
    torch.testing.assert_close(model.features(images), model.features(images[:, :, :32, :32]))
    assert model.patchify.grid(images) == (4, 4)


@torch.inference_mode()
def test_a_patch_s_vector_is_the_picture_s_if_there_were_no_other():
    model, images = SigLIP(SMALL).eval(), torch.randn(2, 3, 32, 32)
    features = model.features(images)
    alone = torch.stack([model.pool(features[:, place, None]) for place in range(16)], dim=1)
    torch.testing.assert_close(model.patch_vectors(features), alone)


@torch.inference_mode()
def test_where_it_looked():
    model, images = SigLIP(SMALL).eval(), torch.randn(2, 3, 37, 32)
    assert where_it_looked(model, images).shape == (2, 4, 4)
    assert patch_components(model, images).shape == (2, 4, 4, 3)


def test_every_parameter_learns():
    model = SigLIP(SMALL)
    ids = torch.arange(50)[None, :9].repeat(2, 1)
    ids[1] = torch.arange(9, 18)
    (model(torch.randn(2, 3, 32, 32), ids) * torch.randn(2, 2)).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_a_text_that_is_too_long():
    with pytest.raises(ValueError, match="10 tokens is too long: this network reads 9"):
        SigLIP(SMALL).embed_tokens(torch.ones(1, 10, dtype=torch.int64))


def test_texts_without_a_tokenizer():
    with pytest.raises(UsageError, match="has no tokenizer"):
        SigLIP(SMALL).encode_text("a frog")


@pytest.mark.parametrize(
    ("shape", "reason"), [((1, 1, 32, 32), "3 channels, not 1"), ((1, 3, 7, 32), "0×32 pixels cannot be cut")]
)
def test_pictures_that_do_not_fit(shape, reason):
    with pytest.raises(ValueError, match=reason):
        SigLIP(SMALL).features(torch.zeros(shape))
