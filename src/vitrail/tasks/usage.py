"""The README of an exported network: a program of a few lines that uses it, with NumPy, Pillow and its runtime."""

from vitrail.errors import VitrailError
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.models import name_of

_RUNTIMES = {
    "onnx": ("onnxruntime", 'onnxruntime.InferenceSession("{file}.onnx").run(None, {{"{given}": {values}}})[0]'),
    "openvino": ("openvino", 'openvino.compile_model("{file}.xml", "CPU", settings)({values})[0]'),
}


def usage(model: Model, engine: str, precision: str) -> str:
    """What README.md says of a network that was exported.

    Args:
        model: the network.
        engine: "onnx" or "openvino".
        precision: what it was written in.

    Raises:
        VitrailError: its preprocessing takes more than these lines know.
    """
    package, run = _RUNTIMES[engine]
    packages = [package, "numpy", "pillow", *(["tokenizers"] if isinstance(model, ImageText) else [])]
    code = [
        "import numpy as np",
        f"import {package}",
        "from PIL import Image, ImageOps",
        *(["from tokenizers import Tokenizer"] if isinstance(model, ImageText) else []),
        "",
        *_prepared(model.preprocess),
        "",
    ]
    if engine == "openvino":  # which rounds to bfloat16 where the processor can and nobody says otherwise
        code.append("settings = {}" if precision == "int8" else 'settings = {"INFERENCE_PRECISION_HINT": "f32"}')
    if isinstance(model, ImageText):
        code += [
            f"picture_vectors = {run.format(file='image', given='images', values='images')}",
            'texts = ["a red apple", "a dog"]',
            'tokenizer = Tokenizer.from_file("tokenizer.json")',
            "ids = np.array([text.ids for text in tokenizer.encode_batch(texts)])",
            f"text_vectors = {run.format(file='text', given='ids', values='ids')}",
            "picture_vectors /= np.linalg.norm(picture_vectors, axis=1, keepdims=True)",
            "text_vectors /= np.linalg.norm(text_vectors, axis=1, keepdims=True)",
            f"logits = {model.logit_scale.exp().item()!r} * picture_vectors @ text_vectors.T{_bias(model)}",
        ]
        code += (
            ["scores = np.exp(logits[0] - logits[0].max())", "scores /= scores.sum()"]
            if model.logit_bias is None
            else ["scores = 1 / (1 + np.exp(-logits[0]))"]
        )
        code += ["for text, score in zip(texts, scores):", '    print(f"{score:.4f} {text}")']
    elif model.labels and not _has_no_head(model):
        code += [
            f"logits = {run.format(file='model', given='images', values='images')}[0]",
            "scores = np.exp(logits - logits.max())",
            "scores /= scores.sum()",
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            "for index in scores.argsort()[:-6:-1]:",
            '    print(f"{scores[index]:.4f} {labels[index]}")',
        ]
    else:
        said = "vectors" if _has_no_head(model) else "logits"
        code += [f"{said} = {run.format(file='model', given='images', values='images')}", f"print({said}[0])"]
    licence = model.origin.licence if model.origin and model.origin.licence else "unknown"
    return "\n".join(
        [
            f"# {name_of(model)} for {'ONNX Runtime' if engine == 'onnx' else 'OpenVINO'}",
            "",
            f"Written by `vitrail export`. Family {model.family}; licence of the weights: {licence}.",
            "",
            f"`pip install {' '.join(packages)}`, and in this folder:",
            "",
            "```python",
            *code,
            "```",
            "",
        ]
    )


def _has_no_head(model: Model) -> bool:
    return type(model.head).__name__ == "Identity"


def _bias(model: ImageText) -> str:
    return "" if model.logit_bias is None else f" + {model.logit_bias.item()!r}"


def _prepared(preprocess: Preprocess) -> list[str]:
    """Lines from "picture.jpg" to `images` (1, C, H, W)."""
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
