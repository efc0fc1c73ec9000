"""torch.compile says what eager says, and a second process compiles nothing."""

import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")

SCRIPT = """
import json, sys, torch
from torch._dynamo.utils import counters
from tests.engines.small import relative, small_vit
from vitrail.engines import prepare

model = small_vit()
says = prepare(model, "compile")
pictures = torch.randn(2, 3, 16, 16)
with torch.inference_mode():
    error = relative(model(pictures), small_vit()(pictures))
inductor = counters["inductor"]
print(json.dumps({
    "says": says,
    "error": error,
    "hits": inductor["fxgraph_cache_hit"],
    "misses": inductor["fxgraph_cache_miss"],
}))
"""


@pytest.mark.timeout(600)
def test_a_second_process_compiles_nothing(tmp_path):
    """PyTorch's own counters say how many graphs were compiled and how many were found."""
    environment = {**os.environ, "VITRAIL_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()}
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment
        )
        told.append(json.loads(done.stdout.splitlines()[-1]))
    first, second = told
    assert first["says"] == second["says"] == "compile float32"
    assert max(first["error"], second["error"]) < 1e-4
    assert first["misses"] == 1
    assert first["hits"] == 0
    assert second["misses"] == 0
    assert second["hits"] == 1
    assert any((tmp_path / "inductor").rglob("*.so"))
