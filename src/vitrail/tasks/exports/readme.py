"""The README of an exported network: a program of a few lines that uses it, with NumPy, Pillow and its runtime."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from vitrail.errors import VitrailError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.model import Model
from vitrail.tasks.models import name_of

RUNTIMES = {"onnx": ("onnxruntime", "ONNX Runtime"), "openvino": ("openvino", "OpenVINO")}
"""The package that runs what was written for an engine, and its name."""


def readme(model: Model, engine: str, packages: Sequence[str], code: Sequence[str], about: Sequence[str] = ()) -> str:
    """What README.md says.

    Args:
        model: the network.
        engine: "onnx" or "openvino".
        packages: what the program needs besides NumPy and the runtime.
        code: its lines.
        about: lines on what was written, in front of it.
    """
    package, runtime = RUNTIMES[engine]
    licence = model.origin.licence if model.origin and model.origin.licence else "unknown"
    return "\n".join(
        [
            f"# {name_of(model)} for {runtime}",
            "",
            f"Written by `vitrail export`. Family {model.family}; licence of the weights: {licence}.",
            "",
            *([*about, ""] if about else []),
            f"`pip install {' '.join([package, 'numpy', *packages])}`, and in this folder:",
            "",
            "```python",
            *code,
            "```",
            "",
        ]
    )


def preparation(preprocess: Preprocess) -> str:
    """What preprocess.json says: the size that comes out, and every step."""
    prepare = asdict(preprocess)
    if preprocess.resize is not None:
        prepare["resize"]["resample"] = preprocess.resize.resample.name.lower()
    return json.dumps({"size": preprocess.output_size, **prepare}, indent=1) + "\n"


def prepared(preprocess: Preprocess) -> list[str]:
    """The program's lines from "picture.jpg" to `images` (1, C, H, W).

    Raises:
        VitrailError: pictures come to different sizes before the network.
    """
    lines = ['picture = ImageOps.exif_transpose(Image.open("picture.jpg"))']
    if preprocess.transparency == "white":
        lines += [
            'picture = picture.convert("RGBA")',
            'picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)',
        ]
    lines.append(f'picture = picture.convert("{preprocess.mode}")')
    if preprocess.middle is not None:
        lines += [
            f"height, width = (int(part * min(picture.size)) for part in {preprocess.middle})",
            "left, top = (picture.width - width) // 2, (picture.height - height) // 2",
            "picture = picture.crop((left, top, left + width, top + height))",
        ]
    lines += _resized(preprocess)
    if preprocess.crop is not None:
        height, width = preprocess.crop.size
        half = "spare // 2"
        if preprocess.crop.rounding == "nearest":
            smaller = preprocess.resize is None or preprocess.resize.rule == "contain"  # a picture, than the crop
            half = "round(spare / 2) if spare > 0 else int(spare / 2)" if smaller else "round(spare / 2)"
        lines += [
            f"spares = picture.width - {width}, picture.height - {height}",
            f"left, top = ({half} for spare in spares)",
            f"picture = picture.crop((left, top, left + {width}, top + {height}))",
        ]
    values = "np.asarray(picture, np.float32)"
    if preprocess.mode == "L":
        values += "[..., None]"
    if preprocess.rescale is not None:
        values += f" * {preprocess.rescale!r}"
    if preprocess.rescale_offset:
        values += " - 1"
    lines.append(f"values = {values}")
    if preprocess.mean is not None and preprocess.std is not None:
        mean, std = _channels(preprocess.mean), _channels(preprocess.std)
        lines.append(f"values = (values - {mean}) / {std}{f' / {std}' if preprocess.std_twice else ''}")
    return [*lines, "images = values.transpose(2, 0, 1)[None].astype(np.float32)"]


def _channels(values: tuple[float, ...]) -> str:
    """A number a channel, or the one that is all channels'."""
    return repr(values[0]) if len(set(values)) == 1 else repr(list(values))


def _resized(preprocess: Preprocess) -> list[str]:
    resize = preprocess.resize
    if resize is None:
        return []
    resample = f"Image.Resampling.{resize.resample.name}"
    if resize.longest is not None:
        raise VitrailError("pictures come to different sizes before this network, and an exported one takes one size")
    if isinstance(resize.size, int):
        return [
            "short = min(picture.size)",
            f"size = [{resize.size} if side == short else int({resize.size} * side / short) for side in picture.size]",
            f"picture = picture.resize(size, {resample})",
        ]
    height, width = resize.size
    if resize.rule == "exact":
        return [f"picture = picture.resize(({width}, {height}), {resample})"]
    extreme = "min" if resize.rule == "cover" else "max"
    return [
        f"ratio = {extreme}(picture.width / {width}, picture.height / {height})",
        f"picture = picture.resize((round(picture.width / ratio), round(picture.height / ratio)), {resample})",
    ]
