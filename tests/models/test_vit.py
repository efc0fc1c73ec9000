"""What ViT and DeiT promise in Python, besides the references' numbers."""

import pytest
import torch

from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.vit import ViT, ViTConfig

SMALL = {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 3, "mlp_width": 48, "classes": 5}


@pytest.mark.parametrize(("kind", "prefix"), [(ViT(ViTConfig(**SMALL)), 1), (DeiT(DeiTConfig(**SMALL)), 2)])
@torch.inference_mode()
def test_shapes(kind, prefix):
    model, images = kind.eval(), torch.randn(2, 3, 32, 16)
    features = model.features(images)
    assert features.shape == (2, prefix + 4 * 2, 24)
    assert model.prefix_tokens == prefix
    assert model.pool(features).shape == (2, 24)
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize("pooling", ["class", "mean"])
@pytest.mark.parametrize("classes", [0, 5])
@torch.inference_mode()
def test_forward_is_head_of_pool_of_features(pooling, classes):
    model = ViT(ViTConfig(**{**SMALL, "classes": classes}, pooling=pooling)).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model.head(model.pool(model.features(images))))


@torch.inference_mode()
def test_deit_says_the_mean_of_its_heads():
    model = DeiT(DeiTConfig(**SMALL)).eval()
    images = torch.randn(2, 3, 32, 32)
    by_class, by_teacher = model.features(images)[:, :2].unbind(1)
    torch.testing.assert_close(model(images), (model.head(by_class) + model.distillation_head(by_teacher)) / 2)


@torch.inference_mode()
def test_a_picture_s_logits_do_not_depend_on_the_batch():
    model = ViT(ViTConfig(**SMALL)).eval()
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(images)[2:3], model(images[2:3]))


@torch.inference_mode()
def test_positions_tell_the_patches_apart():
    model = ViT(ViTConfig(**SMALL)).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    patches = torch.randn(1, 3, 32, 32)
    swapped = torch.cat([patches[..., 8:16], patches[..., :8], patches[..., 16:]], dim=-1)
    assert not torch.allclose(model(patches), model(swapped), atol=1e-3)
    model.positions[:, 1:] = 0  # without them a network sees a set of patches
    torch.testing.assert_close(model(patches), model(swapped), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_positions_of_another_grid_keep_the_class_token_s():
    model = ViT(ViTConfig(**SMALL)).eval()
    resized = model.positions_for((2, 7))
    assert resized.shape == (1, 1 + 2 * 7, 24)
    assert torch.equal(resized[:, 0], model.positions[:, 0])
    assert model.positions_for((4, 4)) is model.positions


def test_every_parameter_learns():
    for model in (
        ViT(ViTConfig(**SMALL)),
        ViT(ViTConfig(**SMALL, pooling="mean", pooler=True)),
        DeiT(DeiTConfig(**SMALL)),
    ):
        torch.nn.init.normal_(model.head.weight)
        model(torch.randn(2, 3, 32, 32)).square().sum().backward()
        still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == [], type(model)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 1, 32, 32), "takes pictures of 3 channels, not 1"),
        ((1, 3, 33, 32), "33×32 pixels cannot be cut into 8×8"),
        ((1, 3, 32, 4), "32×4 pixels"),
        ((1, 3, 0, 32), "0×32 pixels"),
    ],
)
def test_pictures_that_do_not_fit(shape, reason):
    with pytest.raises(ValueError, match=reason):
        ViT(ViTConfig(**SMALL)).features(torch.zeros(shape))


@pytest.mark.parametrize("changes", [{"heads": 5}, {"heads": 0}, {"activation": "mish-mash"}])
def test_configs_that_make_no_network(changes):
    with pytest.raises(ValueError, match=r"cannot be shared|unknown activation"):
        ViT(ViTConfig(**{**SMALL, **changes}))
