"""ONNX: a network's graph in the form that most other programs read, run by ONNX Runtime in float32."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.engines.entries import Run
from vitrail.engines.exported import exported, quiet
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
        call = getattr(type(self.model), self.name)
        return converted(self.model, call, images[:1].expand(2, -1, -1, -1).contiguous(), "images", self.name)

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


def converted(
    model: Model, call: Callable[[Any, Tensor], Tensor], example: Tensor, input_name: str, output_name: str
) -> Any:
    """A function of a network as torch's ONNXProgram, for batches of any length; arguments as `exported`."""
    check_onnx(run=False)
    program = exported(model, call, example)
    with torch.inference_mode(False), torch.no_grad(), quiet():
        return torch.onnx.export(
            program, (), dynamo=True, input_names=[input_name], output_names=[output_name], verbose=False
        )


def running(graph: Path | bytes) -> Run:
    """A file's graph, or its bytes, of one input and one output, on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (given.name for given in session.get_inputs())
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])
