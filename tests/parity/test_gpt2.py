"""GPT-2 gives the reference's numbers and texts from the reference's files, and goes back into them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from transformers.generation import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_tensors,
    load_transformers,
    save_transformers,
)
from tests.parity.writing import SEARCHES, assert_writes_alike, choose_end, lively, ragged_prompts
from tests.text.odd import ODD
from vitrail.checkpoints.layout import to_theirs
from vitrail.checkpoints.layouts.gpt2_transformers import GPT2Transformers
from vitrail.errors import CheckpointError
from vitrail.models.gpt2 import GPT2
from vitrail.text.decoding import Decoding

SMALL = {
    "vocab_size": 60,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "bos_token_id": 7,
    "eos_token_id": 7,
}
ODD_CONFIGS: dict[str, dict] = {
    "plain": {},
    "a narrow MLP": {"n_inner": 48},
    "relu": {"activation_function": "relu"},
    "a large epsilon": {"layer_norm_epsilon": 0.1},
}


def reference(**changes) -> GPT2LMHeadModel:
    """A small GPT2LMHeadModel with random weights."""
    return lively(GPT2LMHeadModel(GPT2Config(**{**SMALL, **changes})))


@pytest.mark.parametrize("odd", ODD_CONFIGS)
@torch.no_grad()
def test_logits(odd, tmp_path):
    theirs = reference(**ODD_CONFIGS[odd])
    ours = vitrail.load(str(save_transformers(theirs, tmp_path / "theirs")))
    assert isinstance(ours, GPT2)
    ids = torch.randint(60, (3, 11))
    assert_same(ours(None, ids), theirs(ids).logits)
    vitrail.save(ours, tmp_path / "ours", layout="transformers")
    again = load_transformers(GPT2LMHeadModel, tmp_path / "ours")
    assert_same_tensors(again, theirs)
    assert_same(again(ids).logits, theirs(ids).logits)  # "gelu_new" comes back as "gelu_pytorch_tanh", its fused form


@pytest.mark.parametrize("form", ["published", "sharded", "the hub's"])
@torch.no_grad()
def test_every_form_of_the_files(form, tmp_path):
    """On the hub the names have no "transformer." before them, and the masks lie beside the weights."""
    theirs = reference()
    if form == "the hub's":
        save_transformers(theirs, tmp_path)
        tensors = {
            name.removeprefix("transformer."): tensor
            for name, tensor in load_file(tmp_path / "model.safetensors").items()
        }
        tensors |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
        save_file(tensors, tmp_path / "model.safetensors")
    else:
        save_transformers(theirs, tmp_path, form)
    ids = torch.randint(60, (2, 9))
    assert_same(vitrail.load(str(tmp_path))(None, ids), theirs(ids).logits)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch.manual_seed(0)
    theirs = reference()
    ids, mask = ragged_prompts(60, 0)
    theirs.config.eos_token_id = choose_end(theirs, ids, mask, 20)
    return vitrail.load(str(save_transformers(theirs, tmp_path_factory.mktemp("gpt2")))), theirs


@pytest.mark.parametrize("how", SEARCHES, ids=str)
def test_the_same_texts(pair, how):
    ids, mask = ragged_prompts(60, 0)
    written = assert_writes_alike(*pair, ids, mask, 20, **how)
    if not how:
        ends = [row.index(pair[0].config.end) for row in written.tolist() if pair[0].config.end in row]
        assert len(set(ends)) > 2


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=str)
def test_the_same_texts_of_whole_prompts(pair, how):
    ids = torch.randint(60, (2, 5))
    assert_writes_alike(*pair, ids, torch.ones_like(ids), 12, **how)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 7, 100])
@pytest.mark.parametrize("top_p", [None, 0.05, 0.6, 0.95])
def test_the_same_chances(temperature, top_k, top_p):
    logits, ids = 3 * torch.randn(4, 60), torch.randint(60, (4, 5))
    processors = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k is not None:
        processors.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        processors.append(TopPLogitsWarper(top_p))
    ours = Decoding(temperature=temperature, top_k=top_k, top_p=top_p).drawn_from(logits).softmax(-1)
    torch.testing.assert_close(ours, processors(ids, logits).softmax(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("text", ["The", "a cat. And a dog", "\n"])
def test_the_same_stop_strings(tmp_path, text):
    """What stops a text in transformers stops it here, at the same token."""
    save_tokenizer(tmp_path)
    theirs = reference(vocab_size=280, eos_token_id=279)
    tokenizer = AutoTokenizer.from_pretrained(save_transformers(theirs, tmp_path))
    ours = vitrail.load(str(tmp_path))
    ids = torch.tensor([ours.tokenizer.plain(text)])
    free = ours.generate(None, ids, max_new_tokens=20)[0, ids.shape[1] :].tolist()
    stop = next(
        word for place in range(4, 18) if "\ufffd" not in (word := tokenizer.decode(free[place : place + 2])) and word
    )
    expected = theirs.generate(ids, max_new_tokens=20, do_sample=False, stop_strings=[stop], tokenizer=tokenizer)
    found = ours.generate(None, ids, max_new_tokens=20, stop=[stop])
    assert found.tolist() == expected.tolist()
    assert found.shape[1] < ids.shape[1] + 20


def save_tokenizer(folder: Path) -> None:
    """A byte-level vocabulary with a few merges, in GPT-2's two files."""
    letters = sorted(ByteLevel.alphabet())
    pairs = [("Ġ", "a"), ("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("t", "h"), ("th", "e"), ("ç", "Į"), ("çĮ", "«")]
    tokens = [*letters, *("".join(pair) for pair in pairs)]
    tokens += [f"spare{place}" for place in range(279 - len(tokens))] + ["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")


@pytest.mark.parametrize("form", ["vocabulary", "tokenizer.json"])
def test_the_same_tokens(form, tmp_path):
    (tmp_path / "theirs").mkdir()
    save_tokenizer(tmp_path / "theirs")
    theirs = GPT2Tokenizer.from_pretrained(tmp_path / "theirs")
    save_transformers(reference(vocab_size=280, eos_token_id=279), tmp_path / "theirs")
    if form == "tokenizer.json":
        theirs.save_pretrained(tmp_path / "theirs")
        (tmp_path / "theirs" / "vocab.json").unlink(missing_ok=True)
    ours = vitrail.load(str(tmp_path / "theirs"))
    assert ours.tokenizer.pad == 279
    vitrail.save(ours, tmp_path / "ours", layout="transformers")
    again = AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in [*ODD, "a cat<|endoftext|>the", "猫"]:
        expected = theirs(text)["input_ids"]
        assert ours.tokenizer.plain(text) == again(text)["input_ids"] == expected
        assert ours.tokenizer.backend.decode(expected, skip_special_tokens=False) == theirs.decode(expected)


@pytest.mark.parametrize("name", GPT2Transformers.published)
def test_published_networks_have_the_reference_s_tensors(name):
    config = GPT2Transformers.published[name].config
    layout = GPT2Transformers()
    with torch.device("meta"):
        ours = GPT2(config)
        written = layout.write_config(ours)
        theirs = GPT2LMHeadModel(GPT2Config(**{key: value for key, value in written.items() if key != "architectures"}))
    expected = {key: tensor.shape for key, tensor in theirs.state_dict().items() if key != "lm_head.weight"}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, ours).items()} == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "'scale_attn_by_inverse_layer_idx' True"),
        ({"tie_word_embeddings": False}, "'tie_word_embeddings' False"),
        ({"activation_function": "gelu_fast"}, "activation 'gelu_fast'"),
        ({"eos_token_id": [3, 4]}, "end is"),
    ],
)
def test_what_it_cannot_be_is_said(changes, said, tmp_path):
    save_transformers(reference(), tmp_path)
    (tmp_path / "generation_config.json").unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=said):
        vitrail.load(str(tmp_path))
