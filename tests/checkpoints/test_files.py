"""Broken and hostile checkpoint files: one sentence each that names the file, and none of their code is run."""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from transformers import ViTConfig, ViTForImageClassification

import vitrail
from vitrail.checkpoints.files import _open_folder, open_checkpoint
from vitrail.errors import CheckpointError

STATE = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.ones(4)}
SAFE = save(STATE, {"format": "pt"})
IN_PLACE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def pickled(legacy=False):
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


PICKLED, LEGACY = pickled(), pickled(legacy=True)


def read(path):
    """Everything in a file, or CheckpointError."""
    checkpoint = open_checkpoint(str(path), "vit_tiny_patch16_224")
    return {name: checkpoint.tensors[name].clone() for name in checkpoint.tensors}


@pytest.mark.parametrize(
    ("name", "content"), [("a.safetensors", SAFE), ("a.pth", PICKLED), ("a.bin", PICKLED), ("a.pt", LEGACY)]
)
def test_whole_files_are_read(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    tensors = read(tmp_path / name)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[key], STATE[key]) for key in STATE)


@IN_PLACE
@given(st.integers(0, len(SAFE) - 1))
def test_safetensors_cut_anywhere(tmp_path, length):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(SAFE[:length])
    with pytest.raises(CheckpointError, match=r"cut.safetensors is not a whole safetensors file"):
        read(path)


@IN_PLACE
@given(st.integers(0, struct.unpack("<Q", SAFE[:8])[0] + 7), st.integers(0, 255))
def test_safetensors_with_one_byte_of_the_header_changed(tmp_path, position, byte):
    path = tmp_path / "changed.safetensors"
    path.write_bytes(SAFE[:position] + bytes([byte]) + SAFE[position + 1 :])
    try:
        tensors = read(path)
    except CheckpointError as error:
        assert "changed.safetensors" in str(error)  # noqa: PT017 - it may also be read
    else:  # a name may have changed, or a dtype of the same size
        assert len(tensors) == len(STATE)


@pytest.mark.parametrize("content", [PICKLED, LEGACY], ids=["zip", "legacy"])
def test_state_dicts_cut_anywhere(content, tmp_path):
    path = tmp_path / "cut.pth"

    @IN_PLACE
    @given(st.integers(0, len(content) - 1))
    def check(length):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"cut.pth is not a "):
            read(path)

    check()


@pytest.mark.parametrize("content", [PICKLED, LEGACY], ids=["zip", "legacy"])
def test_state_dicts_with_bytes_changed(content, tmp_path):
    path = tmp_path / "changed.pth"

    @IN_PLACE
    @given(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=4))
    def check(position, replacement):
        path.write_bytes(content[:position] + replacement + content[position + len(replacement) :])
        try:
            tensors = read(path)
        except CheckpointError as error:
            assert "changed.pth" in str(error)  # noqa: PT017 - it may also be read
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())

    check()


@IN_PLACE
@given(st.sampled_from(["noise.safetensors", "noise.pth"]), st.binary(max_size=200))
def test_noise(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        read(tmp_path / name)


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare pickle", "in a folder", "in a shard"])
def test_code_in_a_checkpoint_is_not_run(how, tmp_path):
    sentinel = tmp_path / "it-ran"
    content = {**STATE, "three": Bomb(sentinel)}
    path = tmp_path / ("pytorch_model.bin" if how == "in a folder" else "model-00001-of-00001.bin")
    if how == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "legacy")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    index = {"weight_map": dict.fromkeys(content, path.name)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"{path.name} is not .* never runs code"):
        read(tmp_path if how.startswith("in ") else path)
    assert not sentinel.exists()
    with open(path, "rb") as file:
        pickle.load(file) if how == "bare pickle" else torch.load(file, weights_only=False)
    assert sentinel.is_dir()  # the bomb is live, or this proves nothing


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(2)],
        torch.ones(2),
        "words",
        {"one": torch.ones(2), "epoch": 3},
        {"one": {"two": torch.ones(2)}},
        {1: torch.ones(2)},
        {"one": torch.ones(2).to_sparse()},
        {"one": torch.ones(2, device="meta")},
        {"one": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
    ],
    ids=["list", "tensor", "words", "number", "nested", "name", "sparse", "meta", "quantised"],
)
def test_what_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd.pth is not a "):
        read(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "x\0y", "n" * 5000]
)
def test_an_index_that_points_elsewhere(name, tmp_path):
    save_file(STATE, tmp_path / "outside.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"one": name}}))
    with pytest.raises(CheckpointError, match=r"index.json names .* which is no file beside it"):
        read(folder)


def test_an_index_that_names_a_shard_that_is_not_there(tmp_path):
    save_file({"one": STATE["one"]}, tmp_path / "model-1.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    index = {"weight_map": {"one": "model-1.safetensors", "two": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks the shard 'model-2.safetensors'"):
        read(tmp_path)
    save_file({"two": STATE["two"]}, tmp_path / "model-2.safetensors")
    assert read(tmp_path).keys() == STATE.keys()


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"weight_map": []}', '{"weight_map": {}}', "{", '{"weight_map": "x"}']
)
def test_an_index_without_a_map(content, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors.index.json (has no weight map|holds no JSON|cannot be read)"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b"[]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b'"vit"', "holds no JSON object"),
    ],
    ids=["cut", "empty", "no text", "deep", "list", "null", "word"],
)
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_json_that_is_none(file, content, reason, tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file} {reason}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "header", ["{", "[]", "7", '"vit"', "[" * 200_000], ids=["cut", "list", "number", "word", "deep"]
)
def test_a_header_of_our_own_that_is_broken(header, tmp_path):
    save_file(STATE, tmp_path / "ours.safetensors", metadata={"vitrail": header})
    with pytest.raises(
        CheckpointError, match=r"the header of .*ours.safetensors (cannot be read as JSON|holds no JSON object)"
    ):
        vitrail.load(tmp_path / "ours.safetensors")


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(CheckpointError, match="holds no weights"):
        vitrail.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors", "pytorch_model.bin"])
def test_a_folder_without_a_config(name, tmp_path):
    (tmp_path / name).write_bytes(PICKLED if name.endswith("bin") else SAFE)
    with pytest.raises(CheckpointError, match=rf"nothing says of which network the weights in .*{name} are"):
        vitrail.load(tmp_path)


NOT_THERE = [
    "",
    " ",
    "no-such-model",
    "./no/such/folder",
    "../x",
    "/no/such/file.safetensors",
    "~nobody-there/x",
    "a/b/c/d",
    "org/name@",
    "@main",
    "org/../name",
    "null\0byte",
    "x" * 100_000,
    "org/" + "x" * 5000,
    "weights.safetensors",
    "folder/weights.pth",
    "org/name with spaces",
    "org//name",
    "--help",
    "org/na\nme",
]


@pytest.mark.parametrize("name", NOT_THERE, ids=[repr(name[:20]) for name in NOT_THERE])
def test_names_that_are_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        vitrail.load(name)
    assert str(caught.value).startswith(f"there is no model '{name[:200]}")
    assert len(str(caught.value)) < 500


@given(st.text(max_size=30).filter(lambda name: name not in ("", ".", "..") and "/" not in name))
def test_any_word_that_is_no_model(name):
    if not os.path.lexists(name.replace("\0", "")):
        with pytest.raises(CheckpointError):
            vitrail.load(name)


def test_a_close_name_is_offered():
    with pytest.raises(CheckpointError, match="did you mean 'efficientnet-lite0'"):
        vitrail.load("eficientnet-lite0")


@pytest.mark.parametrize("name", ["google/vit-base-patch16-224", "vit_base_patch16_224", "some/model@v1.0"])
def test_a_hub_out_of_reach(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"^'{name}' is not in the box.* and the hub cannot be reached"):
        vitrail.load(name)


@pytest.mark.parametrize("name", ["vit_large_patch14_224", "vit_giant_patch14_224", "vit_gigantic_patch14_224"])
def test_a_network_whose_weights_nobody_published(name):
    with pytest.raises(CheckpointError, match=f"nobody has published weights for '{name}'"):
        vitrail.load(name)


def save_small(folder, sharded=False):
    config = ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=24, image_size=32)
    ViTForImageClassification(config).save_pretrained(folder, max_shard_size="20KB" if sharded else "1GB")


@pytest.mark.parametrize("sharded", [False, True])
def test_a_checkpoint_is_fetched_once(sharded, hub):
    save_small(hub.folder, sharded)
    (hub.folder / "README.md").write_text("---\nlicense: mit\n---\n")
    model = vitrail.load("some/vit")
    assert model.config.width == 24
    assert (model.origin.name, model.origin.licence) == ("some/vit", "mit")
    hub.shutdown()
    hub.server_close()
    assert vitrail.load("some/vit").config.width == 24  # from the cache: the hub is gone
    with pytest.raises(CheckpointError, match=r"'other/vit' is not in the box.* and the hub cannot be reached"):
        vitrail.load("other/vit")


def test_what_a_hub_does_not_hold(hub):
    save_small(hub.folder)
    with pytest.raises(CheckpointError, match="there is no 'other/vit' on the hub"):
        vitrail.load("other/vit")
    (hub.folder / "model.safetensors").rename(hub.folder / "flax_model.msgpack")
    with pytest.raises(CheckpointError, match="'some/vit' on the hub holds no weights that Vitrail reads"):
        vitrail.load("some/vit")


def test_an_index_on_the_hub_that_points_elsewhere(hub):
    save_small(hub.folder, sharded=True)
    index = {"weight_map": {"one": "../../../outside.safetensors"}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="which is no file beside it"):
        vitrail.load("some/vit")
    assert not any("outside" in path for path in hub.asked)


@pytest.mark.parametrize("sharded", [False, True])
def test_what_the_hub_s_cache_holds_is_loaded_without_the_hub(sharded, tmp_path, monkeypatch):
    """The cache as transformers leaves it: the files it asked for, and nothing about those it did not."""
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--some--vit" / "snapshots" / commit
    save_small(snapshot, sharded)
    (tmp_path / "models--some--vit" / "refs").mkdir()
    (tmp_path / "models--some--vit" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("some/vit", f"some/vit@{commit}"):
        assert vitrail.load(name).config.width == 24
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        vitrail.load("some/vit@other")


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="there is no model"):
        vitrail.load(tmp_path / "pipe")


def test_the_licence_is_read_from_the_card(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: cc-by-nc-4.0\n---\nlicense: other\n")
    assert open_checkpoint(str(tmp_path)).licence == "cc-by-nc-4.0"
    (tmp_path / "README.md").write_text("No front matter.\n")
    assert open_checkpoint(str(tmp_path)).licence is None


def test_a_zip_with_a_huge_promise(tmp_path):
    """A tensor that claims more numbers than its file holds."""
    tampered = tmp_path / "huge.pth"
    with zipfile.ZipFile(io.BytesIO(PICKLED)) as whole, zipfile.ZipFile(tampered, "w") as archive:
        for entry in whole.infolist():
            content = whole.read(entry)
            if entry.filename.endswith("data.pkl"):
                changed = content.replace(b"K\x02K\x03\x86", b"J\x00\x00\x00\x10J\x00\x00\x00\x10\x86")
                assert changed != content
                content = changed
            archive.writestr(entry.filename, content)
    with pytest.raises(CheckpointError, match=r"huge.pth is not a whole"):
        read(tampered)


OPEN_CLIP = {"model_cfg": {"embed_dim": 8}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}


def put(folder, *names):
    """Files of either publisher; which weights they are is in the name of their one tensor."""
    folder.mkdir(exist_ok=True)
    for name in names:
        if name.endswith(".safetensors"):
            save_file({name: torch.ones(2)}, folder / name)
        elif name.endswith(".bin"):
            torch.save({name: torch.ones(2)}, folder / name)
        else:
            said = OPEN_CLIP if name.startswith("open_clip") else {"model_type": "clip"}
            (folder / name).write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("files", "weights", "config"),
    [
        (("open_clip_config.json", "open_clip_model.safetensors"), "open_clip_model.safetensors", OPEN_CLIP),
        (("open_clip_config.json", "open_clip_pytorch_model.bin"), "open_clip_pytorch_model.bin", OPEN_CLIP),
        (
            ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
            "open_clip_model.safetensors",
            OPEN_CLIP,
        ),
        (
            ("config.json", "pytorch_model.bin", "open_clip_config.json", "open_clip_model.safetensors"),
            "pytorch_model.bin",
            {"model_type": "clip"},
        ),
        (
            ("config.json", "open_clip_config.json", "open_clip_model.safetensors"),
            "open_clip_model.safetensors",
            OPEN_CLIP,
        ),
        (
            ("model.safetensors", "open_clip_config.json", "open_clip_model.safetensors"),
            "open_clip_model.safetensors",
            OPEN_CLIP,
        ),
        (("config.json", "open_clip_model.safetensors"), "open_clip_model.safetensors", {"model_type": "clip"}),
    ],
    ids=["open_clip", "pickled", "both kinds of weights", "both publishers", "config alone", "weights alone", "mixed"],
)
@pytest.mark.parametrize("where", ["folder", "hub"])
def test_weights_and_the_config_they_stand_beside(files, weights, config, where, hub):
    put(hub.folder, *files)
    checkpoint = open_checkpoint("some/vit" if where == "hub" else str(hub.folder))
    assert list(checkpoint.tensors) == [weights]
    assert checkpoint.description.config == config


def test_a_name_of_open_clip_s_means_open_clip_s_files(tmp_path):
    put(tmp_path, "config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors")
    found = _open_folder("ViT-B-32", tmp_path, None, form="open_clip_config.json")
    assert list(found.tensors) == ["open_clip_model.safetensors"]
    assert found.description.config == OPEN_CLIP


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_files_about_a_tokenizer_are_read_when_asked_for(where, hub):
    save_small(hub.folder)
    (hub.folder / "vocab.txt").write_text("[PAD]\n青\n", encoding="utf-8")
    (hub.folder / "merges.txt").write_bytes(b"\xff\xfe")
    (hub.folder / "spiece.model").write_bytes(b"\xff\x00")
    (hub.folder / "words.txt").write_text("of no tokenizer")
    files = open_checkpoint("some/vit" if where == "hub" else str(hub.folder)).description.tokenizer_files
    assert set(files) == {"vocab.txt", "merges.txt", "spiece.model"}
    assert files["vocab.txt"] == "[PAD]\n青\n"
    assert files["spiece.model"] == b"\xff\x00"
    with pytest.raises(CheckpointError, match=r"merges.txt cannot be read"):
        files["merges.txt"]


def test_the_licence_of_our_own_is_in_the_header(tmp_path):
    said = {"vitrail": json.dumps({"family": "vit"}), "licence": "MIT", "tokenizer": "{}"}
    save_file(STATE, tmp_path / "ours.safetensors", metadata=said)
    checkpoint = open_checkpoint(str(tmp_path / "ours.safetensors"))
    assert checkpoint.licence == "MIT"
    assert checkpoint.description.tokenizer_files == {"tokenizer": "{}"}
    save_file(STATE, tmp_path / "model.safetensors", metadata={"licence": "MIT"})
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert open_checkpoint(str(tmp_path / "model.safetensors"), "x").licence is None  # of others', their card says it
