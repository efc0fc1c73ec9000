"""Shared fixtures, and what lets the reference libraries import beside a CPU build of torch."""

import importlib.util
import os

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tests never need the network
torch.set_num_threads(max(1, (os.cpu_count() or 2) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


def _declare_torchvision_operators() -> None:
    """torchvision's wheel has its operators in a CUDA library; beside a CPU build of torch their schemas lack."""
    if importlib.util.find_spec("torchvision") is None or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        global _library
        _library = torch.library.Library("torchvision", "DEF")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_torchvision_operators()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
