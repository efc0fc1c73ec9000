"""`vitrail.export`: a network as files that other programs run without Vitrail or torch."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitrail.checkpoints.load import load
from vitrail.engines import onnx, openvino
from vitrail.engines.exported import Graph
from vitrail.engines.pictures import CALIBRATION, sample
from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.models.generator import Generator
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model
from vitrail.tasks.exports import generating, seeing, writing
from vitrail.tasks.models import name_of

FORMS = {"onnx": ("float32",), "openvino": ("float32", "float16", "int8")}
"""What is written, and in which precisions: float16 keeps weights in half the space, and computes as it likes."""

COMPARED = 16
"""Pictures that what was written is compared on; more for int8, of which few would say nothing."""

COMPARED_INT8 = 200


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        model: the network's name.
        folder: where.
        engine: "onnx" or "openvino".
        precision: "float32", "float16" or "int8".
        files: their names in the folder.
        error: how far its answers are from PyTorch's, |a - b| / |b|; None where its runtime is not installed.
        agreement: the share of pictures of which it says the same class, or the mean cosine of vectors, or the share of
            tokens that it writes alike; likewise, and for networks that make pictures.
    """

    model: str
    folder: Path
    engine: str
    precision: str
    files: tuple[str, ...]
    error: float | None
    agreement: float | None

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return {**asdict(self), "folder": str(self.folder), "files": list(self.files)}

    def __str__(self) -> str:
        compared = "onnxruntime is not installed, so it was not run"
        if self.error is not None:
            agrees = "" if self.agreement is None else f", agreement {self.agreement:.2%}"
            compared = f"its answers are {self.error:.1e} from PyTorch's{agrees}"
        return (
            f"{self.folder}: {self.model} for {self.engine} in {self.precision}; {compared}\n  {', '.join(self.files)}"
        )


def export(
    model: str | Model,
    folder: str | Path,
    *,
    engine: str = "onnx",
    precision: str = "float32",
    pictures: str | None = None,
    architecture: str | None = None,
) -> Exported:
    """Write a network for ONNX Runtime or OpenVINO, and everything that is needed to use it.

    A network that sees becomes `model.onnx`, or `model.xml` with `model.bin`: "images" (B, C, H, W) float32 in,
    "logits" (B, classes) or "vectors" (B, D) out, for any B. One with two towers becomes `image` and `text`, the latter
    from "ids" (B, N) int64 to "vectors". One that writes becomes `prompt`, which reads pictures and ids of any length,
    and `token`, which goes on by one token with what was read. One that makes pictures becomes `text`, `denoiser` and
    `decoder`, as far as it has them: see `vitrail.tasks.exports`. Beside them are, where there are any,
    `preprocess.json`, how pictures are prepared; `labels.txt`, a class a line; `tokenizer.json`; `sigmas.txt`, the
    levels of noise; and always `README.md`, a program of a few lines that uses all of it. The folder appears whole or
    not at all.

    Args:
        model: what `vitrail.load` takes, or a loaded network.
        folder: one that does not exist yet, or holds nothing.
        engine: "onnx" or "openvino".
        precision: "float32"; for OpenVINO also "float16", weights in half the space, and "int8", quantised by NNCF.
        pictures: a folder, file or pattern that int8 is calibrated on; drawn scenes unless said.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.

    Raises:
        UsageError: there is no such engine or precision, or the network is none that can be written so.
        CheckpointError: the network cannot be loaded.
        VitrailError: a package is missing, the folder holds something or cannot be written, pictures come to different
            sizes before this network, or what was written does not say what PyTorch says.
    """
    folder = Path(folder)
    if engine not in FORMS:
        raise UsageError(f"networks are exported for {' or '.join(FORMS)}, not for '{engine}'")
    if precision not in FORMS[engine]:
        raise UsageError(f"{engine} is written in {' or '.join(FORMS[engine])}, not in '{precision}'")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VitrailError(f"{folder} is there already: name a folder that does not exist, or an empty one")
    onnx.check_onnx(run=False) if engine == "onnx" else openvino.check_openvino(precision)
    network = (
        model if isinstance(model, Model) else load(model, architecture=architecture, device="cpu", engine="eager")
    )
    if network.training:
        raise UsageError("the network is in training mode: call its eval() first")
    if network.device.type != "cpu":
        raise UsageError(
            f"networks are exported from the CPU, and this one is on {network.device}: load it with device='cpu'"
        )
    form = _form(network)
    graphs: dict[str, Graph] = form.graphs(network)
    described: dict[str, str] = form.files(network, engine, precision)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with appearing(folder) as scratch:
            scratch.mkdir()
            for name, graph in graphs.items():
                if engine == "onnx":
                    onnx.converted(network, graph).save(scratch / f"{name}.onnx")
                    continue
                made = openvino.converted(network, graph)
                if precision == "int8" and "images" in graph.inputs:
                    calibration = sample(pictures, CALIBRATION) if pictures else None
                    made = openvino.quantised(made, network, tuple(graph.inputs["images"].shape[1:]), calibration)
                openvino.write(made, scratch / f"{name}.xml", half=precision == "float16")
            for file, content in described.items():
                (scratch / file).write_text(content, encoding="utf-8")
            error, agreement = _compared(network, scratch, engine, precision, graphs, pictures)
            files = tuple(sorted(path.name for path in scratch.iterdir()))
    except OSError as reason:
        raise VitrailError(f"{folder} cannot be written ({reason.strerror or reason})") from None
    return Exported(name_of(network), folder, engine, precision, files, error, agreement)


def _form(model: Model) -> Any:
    """The module that knows how networks of this kind are written."""
    if isinstance(model, LanguageModel):
        return writing
    return generating if isinstance(model, Generator) else seeing


def _compared(
    model: Model, folder: Path, engine: str, precision: str, names: Iterable[str], pictures: str | None
) -> tuple[float | None, float | None]:
    """Run what was written beside the network.

    Raises:
        VitrailError: it says something else.
    """
    if engine == "onnx":
        try:
            onnx.check_onnx()
        except VitrailError:  # the one package that running takes and writing does not
            return None, None
    run: dict[str, Callable[..., Any]] = {}
    for name in names:
        if engine == "onnx":
            run[name] = onnx.running(folder / f"{name}.onnx")
        else:
            graph = openvino.read(folder / f"{name}.xml")
            run[name] = openvino.running(graph, "int8" if precision == "int8" else "float32")
    if isinstance(model, Generator):
        found = generating.compared(model, run)
    else:
        count = COMPARED_INT8 if precision == "int8" else COMPARED
        found = _form(model).compared(model, run, sample(pictures, count, compare=True))
    if precision != "int8" and (objection := found.objection("bfloat16" if precision == "float16" else precision)):
        raise VitrailError(f"what was written for {engine} does not say what PyTorch says: {objection}")
    return found.error, found.agreement
