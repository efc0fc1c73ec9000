"""Networks that write, for other programs: one graph reads the prompt, the other a token at a time.

What was read is handed from call to call, as a `vitrail.nn.cache.Cache` holds it: "keys" and "values"
(B, layers, heads, length, d), and whatever the family remembers besides. The second graph takes them as "past_keys"
and so on, in the order in which both give them, and gives them with the new token.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer as Backend
from torch import Tensor

from vitrail.engines.exported import Graph, twin
from vitrail.engines.guard import NEW_TOKENS, Comparison, answer, compare, questions
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import open_picture
from vitrail.models.language_model import LanguageModel, Turn
from vitrail.models.smolvlm import SmolVLM
from vitrail.nn.cache import Cache
from vitrail.tasks.exports.readme import RUNTIMES, preparation, prepared, readme
from vitrail.tasks.models import name_of
from vitrail.text.decoding import Decoding

_PROBE = "what is this?"
"""A question that shows what a family puts around one."""

_CALLS = {  # how a network is opened, how "prompt" is run, how "token" is
    "onnx": (
        'onnxruntime.InferenceSession(f"{name}.onnx")',
        "prompt.run(None, {given})",
        "token.run(None, dict(zip(names, [{ids}, *state])))",
    ),
    "openvino": (
        'openvino.compile_model(f"{name}.xml", "CPU", settings)',
        "prompt({given}).values()",
        "token([{ids}, *state]).values()",
    ),
}


def graphs(model: LanguageModel) -> dict[str, Graph]:
    """What is written, by the names of the files.

    Args:
        model: the network, in eval mode.

    Returns:
        "prompt": "images" (B, C, H, W) float32, where it sees, and "ids" (B, N) int64, without filling, -> "logits"
        (B, V) of the token that comes next, "keys" and "values" (B, layers, heads, length, d), and what the family
        remembers besides, rows first. "token": the next "ids" (B, 1) int64 and all but the logits as "past_…" -> the
        same, one token longer.

    Raises:
        UsageError: this form cannot hold the network.
        VitrailError: pictures come to different sizes before it.
    """
    _check(model)
    images, ids = _images(model), torch.arange(3).repeat(2, 1)  # of which no more than one shows a picture
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        cache = model.start(None if images is None else images.to(dtype), len(ids))
        prefix = cache.prefix
        model.read(ids, cache)
        state = {name: held.float() if held.is_floating_point() else held for name, held in _state(cache).items()}

    def prompt(model: LanguageModel, *given: Tensor) -> tuple[Tensor, ...]:
        *pixels, ids = given
        return _read(model, ids, model.start(pixels[0] if pixels else None, ids.shape[0]))

    def token(model: LanguageModel, ids: Tensor, keys: Tensor, values: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        cache = Cache.of(keys, values, prefix)
        cache.memory = dict(zip(list(state)[2:], memory, strict=True))
        return _read(model, ids, cache)

    given = {"ids": ids} if images is None else {"images": images, "ids": ids}
    past = {f"past_{_spelled(name)}": held for name, held in state.items()}
    said = ("logits", *map(_spelled, state))
    read = {"past_keys": {0: "batch", 3: "past"}, "past_values": {0: "batch", 3: "past"}}
    return {
        "prompt": Graph(prompt, given, said, {"ids": {0: "batch", 1: "length"}}, {"length": model.context}),
        "token": Graph(token, {"ids": ids[:, :1], **past}, said, read, {"past": prefix + model.context - 1}),
    }


def files(model: LanguageModel, engine: str, precision: str) -> dict[str, str]:
    """The files beside the networks, by name: how pictures are prepared, where it sees; the tokenizer; how it is used.

    The tokenizer neither cuts a text nor fills it up: a prompt is its text as it stands.

    Args:
        model: the network.
        engine: "onnx" or "openvino".
        precision: what it was written in.

    Raises:
        UsageError: it has no tokenizer, this form cannot hold it, or the precision is int8, whose ranges are taken from
            what a network is shown.
        VitrailError: its preprocessing takes more than a few lines.
    """
    _check(model)
    if precision == "int8":
        raise UsageError(f"int8 is calibrated on pictures alone, and '{name_of(model)}' reads ids: write it in float16")
    described = {"tokenizer.json": _backend(model).to_str(pretty=True), "README.md": _usage(model, engine)}
    if _sees(model):
        described["preprocess.json"] = preparation(model.preprocess)
    return described


def compared(model: LanguageModel, run: Mapping[str, Callable[..., Any]], pictures: Sequence[Any]) -> Comparison:
    """What was written beside PyTorch in float32: the likeliest texts about these pictures, token for token.

    Args:
        model: the network.
        run: the graphs as they were written, by name: tensors in, and out.
        pictures: what is written about; for a network that sees none there is one text, whatever they are.

    Raises:
        UsageError: there are no pictures.
    """
    precise = twin(model).float()
    asked = questions(model, pictures if _sees(model) else pictures[:1], 1)
    return compare("texts", [answer(precise, one) for one in asked], [_written(model, run, *one) for one in asked])


def _check(model: LanguageModel) -> None:
    """UsageError for what the two graphs, or the program beside them, cannot hold."""
    if isinstance(model, SmolVLM):
        raise UsageError("a smolvlm reads each picture in pieces, as many as it is large, and a graph takes one size")
    if model.most_pictures is not None and model.most_pictures > 1:
        raise UsageError(f"this {model.family} reads the pictures of a video, and one that is exported reads one")
    if model.stop:  # and a question is wrapped in text, too
        raise UsageError(
            f"this {model.family} ends its texts with strings, which one that is exported does not look for"
        )


def _sees(model: LanguageModel) -> bool:
    return model.most_pictures != 0


def _images(model: LanguageModel) -> Tensor | None:
    """Two pictures for the network; None where it sees none."""
    if not _sees(model):
        return None
    size = model.preprocess.output_size
    if size is None:
        raise VitrailError(f"'{name_of(model)}' takes pictures of any size, and an exported network takes one size")
    return torch.zeros(2, model.preprocess.channels, *size)


def _read(model: LanguageModel, ids: Tensor, cache: Cache) -> tuple[Tensor, ...]:
    """What a graph gives: logits (B, V) of what comes next, and what the cache then holds."""
    tokens = model.read(ids, cache)[:, -1:]
    return model.head(tokens)[:, 0], *_state(cache).values()


def _state(cache: Cache) -> dict[str, Tensor]:
    """All that a cache holds, rows first."""
    keys, values = cache.stacked()
    return {"keys": keys, "values": values, **cache.memory}


def _spelled(name: str) -> str:
    return name.replace(" ", "_")


@torch.inference_mode()
def _written(model: LanguageModel, run: Mapping[str, Callable[..., Any]], pixels: Tensor | None, ids: Tensor) -> Tensor:
    """What graphs write behind a prompt (1, N), (1, n) int64: with its end, or `NEW_TOKENS` long."""
    given = [] if pixels is None else [pixels.flatten(0, -4)]  # one of several pictures is one picture
    logits, *state = run["prompt"](*given, ids)
    written: list[int] = []
    for _ in range(min(NEW_TOKENS, model.context - ids.shape[1])):
        written.append(int(logits[0].argmax()))
        if written[-1] in model.ends:
            break
        logits, *state = run["token"](torch.tensor([written[-1:]]), *state)
    return torch.tensor([written])


def _backend(model: LanguageModel) -> Backend:
    """The tokenizer, which takes texts of any length as they are.

    Raises:
        UsageError: there is none.
    """
    if model.tokenizer is None:
        raise UsageError(f"'{name_of(model)}' came without a tokenizer, so it could neither read nor write a text")
    backend = Backend.from_str(model.tokenizer.backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def _prompt(model: LanguageModel, text: str) -> list[int]:
    """The ids of a prompt with this text; of "" those that ask for a caption."""
    pictures = [open_picture(Image.new("RGB", (224, 224), "grey"))] if _sees(model) else []
    return model.prompt((Turn(text, len(pictures)),), pictures).ids[0].tolist()


def _around(model: LanguageModel) -> tuple[list[int], list[int]]:
    """The ids in front of a question and those behind it."""
    assert model.tokenizer is not None  # _backend saw to it
    ids, words = _prompt(model, _PROBE), model.tokenizer.plain(_PROBE)
    place = next(place for place in range(len(ids)) if ids[place : place + len(words)] == words)
    return ids[:place], ids[place + len(words) :]


def _usage(model: LanguageModel, engine: str) -> str:
    """README.md, with a program that writes as `vitrail caption` does."""
    opened, first, further = _CALLS[engine]
    sees, (before, behind) = _sees(model), _around(model)
    asked = [*map(str, before), "*tokenizer.encode(text, add_special_tokens=False).ids", *map(str, behind)]
    given = ['"images": images', '"ids": np.array([ids], np.int64)'][0 if sees else 1 :]
    ids = "np.array([[chosen]], np.int64)"
    code = [
        "import numpy as np",
        f"import {RUNTIMES[engine][0]}",
        *(["from PIL import Image, ImageOps"] if sees else []),
        "from tokenizers import Tokenizer",
        "",
        *([*prepared(model.preprocess), ""] if sees else []),
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        'text = ""  # a question, or nothing for a caption' if sees else 'text = "Once upon a time"  # to go on with',
        f"ids = {_prompt(model, '')}",
        "if text:",
        f"    ids = [{', '.join(asked)}]",
        "",
        *(['settings = {"INFERENCE_PRECISION_HINT": "f32"}'] if engine == "openvino" else []),  # or it may round
        f'prompt, token = ({opened} for name in ("prompt", "token"))',
        *(["names = [given.name for given in token.get_inputs()]"] if engine == "onnx" else []),
        f"logits, *state = {first.format(given='{' + ', '.join(given) + '}')}",
        f"room = min({Decoding().max_new_tokens}, {model.context} - len(ids))",
        "written = []",
        f"while len(written) < room and (chosen := int(logits[0].argmax())) not in {list(model.ends)}:",
        "    written.append(chosen)",
        f"    logits, *state = {further.format(ids=ids)}",
        "print(tokenizer.decode(written).strip())",
    ]
    about = [
        "`prompt` reads what is asked, and `token` what is written, a token at a time. Both give the logits of the",
        "next token, and what `token` takes as all that was read before.",
    ]
    return readme(model, engine, [*(["pillow"] if sees else []), "tokenizers"], code, about)
