"""Shared fixtures, and what lets the reference libraries import beside a CPU build of torch."""

import os
import sys

import pytest
import torch

from vitrail.evaluation.torchmetrics import declare_missing_operators

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tests never need the network
torch.set_num_threads(max(1, (os.cpu_count() or 2) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


# OpenVINO reports its use to its makers, by a process that it forks from ours with all of its threads: not from a test,
# whoever of us imports it first.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

declare_missing_operators()  # or timm and transformers could not import beside a CPU build of torch


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What engines keep and remember is kept apart from the user's, in subprocesses, too; no engine is asked for."""
    os.environ["VITRAIL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("VITRAIL_ENGINE", "TORCHINDUCTOR_CACHE_DIR"):
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
