"""`vitrail.save` and `vitrail.convert`: write a network in a publisher's own form."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vitrail import registry
from vitrail.checkpoints.integers import as_integers
from vitrail.checkpoints.layout import Layout, to_theirs
from vitrail.checkpoints.load import config_fields, load
from vitrail.checkpoints.native import NativeLayout
from vitrail.errors import CheckpointError, UsageError
from vitrail.files import appearing
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.model import Model

LAYOUTS = ("vitrail", "transformers", "timm", "open_clip", "diffusers", "original")


def save(
    model: Model,
    path: str | Path,
    *,
    layout: str | None = None,
    notes: Mapping[str, str] | None = None,
    integers: bool = False,
) -> Path:
    """Write a network so that the publisher's library, or `load`, reads it back.

    What is written appears whole or not at all.

    Args:
        model: a loaded network, or one built in Python with its `preprocess` set.
        path: a folder that does not exist yet or holds nothing; for Vitrail's own layout also a `.safetensors` file.
        layout: "transformers", "timm", "open_clip", "diffusers", "original" (Stable Diffusion in one file) or
            "vitrail"; by default the one it was loaded from, or else "vitrail".
        notes: what else the header of the weights' file says, by name. `load` reads "licence" from a file of our own.
        integers: keep large weights as 8-bit integers with a scale a row, and the rest in bfloat16, in Vitrail's own
            layout: the file is half of bfloat16's. They are floats again as soon as they are loaded.

    Returns:
        The path.

    Raises:
        UsageError: there is no such layout, or the network has no `preprocess`.
        CheckpointError: the layout has no words for this network, or the path cannot be written.
    """
    path = Path(path)
    if not hasattr(model, "preprocess"):
        raise UsageError("a network is saved together with how its pictures are prepared: set its `preprocess` first")
    library = layout or (model.origin.layout if model.origin and model.origin.layout in LAYOUTS else "vitrail")
    if integers and library != "vitrail":
        raise UsageError(f"weights are kept as integers in Vitrail's own layout alone, not in that of {library}")
    if library == "vitrail":
        native = NativeLayout(model.family)
        header = {**(notes or {}), "vitrail": json.dumps(native.write_config(model)), **native.write_tokenizer(model)}
        weights = as_integers(model.weights()) if integers else model.weights()
        tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
        if path.suffix == ".safetensors":
            with _reported(path), appearing(path, CheckpointError) as scratch:
                path.parent.mkdir(parents=True, exist_ok=True)
                save_file(tensors, scratch, header)
        else:
            _write_folder(path, {}, native.shelve(tensors), header)
        return path
    chosen = _layout_for(model, library)
    model = chosen.before_writing(model)
    described = chosen.write_described(model)
    files = {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in described.items()}
    files |= chosen.write_tokenizer(model)
    _write_folder(path, files, chosen.shelve(to_theirs(chosen, model)), {**(notes or {}), "format": "pt"})
    return path


def convert(
    source: str, destination: str | Path, *, layout: str, architecture: str | None = None
) -> dict[str, tuple[Any, Any]]:
    """Read a checkpoint in any layout and write it in another.

    Returns:
        What the new layout could not hold: config field -> (value before, value after). A norm's ε, mostly.

    Raises:
        UsageError, CheckpointError: as `load` and `save` raise them.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout '{layout}'; there are {', '.join(LAYOUTS)}")
    model = load(source, architecture=architecture, device="cpu", engine="eager")  # whose weights are as they were read
    written = load(str(save(model, destination, layout=layout)), device="cpu")
    before = {name: value for name, value, _ in config_fields(model.config)}
    after = {name: value for name, value, _ in config_fields(written.config)}
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if not _prepare_alike(model.preprocess, written.preprocess):
        changed["preprocess"] = (model.preprocess, written.preprocess)
    return changed


def _prepare_alike(ours: Preprocess, theirs: Preprocess) -> bool:
    """Whether two ways to say a preprocessing give the same tensors; they are tried on pictures of awkward shapes."""
    if ours == theirs:
        return True
    noise = np.random.default_rng(0)
    shapes = [(301, 200, 3), (200, 333, 3), (517, 517, 3), (64, 65, 3)]
    pictures = [noise.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    prepared = [(ours(picture), theirs(picture)) for picture in pictures]
    return all(mine.shape == other.shape and torch.allclose(mine, other, atol=1e-5) for mine, other in prepared)


def _layout_for(model: Model, library: str) -> Layout:
    """The layout of a library that can say this network."""
    if library not in LAYOUTS:
        raise UsageError(f"there is no layout '{library}'; there are {', '.join(LAYOUTS)}")
    candidates = [layout for layout in registry.FAMILIES[model.family].load_layouts() if layout.library == library]
    if not candidates:
        raise CheckpointError(f"{library} publishes no {model.family} networks")
    return next((layout for layout in candidates if layout.can_write(model.config)), candidates[0])


def _write_folder(
    folder: Path, files: Mapping[str, str], weights: Mapping[str, dict[str, Tensor]], header: dict[str, str]
) -> None:
    """Write everything beside its place and move it there at once."""
    with _reported(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(f"{folder} is there already: name a folder that does not exist, or an empty one")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with appearing(folder, CheckpointError) as scratch:
            scratch.mkdir()
            for name in (*files, *weights):
                (scratch / name).parent.mkdir(exist_ok=True)
            for name, content in files.items():
                (scratch / name).write_text(content, encoding="utf-8")
            for name, tensors in weights.items():
                save_file(tensors, scratch / name, metadata=header)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror or error})") from None
    except (SafetensorError, ValueError) as error:  # a full disk while weights are written; a path with a null byte
        raise CheckpointError(f"{path} cannot be written ({error})") from None
