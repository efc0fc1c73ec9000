"""Which weights decay, and the learning rate against its closed form."""

import math

import pytest
from torch import nn

from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.models.vit import ViT, ViTConfig
from vitrail.training.optimiser import build_optimiser, learning_rate, split_by_decay
from vitrail.training.recipe import OptimiserSection, ScheduleSection

TINY = {"image_size": 24, "patch_size": 6, "width": 12, "depth": 1, "heads": 2, "mlp_width": 24, "classes": 3}


def names_that_decay(model: nn.Module) -> set[str]:
    decayed = {id(weight) for weight in split_by_decay(model)[0]}
    return {name for name, weight in model.named_parameters() if id(weight) in decayed}


def test_only_matrices_decay():
    assert names_that_decay(ViT(ViTConfig(**TINY))) == {
        "patchify.projection.weight",
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.out.weight",
        "blocks.0.mlp.up.weight",
        "blocks.0.mlp.down.weight",
        "head.weight",
    }


@pytest.mark.parametrize(
    "model",
    [
        DINOv2(DINOv2Config(**{**TINY, "patch_size": 6, "registers": 2})),
        EfficientNet(EfficientNetConfig(width=0.25, depth=0.25, classes=3)),
    ],
)
def test_every_weight_is_in_one_group_and_vectors_and_tokens_are_free(model):
    decayed, free = split_by_decay(model)
    assert sorted(map(id, decayed + free)) == sorted(map(id, model.parameters()))
    names = names_that_decay(model)
    assert names
    assert all(name.endswith("weight") and "token" not in name and "norm" not in name for name in names)
    assert all(dict(model.named_parameters())[name].ndim > 1 for name in names)


def test_groups_carry_their_decay():
    model = nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2), nn.LSTM(2, 2))
    model[0].bias.requires_grad = False
    groups = build_optimiser(model, OptimiserSection(weight_decay=0.3)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [len(group["params"]) for group in groups] == [3, 3]  # two matrices of the LSTM; embedding, two biases


def test_the_learning_rate_is_a_ramp_and_half_a_cosine():
    schedule = ScheduleSection(warmup=10, final=0.1)
    rates = [learning_rate(step, 110, 2.0, schedule) for step in range(110)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([2 * (0.1 + 0.45 * (1 + math.cos(math.pi * n / 100))) for n in range(1, 101)])
    assert max(rates) == 2.0
    assert rates[-1] == pytest.approx(0.2)


def test_a_schedule_may_be_all_warm_up_or_none():
    assert learning_rate(4, 5, 1.0, ScheduleSection(warmup=5)) == 1.0
    assert learning_rate(0, 1, 1.0, ScheduleSection()) == 0.0
