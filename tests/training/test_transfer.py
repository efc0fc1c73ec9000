"""The loop on a network that is there, and LoRA."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from tests.pictures import noise
from tests.tiny import tiny_vit
from vitrail.errors import UsageError
from vitrail.imaging.inputs import Input
from vitrail.imaging.preprocess import Crop, Preprocess, Resize, standard
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.tasks.probe import with_classes
from vitrail.training.transfer import _Examples, _FromLoop, add_adapters, check_tunable, merge_adapters, tune


def flags() -> list[tuple[Input, int]]:
    """Two kinds of picture: red or blue at the left, noise at the right."""
    examples = []
    for number in range(24):
        picture = noise(32, 32, seed=number)
        picture.paste((200, 20, 40) if number % 2 else (20, 40, 200), (0, 0, 16, 32))
        examples.append((Input(picture, f"{number}"), number % 2))
    return examples


def loss_of(network, examples) -> float:
    with torch.inference_mode():
        logits = network(network.preprocess([input.source for input, _ in examples]))
        return float(F.cross_entropy(logits, torch.tensor([target for _, target in examples])))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_loss_falls(method):
    network = with_classes(tiny_vit(preprocess=standard(32, crop_fraction=1.0)), ("blue", "red"))
    nn.init.normal_(network.head.weight, std=0.02)
    before = loss_of(network, flags())
    tuned = tune(network, flags(), method=method, epochs=12, lr=1e-2, batch_size=12)
    assert loss_of(tuned, flags()) < 0.6 * before
    assert loss_of(network, flags()) == before
    assert not tuned.training
    assert tuned.labels == ("blue", "red")


def test_hardly_any_learning_rate_hardly_changes_anything():
    network = with_classes(tiny_vit(), ("blue", "red"))
    nn.init.normal_(network.head.weight)
    tuned = tune(network, flags()[:4], method="full", epochs=1, lr=1e-12)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(tuned(images), network(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [{}, {"rescale_offset": True, "std_twice": True}, {"mean": None, "std": None}])
def test_the_loops_pictures_become_the_networks_own(steps):
    preprocess = Preprocess(Resize((32, 32)), Crop((32, 32)), **steps)
    network = tiny_vit(preprocess=preprocess)
    examples = [(Input(noise(40, 50, seed=seed), ""), 0) for seed in range(3)]
    images = _Examples(examples, network).batch(torch.arange(3), None)["images"]
    with torch.inference_mode():
        through = _FromLoop(network)((images / 255 - 0.5) / 0.5)
        straight = network(preprocess([input.source for input, _ in examples]))
    torch.testing.assert_close(through, straight, atol=1e-4, rtol=1e-4)


def test_batch_norms_keep_their_statistics():
    network = tiny_vit()
    network.extra = nn.BatchNorm2d(3)
    _FromLoop(network).train()
    assert network.training
    assert not network.extra.training


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_merged_adapters_say_what_the_unmerged_said(family):
    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "classes": 5}
    network = tiny_vit(classes=5) if family == "vit" else DeiT(DeiTConfig(**sizes, distillation_head=False)).eval()
    before, images = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.randn(4, 3, 32, 32)
    plain = network(images)
    add_adapters(network, rank=4)
    torch.testing.assert_close(network(images), plain)  # the second matrix is zero
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert sum("lora_A" in name for name in trained) == 2 * 4
    for name, weight in network.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.1)
    unmerged = network(images)
    assert (unmerged - plain).abs().max() > 0.01
    merge_adapters(network)
    assert network.state_dict().keys() == before.keys()
    assert all(type(module) is not nn.Module and "peft" not in type(module).__module__ for module in network.modules())
    torch.testing.assert_close(network(images), unmerged, atol=1e-5, rtol=1e-5)


def test_networks_that_cannot_be_tuned():
    grey = Preprocess(Resize((32, 32)), mode="L", mean=(0.5,), std=(0.5,))
    with pytest.raises(UsageError, match="RGB pictures of one size"):
        check_tunable(tiny_vit(preprocess=grey), "full")
    with pytest.raises(UsageError, match="RGB pictures of one size"):
        check_tunable(tiny_vit(preprocess=Preprocess(Resize(32, "shortest"))), "lora")
    with pytest.raises(UsageError, match="the batch size must be at least 1"):
        tune(with_classes(tiny_vit(), ("a", "b")), flags(), method="full", batch_size=0)


def test_transparency_is_as_the_preprocessing_has_it():
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    network = tiny_vit(preprocess=Preprocess(Resize((32, 32)), transparency="white"))
    assert _Examples([(Input(clear, ""), 0)], network).batch(torch.tensor([0]), None)["images"].min() == 255
