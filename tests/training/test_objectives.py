"""Losses against their closed forms."""

import math
from dataclasses import replace

import torch

from tests.training.small import small
from vitrail.training.objectives import ClassificationSection, PresenceSection


def test_classification_smooths_and_takes_shares():
    outputs, target = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    logs = outputs.log_softmax(1)[0]
    smoothed = ClassificationSection(name="classification", label_smoothing=0.3).loss(outputs, target)
    torch.testing.assert_close(smoothed, -(0.7 * logs[0] + 0.1 * logs.sum()))
    shares = torch.tensor([[0.25, 0.75, 0.0]])
    mixed = ClassificationSection(name="classification").loss(outputs, shares)
    torch.testing.assert_close(mixed, -(0.25 * logs[0] + 0.75 * logs[1]))


def test_presence_sums_over_classes():
    section = PresenceSection(name="presence", positive_weight=2.0)
    loss = section.loss(torch.zeros(5, 4), torch.eye(4)[[0, 1, 2, 3, 0]])
    torch.testing.assert_close(loss, torch.tensor((3 + 2) * math.log(2)))
    data = replace(small().data.open((24, 24)), labels=("a", "b", "c"))
    assert section.said(torch.tensor([1.0, -1.0, 3.0]), data) == ("c", "a")
    assert section.right(torch.tensor([0.0, 1.0, 1.0]), data) == ("b", "c")
