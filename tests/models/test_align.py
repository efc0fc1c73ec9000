"""What ALIGN promises in Python, besides the reference's numbers."""

import pytest
import torch

from vitrail.explain import where_it_looked
from vitrail.models.align import ALIGN, ALIGNConfig
from vitrail.models.bert import BERTConfig
from vitrail.models.efficientnet import EfficientNetConfig, Stage

STAGES = (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 2), Stage(5, 2, 6, 40, 1))
SMALL = ALIGNConfig(
    EfficientNetConfig(image_size=64, stages=STAGES, classes=0, padding="fixed"),
    BERTConfig(vocabulary=50, context=9, width=16, depth=2, heads=2, mlp_width=40, types=1),
)


@torch.inference_mode()
def test_shapes():
    model, images, ids = ALIGN(SMALL).eval(), torch.randn(2, 3, 64, 48), torch.randint(1, 50, (3, 9))
    features = model.features(images)
    assert features.shape == (2, 40, 8, 6)
    assert model.encode_image(images).shape == (2, 40)
    assert model.encode_text(ids).shape == (3, 40)
    assert model(images, ids).shape == (2, 3)
    vectors = model.patch_vectors(features)
    assert torch.equal(vectors[:, 6], features[:, :, 1, 0])  # row by row
    torch.testing.assert_close(vectors.mean(1), model.pool(features))
    assert (SMALL.width, SMALL.image_size, SMALL.channels, SMALL.depth) == (40, 64, 3, 6)
    assert where_it_looked(model, images).shape == (2, 8, 6)


@torch.inference_mode()
def test_logits_are_cosines_over_the_temperature():
    model, images, ids = ALIGN(SMALL).eval(), torch.randn(2, 3, 64, 64), torch.randint(1, 50, (3, 9))
    model.temperature.fill_(0.05)
    cosines = torch.nn.functional.cosine_similarity(
        model.encode_image(images)[:, None], model.encode_text(ids)[None], dim=-1
    )
    torch.testing.assert_close(model(images, ids), cosines / 0.05)
    assert model.logit_scale.exp().item() == pytest.approx(20)
    assert model.logit_bias is None


def test_every_parameter_learns():
    model, ids = ALIGN(SMALL), torch.arange(1, 19).view(2, 9)
    (model(torch.randn(4, 3, 64, 64), ids) * torch.randn(4, 2)).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
