"""What is written of networks that write: other programs read on as PyTorch does, and say the same."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import exporting
from tests.pictures import noise
from tests.smol import smol
from tests.talkers import TEXTS, tiny_talker
from vitrail.data.source import scaling
from vitrail.engines.exported import twin
from vitrail.engines.guard import answer, questions
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import Preprocess, Resize
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.flamingo import Flamingo, FlamingoConfig, ResamplerConfig
from vitrail.models.git import GIT, GITConfig
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.llama import Llama, LlamaConfig
from vitrail.models.vit import ViTConfig
from vitrail.tasks.exports import writing
from vitrail.text.train import train_tokenizer

TOKENIZER = train_tokenizer(TEXTS, 400, 48)
WORDS = TOKENIZER.backend.get_vocab_size()
SMALL = {"width": 24, "heads": 2, "mlp_width": 48}
LETTERS = {"vocabulary": WORDS, "context": 48, "depth": 2, **SMALL}
GIT_SMALL = GITConfig(CLIPImageConfig(16, 8, depth=1, **SMALL), **LETTERS, begin=7, ends=(8, 9), norm_eps=1e-6)
LLAMA_SMALL = LlamaConfig(**{**LETTERS, "depth": 1, "heads": 4}, kv_heads=2, start=7, end=(8,))
FLAMINGO_SMALL = FlamingoConfig(
    ViTConfig(16, 8, depth=1, **SMALL),
    GPT2Config(**{**LETTERS, "depth": 1}, end=8),
    ResamplerConfig(latents=3, depth=1, heads=2, head_width=8, qk_norm=False),
    every=1,
    qk_norm=False,
    new_tokens=1,
    picture=WORDS,
)


def loud(model: LanguageModel) -> LanguageModel:
    """With random weights so large that different pictures and questions get different answers."""
    dice = np.random.default_rng(6)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            gain = weight.ndim == 1 and name.endswith("weight")  # a norm's
            weight.copy_(torch.from_numpy(dice.normal(float(gain), 0.3, weight.shape)))
    model.preprocess, model.tokenizer = scaling((16, 16)), TOKENIZER
    return model.eval()


NETWORKS: dict[str, Callable[[], LanguageModel]] = {
    "vit-gpt": tiny_talker,
    "git": lambda: loud(GIT(GIT_SMALL)),
    "gpt2": lambda: loud(GPT2(GPT2Config(**LETTERS, end=8))),
    "llama": lambda: loud(Llama(LLAMA_SMALL)),
    "flamingo": lambda: loud(Flamingo(FLAMINGO_SMALL)),
}


COMBINED = ["vit-gpt openvino", "git onnx", "gpt2 onnx", "llama openvino", "flamingo onnx"]
"""Every family once; a graph is the same for both runtimes."""


@dataclass
class Written:
    """A network, the folder it was written to, and its graphs as they run there."""

    model: LanguageModel
    engine: str
    folder: Path
    run: dict[str, Callable[..., Any]]


@pytest.fixture(scope="module", params=COMBINED)
def written(request, tmp_path_factory) -> Written:
    family, engine = request.param.split()
    exporting.need(engine)
    folder, model = tmp_path_factory.mktemp("written"), NETWORKS[family]()
    run = exporting.written(model, writing.graphs(model), engine, folder)
    noise(30, 25).save(folder / "picture.jpg", "png")  # whose pixels stay as they are
    return Written(model, engine, folder, run)


def prompt(model: LanguageModel, text: str, seed: int = 0) -> Prompt:
    pictures = [open_picture(noise(30, 25, seed=seed))] if model.most_pictures != 0 else []
    return model.prompt((Turn(text, len(pictures)),), pictures)


def one_each(pixels: Tensor | None) -> list[Tensor]:
    """Pixels as a graph takes them."""
    return [] if pixels is None else [pixels.flatten(0, -4)]


def greedy(run: dict[str, Callable[..., Any]], given: Prompt, count: int) -> list[int]:
    logits, *state = run["prompt"](*one_each(given.pixels), given.ids)
    ids = [int(logits.argmax())]
    while len(ids) < count:
        logits, *state = run["token"](torch.tensor([ids[-1:]]), *state)
        ids.append(int(logits.argmax()))
    return ids


def run_program(written: Written, text: str) -> str:
    """What the program prints that README.md has, with this text in it."""
    for file, content in writing.files(written.model, written.engine, "float32").items():
        (written.folder / file).write_text(content, encoding="utf-8")
    code = exporting.program(written.folder)
    code, changed = re.subn(r'^text = ".*"', f'text = "{text}"', code, flags=re.MULTILINE)
    assert changed == 1
    return exporting.run_program(code, written.folder)


def said(model: LanguageModel, text: str) -> list[int]:
    """What the network says itself, with its end."""
    given = prompt(model, text)
    with torch.inference_mode():
        return model.generate(given.pixels, given.ids, max_new_tokens=64)[0, given.ids.shape[1] :].tolist()


def printed(model: LanguageModel, ids: list[int]) -> str:
    """These ids in a program's output, whose line ends are all the same."""
    text = model.tokenizer.backend.decode(ids).strip() + "\n"
    return text.replace("\r\n", "\n").replace("\r", "\n")


@torch.inference_mode()
def test_logits_token_by_token(written):
    """Of prompts of several lengths, in batches, with what no prompt holds: the logits of a pass over everything."""
    for rows, length in ((1, 1), (1, 6), (3, 2), (2, 5)):
        pixels = None if written.model.most_pictures == 0 else torch.randn(rows, 3, 16, 16)
        ids = torch.randint(1, WORDS, (rows, length + 4))
        if isinstance(written.model, Flamingo):
            ids[:, 0] = written.model.config.picture
        full = written.model(pixels, ids)
        logits, *state = written.run["prompt"](*one_each(pixels), ids[:, :length])
        torch.testing.assert_close(logits, full[:, length - 1], rtol=1e-4, atol=1e-4)
        for place in range(length, length + 4):
            logits, *state = written.run["token"](ids[:, place, None], *state)
            torch.testing.assert_close(logits, full[:, place], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_same_texts(written):
    texts = set()
    for seed, text in enumerate(("", "a frog", "is there a frog and two apples?")):
        given = prompt(written.model, text, seed)
        ids = written.model.generate(given.pixels, given.ids, max_new_tokens=12)[0, given.ids.shape[1] :].tolist()
        assert greedy(written.run, given, len(ids)) == ids
        texts.add(tuple(ids))
    assert len(texts) == 3


def test_the_program_in_the_readme(written, monkeypatch):
    """Of no question it writes to the end of the context; then one of the tokens that it would say is an end."""
    model = written.model
    ids = said(model, "")
    assert len(ids) == model.context - prompt(model, "").ids.shape[1] < 64
    assert run_program(written, "") == printed(model, ids)
    ids = said(model, "a frog and 青蛙")
    place = next(place for place in range(2, len(ids)) if ids[place] not in ids[:place])
    monkeypatch.setattr(type(model), "ends", (ids[place], 0))
    assert said(model, "a frog and 青蛙") == ids[: place + 1]
    assert run_program(written, "a frog and 青蛙") == printed(model, ids[:place])


def test_what_was_written_is_compared(written, monkeypatch):
    pictures = [open_picture(noise(20, 20, seed=seed)) for seed in range(3)]
    found = writing.compared(written.model, written.run, pictures)
    assert (found.kind, found.error, found.agreement) == ("texts", 0, 1)

    def deaf(*given: Tensor) -> Any:  # a graph that always wants the same
        logits, *state = written.run["token"](*given)
        return torch.eye(logits.shape[1])[None, 5], *state

    assert writing.compared(written.model, {**written.run, "token": deaf}, pictures).agreement < 0.5
    (ids,) = answer(written.model, questions(written.model, pictures, 1)[0]).tolist()
    monkeypatch.setattr(type(written.model), "ends", (ids[2],))  # where neither is to go on
    assert writing.compared(written.model, written.run, pictures).agreement == 1


def test_a_network_in_bfloat16_is_compared_in_float32():
    model = NETWORKS["git"]().bfloat16()  # in which it writes other texts
    precise = twin(model).float()
    run = {name: partial(graph.call, precise) for name, graph in writing.graphs(model).items()}
    pictures = [open_picture(noise(20, 20, seed=seed)) for seed in range(3)]
    assert writing.compared(model, run, pictures).agreement == 1


def test_the_files():
    files = writing.files(tiny_talker(), "onnx", "float32")
    assert set(files) == {"README.md", "tokenizer.json", "preprocess.json"}
    assert '"size": [\n  16,\n  16\n ]' in files["preprocess.json"]
    assert '"truncation": null' in files["tokenizer.json"]
    assert '"padding": null' in files["tokenizer.json"]
    assert "Family vit-gpt; licence of the weights: unknown." in files["README.md"]
    files = writing.files(loud(Llama(LLAMA_SMALL)), "openvino", "float32")
    assert set(files) == {"README.md", "tokenizer.json"}
    assert "`pip install openvino numpy tokenizers`" in files["README.md"]


def test_what_cannot_be_exported():
    with pytest.raises(UsageError, match="a smolvlm reads each picture in pieces"):
        writing.graphs(smol())
    with pytest.raises(UsageError, match="this git reads the pictures of a video, and one that is exported reads one"):
        writing.graphs(loud(GIT(replace(GIT_SMALL, frames=3))))
    idefics = loud(Flamingo(replace(FLAMINGO_SMALL, text=LLAMA_SMALL)))
    for ask in (writing.graphs, lambda model: writing.files(model, "onnx", "float32")):
        with pytest.raises(UsageError, match="this flamingo ends its texts with strings"):
            ask(idefics)
    model = tiny_talker()
    model.preprocess = Preprocess(Resize(16, "shortest"))
    with pytest.raises(VitrailError, match="takes pictures of any size"):
        writing.graphs(model)
    with pytest.raises(UsageError, match="int8 is calibrated on pictures alone"):
        writing.files(tiny_talker(), "openvino", "int8")
    model = tiny_talker()
    model.tokenizer = None
    with pytest.raises(UsageError, match="came without a tokenizer"):
        writing.files(model, "onnx", "float32")
