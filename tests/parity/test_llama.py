"""LLaMA gives the reference's numbers and texts from the reference's files, and goes back into them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import vitrail
from tests.parity.references import (
    TRANSFORMERS_FORMS,
    assert_same,
    assert_same_tensors,
    load_transformers,
    save_transformers,
)
from tests.parity.writing import SEARCHES, assert_writes_alike, choose_end, lively, ragged_prompts
from vitrail.checkpoints.layout import to_theirs
from vitrail.checkpoints.layouts.llama_transformers import LlamaTransformers
from vitrail.errors import CheckpointError
from vitrail.models.llama import Llama

SMALL = {
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ODD_CONFIGS: dict[str, dict] = {
    "plain": {},
    "a key for each head": {"num_key_value_heads": 4},
    "tied": {"tie_word_embeddings": True},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "stretched": {"rope_parameters": STRETCHED},
    "a large epsilon": {"rms_norm_eps": 0.1},
    "several ends": {"eos_token_id": [2, 5]},
}


def reference(**changes) -> LlamaForCausalLM:
    """A small LlamaForCausalLM with random weights."""
    return lively(LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes})))


def rewrite(folder, **changes):
    """Change config.json; what is None is left out."""
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({key: said for key, said in config.items() if said is not None}))


@pytest.mark.parametrize("odd", ODD_CONFIGS)
@torch.no_grad()
def test_logits(odd, tmp_path):
    theirs = reference(**ODD_CONFIGS[odd])
    ours = vitrail.load(str(save_transformers(theirs, tmp_path / "theirs")))
    assert isinstance(ours, Llama)
    ids = torch.randint(60, (3, 40))
    assert_same(ours(None, ids), theirs(ids).logits)
    vitrail.save(ours, tmp_path / "ours", layout="transformers")
    again = load_transformers(LlamaForCausalLM, tmp_path / "ours")
    assert_same_tensors(again, theirs)
    assert torch.equal(again(ids).logits, theirs(ids).logits)
    assert vitrail.load(str(tmp_path / "ours")).config == ours.config


@pytest.mark.parametrize("odd", ["another base", "stretched"])
@torch.no_grad()
def test_the_older_spelling_of_rotary_positions(odd, tmp_path):
    theirs = reference(**ODD_CONFIGS[odd])
    save_transformers(theirs, tmp_path)
    said = dict(ODD_CONFIGS[odd]["rope_parameters"])
    base = said.pop("rope_theta")
    rewrite(tmp_path, rope_parameters=None, rope_theta=base, rope_scaling=said if odd == "stretched" else None)
    ids = torch.randint(60, (3, 40))
    assert_same(vitrail.load(str(tmp_path))(None, ids), theirs(ids).logits)


@pytest.mark.parametrize("form", [*TRANSFORMERS_FORMS, "of old"])
@torch.no_grad()
def test_every_form_of_the_files(form, tmp_path):
    """The oldest files keep the rotary speeds, and a tied head, beside the weights."""
    theirs = reference(tie_word_embeddings=form == "of old", vocab_size=2000)
    save_transformers(theirs, tmp_path, "published" if form == "of old" else form)
    if form == "of old":
        tensors = load_file(tmp_path / "model.safetensors")
        tensors |= {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, tmp_path / "model.safetensors")
    ids = torch.randint(60, (2, 9))
    assert_same(vitrail.load(str(tmp_path))(None, ids), theirs(ids).logits)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    torch.manual_seed(0)
    theirs = reference()
    ids, mask = ragged_prompts(60, 0)
    theirs.config.eos_token_id = [choose_end(theirs, ids, mask, 20), 59]
    return vitrail.load(str(save_transformers(theirs, tmp_path_factory.mktemp("llama")))), theirs


@pytest.mark.parametrize("how", SEARCHES, ids=str)
def test_the_same_texts(pair, how):
    ids, mask = ragged_prompts(60, 0)
    written = assert_writes_alike(*pair, ids, mask, 20, **how)
    if not how:
        end = pair[0].ends[0]
        assert len({row.index(end) for row in written.tolist() if end in row}) > 2


def test_a_file_on_writing_has_the_last_word_on_ends(tmp_path):
    """As published for LLaMA 3: config.json knows the end of a text, and generation_config.json that of a turn."""
    theirs = reference()
    ids, mask = ragged_prompts(60, 0)
    end = choose_end(theirs, ids, mask, 20)
    theirs.generation_config.eos_token_id = [2, end]
    theirs.save_pretrained(tmp_path)
    ours = vitrail.load(str(tmp_path))
    assert ours.ends == (2, end)
    theirs = type(theirs).from_pretrained(tmp_path)
    expected = theirs.generate(input_ids=ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=2)
    assert ours.generate(None, ids, mask=mask, max_new_tokens=20).tolist() == expected.tolist()
    vitrail.save(ours, tmp_path / "again", layout="transformers")
    assert vitrail.load(str(tmp_path / "again")).ends == (2, end)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        vitrail.load(str(tmp_path))


def test_the_same_tokens(tmp_path):
    """A tokenizer.json of LLaMA's kind: a start, marks for spaces, bytes for what is unknown."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "c", "t", "▁a", "▁c", "at"]
    merges = [("▁", "a"), ("▁", "c"), ("a", "t")]
    backend = Backend(
        models.BPE({w: n for n, w in enumerate(words)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens([AddedToken(word, normalized=False) for word in words[:3]])
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    save_transformers(reference(vocab_size=len(words)), tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "theirs")
    ours = vitrail.load(str(tmp_path / "theirs"))
    vitrail.save(ours, tmp_path / "ours", layout="transformers")
    again = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert ours.tokenizer.pad == 2
    for text in ("", "a cat", " a  cat\n", "猫 at", "</s>a", "x" * 100):
        expected = theirs(text, truncation=True, max_length=64)["input_ids"]
        assert ours.tokenizer(text)[0].tolist() == expected
        assert again(text)["input_ids"][:64] == expected
        assert ours.tokenizer.plain(text) == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", LlamaTransformers.published)
def test_published_networks_have_the_reference_s_tensors(name):
    config, layout = LlamaTransformers.published[name].config, LlamaTransformers()
    with torch.device("meta"):
        ours = Llama(config)
        written = {key: said for key, said in layout.write_config(ours).items() if key != "architectures"}
        theirs = LlamaForCausalLM(LlamaConfig(**written))
    expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    if config.tied:
        del expected["lm_head.weight"]
    assert {key: tensor.shape for key, tensor in to_theirs(layout, ours).items()} == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention_bias": True}, "'attention_bias' True"),
        ({"hidden_act": "gelu"}, "'hidden_act' gelu"),
        ({"head_dim": 16}, "4 heads of width 16 do not make up LLaMA's width of 32"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10.0, "factor": 2.0}}, "in a way, 'yarn'"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "in a way, 'linear'"),
        ({"eos_token_id": "</s>"}, "end is"),
        ({"num_key_value_heads": 3}, "cannot be shared"),
    ],
)
def test_what_it_cannot_be_is_said(changes, said, tmp_path):
    save_transformers(reference(), tmp_path)
    (tmp_path / "generation_config.json").unlink()
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=said):
        vitrail.load(str(tmp_path))
