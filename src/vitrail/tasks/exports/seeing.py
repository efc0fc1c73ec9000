"""Networks that see, for other programs: logits or vectors of pictures, and of texts where there is a second tower."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vitrail.engines.exported import Graph
from vitrail.engines.guard import Comparison, answer, compare, kind_of, questions
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import Picture
from vitrail.imaging.preprocess import Preprocess
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.exports.readme import RUNTIMES, preparation, prepared, readme
from vitrail.tasks.models import name_of

_RUN = {
    "onnx": 'onnxruntime.InferenceSession("{file}.onnx").run(None, {{"{given}": {given}}})[0]',
    "openvino": 'openvino.compile_model("{file}.xml", "CPU", settings)({given})[0]',
}


def graphs(model: Model) -> dict[str, Graph]:
    """What is written, by the names of the files.

    "model": "images" (B, C, H, W) float32 -> "logits" (B, classes) or "vectors" (B, D), for any B. Of two towers
    "image" and "text", the latter from "ids" (B, N) int64 to "vectors".

    Raises:
        UsageError: the network neither names nor embeds pictures, or reads texts and came without its tokenizer.
        VitrailError: it takes pictures of any size.
    """
    if not model.entries:
        raise UsageError(f"exported are networks that see, write or make pictures, and {model.family} is none")
    size = model.preprocess.output_size
    if not isinstance(model.preprocess, Preprocess) or size is None:
        raise VitrailError(f"'{name_of(model)}' takes pictures of any size, and an exported network takes one size")
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


def files(model: Model, engine: str, precision: str) -> dict[str, str]:
    """The files beside the network, by name: how pictures are prepared, labels, the tokenizer, the program.

    Args:
        model: the network.
        engine: "onnx" or "openvino".
        precision: what it was written in.

    Raises:
        VitrailError: its preprocessing takes more than a few lines.
    """
    described = {"preprocess.json": preparation(model.preprocess)}
    if kind_of(model) == "classes" and model.labels:
        described["labels.txt"] = "".join(" ".join(label.split()) + "\n" for label in model.labels)
    if isinstance(model, ImageText):
        assert model.tokenizer is not None  # `graphs` saw to it
        described["tokenizer.json"] = model.tokenizer.backend.to_str(pretty=True)
    packages = ["pillow", *(["tokenizers"] if isinstance(model, ImageText) else [])]
    return {**described, "README.md": readme(model, engine, packages, _program(model, engine, precision))}


def compared(model: Model, run: Mapping[str, Callable[..., Any]], pictures: Sequence[Picture]) -> Comparison:
    """What was written beside PyTorch, on pictures.

    Args:
        model: the network.
        run: the graphs as they were written, by name: tensors in, and out. The first sees pictures.
        pictures: what they see.

    Raises:
        UsageError: there are no pictures.
    """
    asked, written = questions(model, pictures, 1), next(iter(run.values()))
    return compare(kind_of(model), [answer(model, images) for images in asked], [written(images) for images in asked])


def _program(model: Model, engine: str, precision: str) -> list[str]:
    """The lines from "picture.jpg" to what is printed."""
    run = _RUN[engine]
    code = [
        "import numpy as np",
        f"import {RUNTIMES[engine][0]}",
        "from PIL import Image, ImageOps",
        *(["from tokenizers import Tokenizer"] if isinstance(model, ImageText) else []),
        "",
        *prepared(model.preprocess),
        "",
    ]
    if engine == "openvino":  # which rounds to bfloat16 where the processor can and nobody says otherwise
        code.append("settings = {}" if precision == "int8" else 'settings = {"INFERENCE_PRECISION_HINT": "f32"}')
    if isinstance(model, ImageText):
        code += [
            f"picture_vectors = {run.format(file='image', given='images')}",
            'texts = ["a red apple", "a dog"]',
            'tokenizer = Tokenizer.from_file("tokenizer.json")',
            "ids = np.array([text.ids for text in tokenizer.encode_batch(texts)])",
            f"text_vectors = {run.format(file='text', given='ids')}",
            "picture_vectors /= np.linalg.norm(picture_vectors, axis=1, keepdims=True)",
            "text_vectors /= np.linalg.norm(text_vectors, axis=1, keepdims=True)",
            f"logits = {model.logit_scale.exp().item()!r} * picture_vectors @ text_vectors.T{_bias(model)}",
        ]
        code += (
            ["scores = np.exp(logits[0] - logits[0].max())", "scores /= scores.sum()"]
            if model.logit_bias is None
            else ["scores = 1 / (1 + np.exp(-logits[0]))"]
        )
        return [*code, "for text, score in zip(texts, scores):", '    print(f"{score:.4f} {text}")']
    if isinstance(model.head, nn.Identity):
        return [*code, f"vectors = {run.format(file='model', given='images')}", "print(vectors[0])"]
    if not model.labels:
        return [*code, f"logits = {run.format(file='model', given='images')}", "print(logits[0])"]
    return [
        *code,
        f"logits = {run.format(file='model', given='images')}[0]",
        "scores = np.exp(logits - logits.max())",
        "scores /= scores.sum()",
        'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
        "for index in scores.argsort()[:-6:-1]:",
        '    print(f"{scores[index]:.4f} {labels[index]}")',
    ]


def _bias(model: ImageText) -> str:
    return "" if model.logit_bias is None else f" + {model.logit_bias.item()!r}"
