"""Shared fixtures, and what lets the reference libraries import beside a CPU build of torch."""

import os

import pytest
import torch

from vitrail.evaluation.torchmetrics import declare_missing_operators

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tests never need the network
torch.set_num_threads(max(1, (os.cpu_count() or 2) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


declare_missing_operators()  # or timm and transformers could not import beside a CPU build of torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
