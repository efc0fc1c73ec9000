"""Networks written for other programs, run as those would run them."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vitrail.engines import onnx, openvino
from vitrail.engines.exported import Graph
from vitrail.models.model import Model

RUNTIMES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}


def need(engine: str) -> None:
    """Skip a test where what it runs is not installed."""
    for package in RUNTIMES[engine]:
        pytest.importorskip(package)


def written(model: Model, graphs: Mapping[str, Graph], engine: str, folder: Path) -> dict[str, Callable[..., Any]]:
    """Write graphs into a folder; what runs them, by name."""
    run: dict[str, Callable[..., Any]] = {}
    for name, graph in graphs.items():
        if engine == "onnx":
            onnx.converted(model, graph).save(folder / f"{name}.onnx")
            run[name] = onnx.running(folder / f"{name}.onnx")
        else:
            openvino.write(openvino.converted(model, graph), folder / f"{name}.xml")
            run[name] = openvino.running(openvino.read(folder / f"{name}.xml"), "float32")
    return run


def program(folder: Path) -> str:
    """The one in README.md."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return code


def run_program(code: str, folder: Path) -> str:
    """Run it in the folder, where neither torch nor Vitrail can be imported; what it prints."""
    blocked = "import sys; sys.modules['torch'] = sys.modules['vitrail'] = None\n"
    command = [sys.executable, "-X", "utf8", "-c", blocked + code]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
