"""Tokenizers from a checkpoint's own files make the reference's ids, of odd texts, too."""

import io
import json
import re
import string
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer
from transformers.utils import sentencepiece_model_pb2_new as protobuf

from tests.text.odd import ODD
from vitrail.checkpoints.reading import TokenizerFiles
from vitrail.checkpoints.tokenizers import read_clip, read_siglip, read_wordpiece, write_files
from vitrail.text.tokenizer import Tokenizer
from vitrail.text.train import train_tokenizer

WITHOUT_SURROGATES = st.text(max_size=80)
KNOWN_LETTERS = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=80)  # to every edition of Unicode
UNHURRIED = settings(deadline=None, max_examples=60)


def reads_alike(tokenizer, reference, text):
    theirs = reference(text, truncation=True, max_length=tokenizer.context)["input_ids"]
    ours = tokenizer(text)[0].tolist()
    assert ours[: len(theirs)] == theirs
    assert set(ours[len(theirs) :]) <= {tokenizer.pad}


# --- CLIP ---


@cache
def open_clip_tokenizer():
    return SimpleTokenizer()


def clip_files(folder, merges):
    """The vocabulary that open_clip carries, which is OpenAI's, or its beginning, in the files of transformers."""
    known = open_clip_tokenizer()
    pairs = sorted(known.bpe_ranks, key=known.bpe_ranks.__getitem__)[:merges]
    tokens = [*list(known.encoder)[: 512 + merges], "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_files(tmp_path_factory.mktemp("clip"), merges=48_894)


@pytest.fixture(scope="module")
def like_open_clip(clip):
    return read_clip(TokenizerFiles(clip), 77, pad=0, fixed=True)


@pytest.fixture(scope="module")
def clip_pair(clip):
    return read_clip(TokenizerFiles(clip), 77), CLIPTokenizer.from_pretrained(clip)


def test_clip_reads_as_transformers_does(clip_pair):
    tokenizer, reference = clip_pair
    assert (tokenizer.context, tokenizer.pad, tokenizer.fixed) == (77, reference.pad_token_id, False)
    for text in [*ODD, "<|endoftext|> a <|startoftext|>", "<|ENDOFTEXT|>"]:
        reads_alike(tokenizer, reference, text)


def test_clip_reads_any_text_as_transformers_does(clip_pair):
    @UNHURRIED
    @given(WITHOUT_SURROGATES)
    def check(text):
        reads_alike(*clip_pair, text)

    check()


def test_clip_fills_up_as_open_clip_does(like_open_clip):
    plain = [
        "",
        "   ",
        "a photo of a cat",
        "A Photo, of THE Cats!",
        "don't 's 'S 'll it's",
        "_under_score_ A.B.C!!!???",
    ]
    plain += ["青蛙在石头上", "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷", "cafe\u0301 naïve", "1234567890", "a " * 5000, "x" * 10_000]
    assert like_open_clip(plain).tolist() == open_clip_tokenizer()(plain).tolist()
    assert len(open_clip_tokenizer().encoder) == like_open_clip.backend.get_vocab_size() == 49_408


def test_clip_reads_plain_text_as_open_clip_does(like_open_clip):
    letters = string.printable.replace("&", "").strip() + " 青蛙"  # open_clip mends "&amp;", "ﬁ", "Ã©", and much else

    @UNHURRIED
    @given(st.text(st.sampled_from(letters), max_size=60))
    def check(text):
        assert like_open_clip(text).tolist() == open_clip_tokenizer()(text).tolist()

    check()


def test_clip_says_what_it_read(clip_pair):
    tokenizer, _ = clip_pair
    assert tokenizer.decode(tokenizer("A photo of a cat, 青蛙!")[0]) == "a photo of a cat , 青蛙 !"


def test_a_tokenizer_json_comes_before_a_vocabulary(tmp_path):
    reference = CLIPTokenizer.from_pretrained(clip_files(tmp_path, merges=500))
    reference.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    tokenizer = read_clip(TokenizerFiles(tmp_path), 77)
    for text in ODD:
        reads_alike(tokenizer, reference, text)
    assert tokenizer.decode(tokenizer("a cat's toy")[0]) == "a cat 's toy"


# --- BERT ---

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(sign for sign in string.printable if not sign.isspace()),
    *(f"##{sign}" for sign in string.ascii_letters + string.digits + "é\u0301"),
    *("photo", "cat", "##ing", "青", "蛙", "在", "猫", "é", "##é", "ο", "##σ", "Cat"),
]


@pytest.fixture(scope="module", params=[{}, {"do_lower_case": False}, {"tokenize_chinese_chars": False}], ids=str)
def bert(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**request.param, "model_max_length": 40}))
    return read_wordpiece(TokenizerFiles(folder), 52), BertTokenizer.from_pretrained(folder)


def test_bert_reads_as_transformers_does(bert):
    tokenizer, reference = bert
    assert (tokenizer.context, tokenizer.pad, tokenizer.fixed) == (40, 0, False)
    for text in [*ODD, "[SEP] a [MASK] [CLS][PAD]"]:
        reads_alike(tokenizer, reference, text)


def test_bert_reads_any_text_as_transformers_does(bert):
    @UNHURRIED
    @given(WITHOUT_SURROGATES)
    def check(text):
        reads_alike(*bert, text)

    check()


# --- SigLIP ---

TEXTS = [
    "a photo of a cat",
    "two dogs and a red apple",
    "the quick brown fox jumps",
    "une photo d'un chat",
    "ο σοφος ος",
]


def canonical(text):
    """big_vision's canonical form, as transformers' SiglipTokenizer has it, of plain Python."""
    plain = text.replace("▁", " ").lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", plain).strip()


@pytest.fixture(scope="module")
def unigram():
    """A vocabulary learned by `tokenizers`, and the same written as a sentencepiece model by protobuf."""
    backend = Backend(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    learn = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS * 20, learn)
    message = protobuf.ModelProto()
    for piece, score in json.loads(backend.to_str())["model"]["vocab"]:
        message.pieces.add(piece=piece, score=score)
    message.trainer_spec.model_type, message.trainer_spec.unk_id = 1, 2
    return message.SerializeToString(), backend


def test_siglip_reads_canonical_text_in_the_pieces_of_its_model(unigram):
    model, backend = unigram
    tokenizer = read_siglip({"spiece.model": model}, 64)
    assert (tokenizer.context, tokenizer.pad, tokenizer.fixed) == (64, 1, True)

    @settings(deadline=None)
    @given(KNOWN_LETTERS | st.text(st.sampled_from("aοΣσς'. BcT\u0301_▁\x1c"), max_size=30) | st.sampled_from(ODD))
    def check(text):
        pieces = backend.encode(canonical(text)).ids[:63]
        assert tokenizer(text)[0].tolist() == pieces + [1] * (64 - len(pieces))

    check()
    assert tokenizer.decode(tokenizer("A photo, of THE cat!")[0]) == "a photo of the cat"


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nmt_nfkc_cf"])
def test_siglip_reads_as_transformers_does(rule, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="transformers' SiglipTokenizer needs it")
    from transformers import SiglipTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        vocab_size=80,
        normalization_rule_name=rule,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    reference = SiglipTokenizer(str(tmp_path / "spiece.model"))
    tokenizer = read_siglip(TokenizerFiles(tmp_path), 64)

    @settings(deadline=None)
    @given(KNOWN_LETTERS | st.sampled_from([text for text in ODD if "\x00" not in text]))
    def check(text):
        reads_alike(tokenizer, reference, text)

    check()


def test_siglip_2_reads_lower_case_where_its_class_says_so(unigram):
    _, backend = unigram
    files = {"tokenizer.json": backend.to_str(), "tokenizer_config.json": '{"pad_token": "<pad>"}'}
    as_it_is = read_siglip(files, 64)
    assert as_it_is.pad == 0
    assert as_it_is("A CAT")[0].tolist() != as_it_is("a cat")[0].tolist()
    files["tokenizer_config.json"] = '{"tokenizer_class": "Siglip2Tokenizer"}'
    lower = read_siglip(files, 64)
    assert lower("A CAT")[0].tolist() == as_it_is("a cat")[0].tolist()


# --- all of them ---


def test_files_that_are_not_there():
    for read in (read_clip, read_wordpiece, read_siglip):
        assert read({}, 77) is None
        assert read({"tokenizer_config.json": "{}"}, 77) is None


@pytest.mark.parametrize(
    ("read", "files"),
    [
        (read_clip, {"vocab.json": "{}", "merges.txt": ""}),
        (read_clip, {"vocab.json": '{"a": 0}'}),
        (read_clip, {"vocab.json": "[]", "merges.txt": ""}),
        (read_clip, {"vocab.json": '{"a": 0}', "merges.txt": "a"}),
        (read_clip, {"tokenizer.json": "{}"}),
        (read_wordpiece, {"vocab.txt": ""}),
        (read_wordpiece, {"vocab.txt": "a\nb\n"}),
        (read_wordpiece, {"vocab.txt": "[CLS]\n[SEP]\n[UNK]\n", "tokenizer_config.json": "[]"}),
        (read_wordpiece, {"vocab.txt": "[CLS]\n[SEP]\n[UNK]\n", "special_tokens_map.json": '{"pad_token": 3}'}),
        (read_siglip, {"spiece.model": "text"}),
        (read_siglip, {"spiece.model": b""}),
        (read_siglip, {"spiece.model": b"\xff\xff"}),
    ],
)
def test_files_that_make_no_sense(read, files):
    with pytest.raises(Exception) as caught:  # whatever it is, `load` makes one sentence of it
        read(files, 77)
    assert str(caught.value)


def trained():
    return train_tokenizer(["a red apple", "一个红苹果", "two green frogs!"] * 20, 300, 24)


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        ("clip", "clip"),
        ("open_clip", "clip"),
        ("bert", "chinese_clip"),
        ("bert", "align"),
        ("siglip", "siglip"),
        *(("trained", model_type) for model_type in ("clip", "chinese_clip", "align", "siglip")),
    ],
)
def test_what_is_written_opens_in_transformers(kind, model_type, unigram, tmp_path):
    beginning = tmp_path / "beginning"
    beginning.mkdir()
    clip = TokenizerFiles(clip_files(beginning, merges=500))
    made = {
        "clip": lambda: read_clip(clip, 77),
        "open_clip": lambda: read_clip(clip, 77, pad=0, fixed=True),
        "bert": lambda: read_wordpiece({"vocab.txt": "\n".join(PIECES)}, 52),
        "siglip": lambda: read_siglip({"spiece.model": unigram[0]}, 64),
        "trained": trained,
    }
    tokenizer: Tokenizer = made[kind]()
    for name, content in write_files(tokenizer).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert reference.model_max_length == tokenizer.context
    assert kind == "open_clip" or reference.pad_token_id == tokenizer.pad
    for text in ODD:
        reads_alike(tokenizer, reference, text)
    read = {"siglip": read_siglip, "bert": read_wordpiece}.get(kind, read_clip)
    again = read(TokenizerFiles(tmp_path), tokenizer.context)
    assert kind == "open_clip" or again.pad == tokenizer.pad
    for text in ODD:
        reads_alike(again, reference, text)
