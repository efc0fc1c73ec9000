"""ONNX: a network's graph in the form that most other programs read, run by ONNX Runtime in float32."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.engines.entries import Run
from vitrail.engines.exported import Graph, exported, one_or_several, quiet
from vitrail.engines.kept import ConvertedEntry
from vitrail.errors import VitrailError
from vitrail.models.model import Model


class ONNXEntry(ConvertedEntry):
    """A method that ONNX Runtime runs."""

    engine = "onnx"

    def read(self, folder: Path) -> Any:
        """The file's path."""
        path = folder / "model.onnx"
        return path if path.is_file() else None

    def convert(self, images: Tensor) -> Any:
        """The graph, in memory."""
        return converted(self.model, self.graph(images))

    def running(self, graph: Any) -> Run:
        """By ONNX Runtime."""
        return running(graph if isinstance(graph, Path) else graph.model_proto.SerializeToString())

    def write(self, graph: Any, folder: Path) -> None:
        """As model.onnx."""
        graph.save(folder / "model.onnx")


def check_onnx(*, run: bool = True) -> None:
    """See that ONNX files can be made here, and run.

    Raises:
        VitrailError: a package is missing.
    """
    for name in ("onnx", "onnxscript", *(["onnxruntime"] if run else [])):
        try:
            import_module(name)
        except ImportError:
            raise VitrailError(
                f"the engine 'onnx' needs the package {name}, which is not installed: pip install 'vitrail[onnx]'"
            ) from None


def converted(model: Model, graph: Graph) -> Any:
    """A function of a network in float32 as torch's ONNXProgram; arguments and errors are those of `exported`."""
    check_onnx(run=False)
    program = exported(model, graph)
    with torch.inference_mode(False), torch.no_grad(), quiet():
        return torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
        )


def running(graph: Path | bytes) -> Callable[..., Any]:
    """A file's graph, or its bytes, on as many threads as torch has: tensors in, and out, in the graph's order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]

    def run(*given: Tensor) -> Any:
        values = (tensor.numpy() for tensor in given)
        return one_or_several(session.run(None, dict(zip(names, values, strict=True))))

    return run
