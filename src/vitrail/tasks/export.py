"""`vitrail.export`: a network as files that other programs run without Vitrail or torch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.load import load
from vitrail.engines import onnx, openvino
from vitrail.engines.entries import Run
from vitrail.engines.exported import Graph
from vitrail.engines.guard import answer, compare, kind_of, questions
from vitrail.engines.pictures import CALIBRATION, sample
from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.models import name_of
from vitrail.tasks.usage import usage

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
        agreement: the share of pictures of which it says the same class, or the mean cosine of vectors; likewise.
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
        compared = (
            "onnxruntime is not installed, so it was not run"
            if self.error is None
            else f"its answers are {self.error:.1e} from PyTorch's, agreement {self.agreement:.2%}"
        )
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
    from "ids" (B, N) int64 to "vectors", with its `tokenizer.json`. Beside them are `preprocess.json`, how pictures are
    prepared; `labels.txt`, a class a line, where there are any; and `README.md`, a program of a few lines that uses all
    of it. The folder appears whole or not at all.

    Args:
        model: what `vitrail.load` takes, or a loaded network.
        folder: one that does not exist yet, or holds nothing.
        engine: "onnx" or "openvino".
        precision: "float32"; for OpenVINO also "float16", weights in half the space, and "int8", quantised by NNCF.
        pictures: a folder, file or pattern that int8 is calibrated on; drawn scenes unless said.
        architecture: timm's name of the network, for a bare state dict that does not say what it is.

    Raises:
        UsageError: there is no such engine or precision, or the network neither names nor embeds pictures.
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
    if not network.entries:
        raise UsageError(f"exported are networks that name or embed pictures, and {network.family} is none")
    size = network.preprocess.output_size
    if not isinstance(network.preprocess, Preprocess) or size is None:
        raise VitrailError(f"'{name_of(network)}' takes pictures of any size, and an exported network takes one size")
    parts = _parts(network, size)
    described = _described(network, engine, precision)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with appearing(folder) as scratch:
            scratch.mkdir()
            graph: Any = None
            for name, part in parts.items():
                if engine == "onnx":
                    graph = onnx.converted(network, part)
                    graph.save(scratch / f"{name}.onnx")
                    continue
                graph = openvino.converted(network, part)
                if precision == "int8" and "images" in part.inputs:
                    calibration = sample(pictures, CALIBRATION) if pictures else None
                    graph = openvino.quantised(graph, network, tuple(part.inputs["images"].shape[1:]), calibration)
                openvino.write(graph, scratch / f"{name}.xml", half=precision == "float16")
            for file, content in described.items():
                (scratch / file).write_text(content, encoding="utf-8")
            error, agreement = _compared(network, scratch, engine, precision, next(iter(parts)), pictures)
            files = tuple(sorted(path.name for path in scratch.iterdir()))
    except OSError as reason:
        raise VitrailError(f"{folder} cannot be written ({reason.strerror or reason})") from None
    return Exported(name_of(network), folder, engine, precision, files, error, agreement)


def _parts(model: Model, size: tuple[int, int]) -> dict[str, Graph]:
    """What is written, by the names of the files."""
    images = {"images": torch.zeros(2, model.preprocess.channels, *size)}
    if isinstance(model, ImageText):
        if model.tokenizer is None:
            raise UsageError(f"'{name_of(model)}' came without a tokenizer, so its text tower could not be used")
        ids = model.tokenizer(["a", "b"])
        return {
            "image": Graph(type(model).encode_image, images, ("vectors",)),
            "text": Graph(type(model).embed_tokens, {"ids": ids}, ("vectors",)),
        }
    if kind_of(model) == "classes":
        return {"model": Graph(type(model).forward, images, ("logits",))}
    return {"model": Graph(lambda model, images: model.pool(model.features(images)), images, ("vectors",))}


def _described(model: Model, engine: str, precision: str) -> dict[str, str]:
    """The files beside the network."""
    prepare = asdict(model.preprocess)
    if model.preprocess.resize is not None:
        prepare["resize"]["resample"] = model.preprocess.resize.resample.name.lower()
    files = {"preprocess.json": json.dumps({"size": model.preprocess.output_size, **prepare}, indent=1) + "\n"}
    if kind_of(model) == "classes" and model.labels:
        files["labels.txt"] = "".join(" ".join(label.split()) + "\n" for label in model.labels)
    if isinstance(model, ImageText):
        assert model.tokenizer is not None  # _parts saw to it
        files["tokenizer.json"] = model.tokenizer.backend.to_str(pretty=True)
    files["README.md"] = usage(model, engine, precision)
    return files


def _compared(
    model: Model, folder: Path, engine: str, precision: str, name: str, pictures: str | None
) -> tuple[float | None, float | None]:
    """Run what was written on pictures beside the network.

    Raises:
        VitrailError: it says something else.
    """
    try:
        run: Run
        if engine == "onnx":
            onnx.check_onnx()
            run = onnx.running(folder / f"{name}.onnx")
        else:
            run = openvino.running(openvino.read(folder / f"{name}.xml"), "int8" if precision == "int8" else "float32")
    except VitrailError:  # the one package that running takes and writing does not
        return None, None
    kind = kind_of(model)
    asked: Sequence[Tensor] = questions(
        model, sample(pictures, COMPARED_INT8 if precision == "int8" else COMPARED, compare=True), 1
    )
    found = compare(kind, [answer(model, images) for images in asked], [run(images) for images in asked])
    if precision != "int8" and (objection := found.objection("bfloat16" if precision == "float16" else precision)):
        raise VitrailError(f"what was written for {engine} does not say what PyTorch says: {objection}")
    return found.error, found.agreement
