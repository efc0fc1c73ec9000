"""OpenVINO: a network's graph, run by a compiler made for processors; in float32, bfloat16 or 8-bit integers."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.engines.entries import Run
from vitrail.engines.exported import Graph, exported, one_or_several, quiet
from vitrail.engines.kept import ConvertedEntry
from vitrail.engines.pictures import CALIBRATION, sample
from vitrail.errors import UsageError, VitrailError, first_line
from vitrail.imaging.open import Picture
from vitrail.models.model import Model


class OpenVINOEntry(ConvertedEntry):
    """A method that OpenVINO runs.

    Args:
        model: the network.
        name: the method's.
        precision: "float32", "bfloat16" or "int8".
        pictures: what int8 is calibrated on, anew; without any, what was kept from earlier is taken, or pictures are
            generated.
    """

    engine = "openvino"

    def __init__(self, model: Model, name: str, precision: str, pictures: Sequence[Picture] | None = None) -> None:
        super().__init__(model, name, precision)
        self.pictures = pictures

    @property
    def kind(self) -> str:
        """bfloat16 is a way to run the same graph; 8-bit integers are another."""
        return "openvino-int8" if self.precision == "int8" else "openvino"

    def read(self, folder: Path) -> Any:
        """What is kept; None where it is to be calibrated on pictures that were given."""
        path = folder / "model.xml"
        try:
            return read(path) if path.is_file() and not self.pictures else None
        except RuntimeError:  # broken on disk
            return None

    def convert(self, images: Tensor) -> Any:
        """The graph; for int8 quantised."""
        graph = converted(self.model, self.graph(images))
        return (
            quantised(graph, self.model, tuple(images.shape[1:]), self.pictures) if self.kind != "openvino" else graph
        )

    def running(self, graph: Any) -> Run:
        """By OpenVINO."""
        return running(graph, self.precision)

    def write(self, graph: Any, folder: Path) -> None:
        """As model.xml and model.bin."""
        write(graph, folder / "model.xml")


def check_openvino(precision: str) -> None:
    """See that OpenVINO is installed and that this processor has what the precision needs.

    Raises:
        VitrailError: it is not.
        UsageError: the processor has no instructions for it.
    """
    import_openvino()
    capability = {"bfloat16": "BF16", "int8": "INT8"}.get(precision)
    if capability and capability not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(f"this processor has no instructions for {precision}: use openvino in float32")
    if precision == "int8":
        _import_nncf()


def converted(model: Model, graph: Graph) -> Any:
    """A function of a network in float32 as an OpenVINO model; arguments and errors are those of `exported`."""
    openvino = import_openvino()
    program = exported(model, graph)
    with quiet():
        made = openvino.convert_model(program)
    shapes = {}
    for port, (name, axes) in zip(made.inputs, graph.any_length.items(), strict=True):
        port.get_tensor().set_names({name})
        shape = graph.inputs[name].shape
        shapes[name] = openvino.PartialShape([-1 if axis in axes else size for axis, size in enumerate(shape)])
    made.reshape(shapes)
    for port, name in zip(made.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    return made


def quantised(graph: Any, model: Model, size: tuple[int, ...], pictures: Sequence[Picture] | None) -> Any:
    """The same with 8-bit weights and activations, whose ranges NNCF takes from pictures.

    Args:
        graph: an OpenVINO model of pictures.
        model: the network, for its preprocessing.
        size: (C, H, W) of what the graph takes.
        pictures: to calibrate on; generated ones where None.

    Raises:
        VitrailError: preprocessing makes no tensors of this size of them, or NNCF cannot quantise the graph.
    """
    nncf = _import_nncf()
    prepared = [model.preprocess(picture) for picture in (pictures or sample(None, CALIBRATION))]
    fitting = [images.numpy() for images in prepared if tuple(images.shape[1:]) == size]
    if not fitting:
        raise VitrailError(f"int8 is calibrated on pictures, and none of them comes to {size[1]}×{size[2]} pixels")
    attends = any(type(part).__name__.endswith("Attention") for part in model.modules())
    try:
        with quiet():
            return nncf.quantize(
                graph,
                nncf.Dataset(fitting),
                subset_size=len(fitting),
                model_type=nncf.ModelType.TRANSFORMER if attends else None,
            )
    except Exception as error:  # NNCF raises of its own and of Python's
        raise VitrailError(f"NNCF cannot quantise this {model.family} ({first_line(error)})") from error


def running(graph: Any, precision: str) -> Callable[..., Any]:
    """An OpenVINO model compiled for this processor and as many threads as torch has: tensors in, and out, in order."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
    }
    if "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        settings["INFERENCE_PRECISION_HINT"] = "f32"  # of what int8 leaves in floats
    compiled = _core().compile_model(graph, "CPU", settings)

    def run(*given: Tensor) -> Any:
        said = compiled([values.numpy() for values in given], share_inputs=True)
        return one_or_several([said[port] for port in compiled.outputs])

    return run


def write(graph: Any, path: Path, *, half: bool = False) -> None:
    """Write an OpenVINO model: `path`, which ends in .xml, and the weights beside it, in float16 if `half`."""
    import_openvino().save_model(graph, str(path), compress_to_fp16=half)


def import_openvino() -> Any:
    """The package.

    Raises:
        VitrailError: it is not installed.
    """
    try:
        with _untold():
            import openvino
    except ImportError:
        raise VitrailError(
            "the engine 'openvino' needs the package openvino, which is not installed: pip install 'vitrail[openvino]'"
        ) from None
    return openvino


def _import_nncf() -> Any:
    try:
        with quiet(), _untold():
            import nncf
    except ImportError:
        raise VitrailError(
            "int8 is made by the package nncf, which is not installed: pip install 'vitrail[openvino]'"
        ) from None
    return nncf


@contextmanager
def _untold() -> Iterator[None]:
    """What is imported within does not report to its makers that it was, nor later what it is used for.

    OpenVINO and NNCF do so in a process of its own for each report, unless the package for it cannot be imported. Who
    imported that before us has said what they want.
    """
    package = "openvino_telemetry"
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        yield
    finally:
        del sys.modules[package]


@cache
def _core() -> Any:
    return import_openvino().Core()


def read(path: Path) -> Any:
    """An OpenVINO model from its .xml and the .bin beside it."""
    return _core().read_model(str(path))
