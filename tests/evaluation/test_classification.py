"""Scores against counting by hand, and in an environment with a broken torchvision."""

import subprocess
import sys

import pytest
import torch

from vitrail.evaluation.classification import ManyScores, SingleScores

CPU = torch.device("cpu")


def test_single_scores_count_over_batches():
    scores = SingleScores(7, CPU)
    outputs, targets = torch.randn(50, 7), torch.randint(7, (50,))
    for part in (slice(0, 20), slice(20, 50)):
        scores.update(outputs[part], targets[part])
    right = outputs.argmax(1) == targets
    in_five = (outputs.topk(5).indices == targets[:, None]).any(1)
    computed = scores.compute()
    assert computed["accuracy"] == pytest.approx(right.float().mean().item())
    assert computed["top_5"] == pytest.approx(in_five.float().mean().item())
    a_class = [right[targets == number].float().mean().item() for number in targets.unique().tolist()]
    assert computed["mean_class_accuracy"] == pytest.approx(sum(a_class) / len(a_class))


def test_fewer_than_five_classes():
    scores = SingleScores(2, CPU)
    scores.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert scores.compute() == {"accuracy": 0.0, "top_2": 1.0, "mean_class_accuracy": 0.0}


def test_many_scores():
    perfect, targets = ManyScores(3, CPU), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    perfect.update(targets * 10 - 5, targets)
    assert perfect.compute() == {"mean_average_precision": 1.0, "f1": 1.0}
    half = ManyScores(3, CPU)
    half.update(torch.full((3, 3), 5.0), targets)  # everything is said to be there: 6 of 9 are
    assert half.compute()["f1"] == pytest.approx(2 * 6 / (2 * 6 + 3))


def test_torchmetrics_imports_in_this_environment_without_help_from_the_tests():
    code = "from vitrail.evaluation.torchmetrics import import_classification as i; i().MulticlassAccuracy(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
