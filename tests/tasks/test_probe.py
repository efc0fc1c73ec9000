"""A new head: on every family, fitted, folded."""

import pytest
import torch
import torch.nn.functional as F

from tests.tiny import tiny_vit
from vitrail.imaging.preprocess import standard
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.tasks.probe import fit_probe, stratified, with_classes

SIZES = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 2, "heads": 2, "mlp_width": 48}
NETWORKS = {
    "vit without a head": lambda: tiny_vit(classes=0),
    "deit": lambda: DeiT(DeiTConfig(**SIZES, classes=9)),
    "deit without its second head": lambda: DeiT(DeiTConfig(**SIZES, classes=9, distillation_head=False)),
    "dinov2": lambda: DINOv2(DINOv2Config(**SIZES, registers=2)),
    "dinov2 class+mean": lambda: DINOv2(DINOv2Config(**SIZES, pooling="class+mean", classes=9)),
    "efficientnet": lambda: EfficientNet(EfficientNetConfig(image_size=32, depth=0.1, classes=9)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_a_new_head(name):
    model = NETWORKS[name]().eval()
    model.preprocess = standard(32)
    changed = with_classes(model, ("a", "b", "c"))
    assert changed.labels == ("a", "b", "c")
    assert changed.preprocess is model.preprocess
    assert changed.config.classes == 3
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        vectors = model.pool(model.features(images))
        weight, bias = torch.randn(3, vectors.shape[1]), torch.randn(3)
        changed.head.load_state_dict({"weight": weight, "bias": bias})
        torch.testing.assert_close(changed(images), F.linear(vectors, weight, bias))
    assert model.config.classes != 3


def clusters(count: int, classes: int, *, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds around fixed centres, in coordinates of very different size."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % classes
    centres = torch.randn(classes, 16, generator=torch.Generator().manual_seed(0))
    vectors = centres[targets] + noise * torch.randn(count, 16, generator=generator)
    return 10.0 ** torch.linspace(-3, 3, 16) * vectors + 50, targets


def test_a_probe_tells_clouds_apart_whatever_their_scale():
    vectors, targets = clusters(400, 8, noise=0.5, seed=1)
    others, answers = clusters(400, 8, noise=0.5, seed=2)
    probe = fit_probe(vectors, targets, 8)
    found = F.linear(others, probe.weight, probe.bias).argmax(1)
    assert (found == answers).float().mean() > 0.9


def test_the_probe_is_the_minimum_that_it_says():
    """At the minimum the gradient of cross-entropy and penalty vanishes, in standardised coordinates."""
    vectors, targets = clusters(300, 4, noise=2.0, seed=3)
    probe = fit_probe(vectors, targets, 4)
    mean, spread = vectors.mean(0), vectors.std(0, correction=0)
    weight = (probe.weight * spread).requires_grad_()
    bias = (probe.bias + probe.weight @ mean).requires_grad_()
    loss = F.cross_entropy(F.linear((vectors - mean) / spread, weight, bias), targets)
    (loss + probe.strength / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 3e-3
    assert bias.grad.abs().max() < 3e-3


def test_noise_is_penalised_more_than_what_is_clear():
    clear, targets = clusters(200, 4, noise=0.1, seed=4)
    noise = torch.randn(200, 16)
    assert fit_probe(noise, targets, 4).strength > fit_probe(clear, targets, 4).strength


def test_numbers_that_never_vary_and_one_picture_a_class():
    vectors = torch.cat([torch.eye(3), torch.ones(3, 2)], dim=1)
    probe = fit_probe(vectors, torch.arange(3), 3)
    assert F.linear(vectors, probe.weight, probe.bias).argmax(1).tolist() == [0, 1, 2]
    assert (probe.weight[:, 3:] == 0).all()


def test_a_split_takes_the_same_share_of_each_class():
    targets = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    kept, held = stratified(targets, 0.2, seed=0)
    assert targets[held].bincount(minlength=4).tolist() == [10, 2, 1, 0]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(63))
    assert torch.equal(held, stratified(targets, 0.2, seed=0)[1])
    assert not torch.equal(held, stratified(targets, 0.2, seed=1)[1])
    assert targets[stratified(targets, 0.999, seed=0)[0]].unique().tolist() == [0, 1, 2, 3]
