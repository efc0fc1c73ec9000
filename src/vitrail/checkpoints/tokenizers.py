"""A tokenizer from the files that lie beside a checkpoint's weights, and back.

A tokenizer.json is taken as it is. Checkpoints from before there was one have a vocabulary, each family its own kind;
from it is built what transformers' tokenizer of that family does.
"""

import json
import re
import string
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, Unigram, WordPiece

from vitrail.checkpoints.sentencepiece import read_sentencepiece
from vitrail.errors import CheckpointError
from vitrail.text.tokenizer import Tokenizer, parse_backend

Files = Mapping[str, str | bytes]
"""Name -> content: text, or the bytes of "spiece.model"."""

_CLIP_START, _CLIP_END = "<|startoftext|>", "<|endoftext|>"
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_SPACES = r"[\s\x1c-\x1f]+"  # what Python's \s matches
_LAST_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\KΣ(?!\p{Case_Ignorable}*\p{Cased})"  # `Lowercase` looks at one letter only
_ROLES = {
    "bos_token": (_CLIP_START, "<s>", "<start>"),
    "eos_token": (_CLIP_END, "</s>", "<end>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]",),
}
"""transformers' names for what special tokens are for, and the tokens that are for it."""


def read_clip(files: Files, context: int, *, pad: int | None = None, fixed: bool = False) -> Tokenizer | None:
    """CLIP's: lower case, byte pairs with "</w>" at the end of a word (Radford et al. 2021, 2103.00020, §2.4).

    As transformers' CLIPTokenizer, which takes what the checkpoint fills up with for a special token in texts, too: "!"
    in Stable Diffusion 2.1. open_clip's own does not, and differs in what it repairs before: it runs ftfy (bent
    quotation marks become straight, wide letters narrow, wrongly decoded ones right) and resolves HTML's "&amp;".

    Args:
        files: tokenizer.json, or vocab.json and merges.txt.
        context: the most tokens the network takes.
        pad: what fills up; the checkpoint's own padding token unless said (open_clip fills up with 0).
        fixed: whether every text is filled up to `context`; a network that reads from left to right needs that not.

    Returns:
        None where none of these files is there.

    Raises:
        Exception: they make no sense; `tokenizers` raises nothing narrower.
    """
    settings = _settings(files)
    if "tokenizer.json" in files:
        backend = parse_backend(_text(files, "tokenizer.json"))
    elif "vocab.json" in files:
        backend = _clip(json.loads(_text(files, "vocab.json")), _merges(_text(files, "merges.txt")))
    else:
        return None
    if isinstance(backend.model, BPE) and backend.model.end_of_word_suffix == "</w>":  # published ones forget it
        backend.decoder = decoders.Sequence(
            [decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)]
        )
    if pad is None:
        pad = _pad(backend, settings, _CLIP_END)
        backend.add_special_tokens([backend.id_to_token(pad)])
    return _tokenizer(backend, settings, context, pad, fixed)


def read_wordpiece(files: Files, context: int, *, fixed: bool = False) -> Tokenizer | None:
    """BERT's: words cut into the longest pieces there are, each Chinese character a word (Devlin et al. 2018, §3).

    As transformers' BertTokenizer, whose settings are read: `do_lower_case`, `strip_accents`, `tokenize_chinese_chars`.

    Args:
        files: tokenizer.json, or vocab.txt.
        context: the most tokens the network takes.
        fixed: whether every text is filled up to `context`; a network that masks what fills up needs that not.

    Returns:
        None where none of these files is there.

    Raises:
        Exception: they make no sense; `tokenizers` raises nothing narrower.
    """
    settings = _settings(files)
    if "tokenizer.json" in files:
        backend = parse_backend(_text(files, "tokenizer.json"))
    elif "vocab.txt" in files:
        lines = _text(files, "vocab.txt").rstrip("\n").split("\n")
        backend = _bert({token: index for index, token in enumerate(lines)}, settings)
    else:
        return None
    return _tokenizer(backend, settings, context, _pad(backend, settings, "[PAD]"), fixed)


def read_siglip(files: Files, context: int) -> Tokenizer | None:
    """SigLIP's: lower case, no punctuation, then sentencepiece; filled up to `context`, as it was trained.

    As transformers' SiglipTokenizer. SigLIP 2 has Gemma's tokenizer in a tokenizer.json, below which Siglip2Tokenizer,
    where the settings name it, puts lower case.

    Args:
        files: tokenizer.json, or spiece.model.
        context: the most tokens the network takes.

    Returns:
        None where none of these files is there.

    Raises:
        Exception: they make no sense; `tokenizers` raises nothing narrower.
    """
    settings = _settings(files)
    if "tokenizer.json" in files:
        backend = parse_backend(_text(files, "tokenizer.json"))
        if settings.get("tokenizer_class") == "Siglip2Tokenizer":
            below = [backend.normalizer] if backend.normalizer is not None else []
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *below])
        pad = _pad(backend, settings, "<pad>")
    elif "spiece.model" in files:
        model = files["spiece.model"]
        if not isinstance(model, bytes):
            raise TypeError("its spiece.model is text")
        backend = _siglip(model)
        pad = _pad(backend, settings, "</s>")
    else:
        return None
    return _tokenizer(backend, settings, context, pad, fixed=True)


def read_byte_pairs(files: Files, context: int, end: int) -> Tokenizer | None:
    """A language model's: byte pairs of any text (Radford et al. 2019, §2.2), or what a tokenizer.json says.

    As transformers' GPT2Tokenizer, where there is no tokenizer.json.

    Args:
        files: tokenizer.json, or vocab.json and merges.txt.
        context: the most tokens the network takes.
        end: the token that ends a text; it fills up, too, where the checkpoint names no other that does.

    Returns:
        None where none of these files is there.

    Raises:
        Exception: they make no sense; `tokenizers` raises nothing narrower.
    """
    settings = _settings(files)
    if "tokenizer.json" in files:
        backend = parse_backend(_text(files, "tokenizer.json"))
    elif "vocab.json" in files:
        backend = _gpt2(json.loads(_text(files, "vocab.json")), _merges(_text(files, "merges.txt")), end)
    else:
        return None
    pad = end if settings.get("pad_token") is None else _pad(backend, settings, "")
    return _tokenizer(backend, settings, context, pad, fixed=False)


def write_files(tokenizer: Tokenizer) -> dict[str, str]:
    """The files from which transformers' AutoTokenizer makes the same ids: name -> content.

    The class they name is the one that takes a tokenizer.json as it is; others build their family's pipeline anew,
    which a tokenizer trained here may not have.
    """
    backend = deepcopy(tokenizer.backend)
    backend.no_truncation()
    backend.no_padding()
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    roles = {role: token for role, tokens in _ROLES.items() for token in tokens if token in special}
    filler = backend.id_to_token(tokenizer.pad)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.context,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        # transformers would take an ordinary token, as "!" is, out of all texts, were it named here
        "pad_token": filler if filler in special else roles.get("eos_token", filler),
        **roles,
    }
    return {
        "tokenizer.json": backend.to_str(),
        "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
    }


def write_clip(tokenizer: Tokenizer) -> dict[str, str]:
    """vocab.json and merges.txt, from which transformers' CLIPTokenizer makes the same ids: name -> content.

    What it names for filling up it takes out of texts, too: a "!" in a text is another token there, where "!" fills up.

    Raises:
        CheckpointError: the tokenizer is not of CLIP's kind.
    """
    backend = tokenizer.backend
    tokens = {role: backend.id_to_token(number) for role, number in _clip_ends(tokenizer).items()}
    if not isinstance(backend.model, BPE) or backend.model.end_of_word_suffix != "</w>" or len(tokens) < 2:
        raise CheckpointError("transformers' CLIPTokenizer has no words for this tokenizer, which is not CLIP's")
    said = json.loads(backend.to_str())["model"]
    pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in said["merges"])
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context,
        "do_lower_case": True,
        **tokens,
        "unk_token": tokens["eos_token"],
        "pad_token": backend.id_to_token(tokenizer.pad),
    }
    return {
        "vocab.json": json.dumps(said["vocab"], ensure_ascii=False) + "\n",
        "merges.txt": "\n".join(("#version: 0.2", *pairs)) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
    }


def _clip_ends(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokens that stand around every text."""
    around = tokenizer.backend.encode("").ids[:2]
    return dict(zip(("bos_token", "eos_token"), around, strict=False))


def _clip(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    """As transformers' CLIPTokenizer builds it."""
    backend = Backend(
        BPE(
            vocabulary,
            merges,
            unk_token=_CLIP_END,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    start, end = ((token, vocabulary[token]) for token in (_CLIP_START, _CLIP_END))
    backend.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    backend.add_special_tokens([_CLIP_START, _CLIP_END])
    return backend


def _gpt2(vocabulary: dict[str, int], merges: list[tuple[str, str]], end: int) -> Backend:
    """As transformers' GPT2Tokenizer builds it."""
    backend = Backend(BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.add_special_tokens([name for name, number in vocabulary.items() if number == end])
    return backend


def _bert(vocabulary: dict[str, int], settings: Mapping[str, Any]) -> Backend:
    """As transformers' BertTokenizer builds it."""
    roles = ("unk", "sep", "pad", "cls", "mask")
    names = {role: _name(settings, f"{role}_token", f"[{role.upper()}]") for role in roles}
    backend = Backend(WordPiece(vocabulary, unk_token=names["unk"]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{names['cls']} $A {names['sep']}",
        special_tokens=[(names[role], vocabulary[names[role]]) for role in ("cls", "sep")],
    )
    backend.add_special_tokens(list(names.values()))
    return backend


def _siglip(model: bytes) -> Backend:
    """As transformers' SiglipTokenizer does it: big_vision's canonical form of a text, then sentencepiece."""
    said = read_sentencepiece(model)
    backend = Backend(Unigram(said.pieces, unk_id=said.unknown, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("▁", " "),
            normalizers.Replace(Regex(_LAST_SIGMA), "ς"),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
            normalizers.Replace(Regex(_SPACES), " "),
            normalizers.Strip(),
            *([normalizers.Precompiled(said.characters)] if said.characters else []),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    end = backend.token_to_id("</s>")
    if end is None:
        raise KeyError("</s>")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    unknown = said.pieces[said.unknown][0]
    backend.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True) for token in ("</s>", unknown)])
    return backend


def _tokenizer(backend: Backend, settings: Mapping[str, Any], context: int, pad: int, fixed: bool) -> Tokenizer:
    return Tokenizer(backend, int(min(context, settings.get("model_max_length", context))), pad, fixed)


def _settings(files: Files) -> dict[str, Any]:
    """What tokenizer_config.json and special_tokens_map.json say, the latter above the former.

    Where the former lists the tokens that were added, it alone counts. So transformers reads them; that Stable
    Diffusion 2 fills up with "!" stands in the latter.
    """
    settings: dict[str, Any] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        said = json.loads(_text(files, name)) if name in files else {}
        if not isinstance(said, dict):
            raise TypeError(f"its {name} holds no JSON object")
        settings = settings if "added_tokens_decoder" in settings else settings | said
    return settings


def _name(settings: Mapping[str, Any], role: str, usual: str) -> str:
    """The token for a role, "pad_token": its text, or an object with its text as "content"."""
    said = settings.get(role)
    return usual if said is None else said["content"] if isinstance(said, dict) else said


def _pad(backend: Backend, settings: Mapping[str, Any], usual: str) -> int:
    name = _name(settings, "pad_token", usual)
    number = backend.token_to_id(name)
    if number is None:
        raise ValueError(f"it fills up with '{name}', which is none of its tokens")
    return number


def _merges(text: str) -> list[tuple[str, str]]:
    """merges.txt: which pairs become one token, in order, one a line; the first line may be a comment."""
    lines = text.split("\n")
    pairs = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
    return [(first, second) for first, second in pairs]


def _text(files: Files, name: str) -> str:
    content = files[name]
    if not isinstance(content, str):
        raise TypeError(f"its {name} is no text")
    return content
