"""The network whose vectors a folder's index holds: which it is by default, and whether it is still the same."""

import os
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vitrail.checkpoints.box import box_names
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import printable
from vitrail.models.model import Model
from vitrail.tasks import zero_shot
from vitrail.tasks.models import DEFAULT_MODEL, get_model, name_of
from vitrail.tasks.store import Maker, Store

SAME = 0.99
"""Two networks whose vectors of the fixed picture have at least this cosine are one: efficientnet-lite0 in bfloat16 has
0.9996 with itself in float32, and small networks of other random weights had between -0.2 and 0.2."""

_probes: WeakKeyDictionary[Model, np.ndarray] = WeakKeyDictionary()


def default_index_model() -> str:
    """The network that indexes where none is named: one that understands words, if it is in the box."""
    return zero_shot.DEFAULT_MODEL if zero_shot.DEFAULT_MODEL in box_names() else DEFAULT_MODEL


def image_vectors(model: Model, images: Tensor) -> Tensor:
    """Prepared pictures (B, C, H, W) -> (B, D) float32 of length 1, on the CPU."""
    return F.normalize(model.pool(model.features(images)).float(), dim=-1).cpu()


def maker_of(model: Model) -> Maker:
    """How an index remembers a network.

    Raises:
        UsageError: it cannot make a vector of a picture.
    """
    if model not in _probes:
        weights = next(model.parameters())
        with torch.inference_mode():
            images = model.preprocess(_fixed_picture()).to(weights.device, weights.dtype)
            try:
                probe = image_vectors(model, images)
            except (NotImplementedError, RuntimeError, ValueError) as error:
                raise UsageError(f"'{name_of(model)}' makes no vectors of pictures ({error})") from None
        _probes[model] = probe[0].numpy()
    name = model.origin.name if model.origin else ""
    if name not in box_names() and os.path.exists(os.path.expanduser(name)):
        name = os.path.abspath(os.path.expanduser(name))  # or it would mean something else from another folder
    return Maker(name, _probes[model])


def network_for(store: Store, model: str | os.PathLike | Model | None, engine: str, device: str | None) -> Model:
    """The network that an index was made with.

    Args:
        store: the index.
        model: what the user named, or None for whatever the index was made with.
        engine, device: how and where it runs.

    Raises:
        VitrailError: another is named, or what it was made with is not there any more.
    """
    made_with, folder = store.maker.name, printable(str(store.folder))
    if model is None and not made_with:
        raise UsageError(f"{folder} was indexed with a network that was built in Python: give it as `model`")
    network = get_model(model or made_with, engine=engine, device=device)
    maker = maker_of(network)
    if maker.probe.shape != store.maker.probe.shape or maker.probe @ store.maker.probe < SAME:
        if maker.name == made_with:
            what = f"holds vectors of '{made_with}' as it was, and its weights have changed since"
        else:
            what = f"holds vectors of '{made_with or 'a network built in Python'}' and not of '{name_of(network)}'"
        raise VitrailError(
            f"the index of {folder} {what}: to make it anew, "
            f"vitrail index {folder} --model {name_of(network)} --rebuild"
        )
    return network


def folder_of(folder: str | os.PathLike) -> Path:
    """The folder that is meant.

    Raises:
        VitrailError: it is not there, no folder, or not ours to read.
    """
    path = Path(folder).expanduser()
    try:
        os.scandir(path).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise VitrailError(f"the folder {printable(str(path))} cannot be read: {reason}") from None
    return path


def _fixed_picture() -> Image.Image:
    """Waves of many lengths and directions in three colours, 256×256: something of everything for a network to see."""
    y, x = np.mgrid[0:256, 0:256] / 256
    waves = [np.sin(2 * np.pi * (3 + 29 * x * y) * (x + step * y)) for step in (-1, 0.5, 2)]
    return Image.fromarray(np.rint(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8))
