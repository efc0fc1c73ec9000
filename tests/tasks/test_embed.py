"""`vitrail.embed` and the files of vectors."""

import builtins
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import vitrail
from tests.pictures import EXAMPLES, noise, photograph
from tests.tiny import tiny_vit
from vitrail.imaging.inputs import find_inputs
from vitrail.tasks.batches import Failure
from vitrail.tasks.embed import Embedding, embed_each
from vitrail.tasks.vectors import ROWS, save_vectors, vector_writer

CAT = EXAMPLES / "cat.jpg"


def made(count: int, width: int = 5, model: str = "m") -> list[Embedding]:
    rows = np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)
    return [Embedding(f"{i}.png", model, "eager float32", row) for i, row in enumerate(rows)]


@pytest.mark.parametrize("classes", [0, 10])
def test_the_vector_is_what_the_head_reads(classes):
    model = tiny_vit(classes=classes)
    result = vitrail.embed(CAT, model=model)
    assert (result.vector.dtype, result.vector.shape) == (np.float32, (32,))
    with torch.no_grad():
        logits = model(model.preprocess(photograph()))[0]
        torch.testing.assert_close(model.head(torch.from_numpy(result.vector)), logits)


def test_half_precision_networks_give_float32():
    assert vitrail.embed(CAT, model=tiny_vit().bfloat16()).vector.dtype == np.float32


def test_result_is_readable_and_serialises():
    result = vitrail.embed(CAT, model=tiny_vit())
    found = json.loads(json.dumps(result.to_dict()))
    assert list(found) == ["input", "model", "engine", "vector"]
    np.testing.assert_allclose(found["vector"], result.vector)
    assert str(result).startswith(f"{CAT}\n  32 numbers")


def test_many_are_aligned_with_a_failure_in_its_place():
    pictures = [noise(40, 30, seed=1), b"broken", noise(40, 30, seed=2)]
    first, failed, last = vitrail.embed(pictures, model=tiny_vit(), batch_size=2)
    assert isinstance(failed, Failure)
    assert not np.allclose(first.vector, last.vector)


def test_the_default_network_finds_a_cat_nearer_to_a_mirrored_cat_than_to_coffee():
    cat, mirrored, coffee = vitrail.embed([CAT, photograph().transpose(0), EXAMPLES / "coffee.jpg"])

    def cosine(a, b):
        return a.vector @ b.vector / np.linalg.norm(a.vector) / np.linalg.norm(b.vector)

    assert cosine(cat, mirrored) > 0.8 > cosine(cat, coffee)


@pytest.mark.parametrize("count", [1, 9, 10, 1000, 2 * ROWS + 3])
def test_files_hold_what_was_given(tmp_path, count):
    results = made(count)
    expected = np.stack([result.vector for result in results])
    names = [result.input for result in results]
    with_failures = [*results[:1], Failure("bad.png", "no", vitrail.ImageError("no")), *results[1:]]

    assert save_vectors(iter(with_failures), tmp_path / "v.npy") == count
    array = np.load(tmp_path / "v.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)
    described = json.loads((tmp_path / "v.names.json").read_text())
    assert described == {"model": "m", "engine": "eager float32", "inputs": names}

    assert save_vectors(with_failures, tmp_path / "v.parquet") == count
    table = pq.read_table(tmp_path / "v.parquet")
    assert str(table.schema.field("input").type) == "string"
    assert "fixed_size_list<" in str(table.schema.field("vector").type)
    assert "float" in str(table.schema.field("vector").type)
    assert table["input"].to_pylist() == names
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected)
    assert table.schema.metadata[b"model"] == b"m"
    assert table.schema.metadata[b"engine"] == b"eager float32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.names.json", "v.npy", "v.parquet"]


@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_a_file_appears_whole_or_stays_as_it_was(tmp_path, name):
    save_vectors(made(2), tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped():
        yield from made(ROWS + 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_vectors(stopped(), tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_vectors(made(3), tmp_path / name)
    assert (tmp_path / name).read_bytes() != before[name]


@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_nothing_to_write_is_said_and_nothing_written(tmp_path, name):
    with pytest.raises(vitrail.VitrailError, match="no vector to write"):
        save_vectors([Failure("bad.png", "no", vitrail.ImageError("no"))], tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["v.npy", "v.parquet"])
def test_vectors_of_two_networks_do_not_share_a_file(tmp_path, name):
    with pytest.raises(vitrail.UsageError, match="one network"):
        save_vectors([*made(1), *made(1, width=6, model="other")], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_odd_names_survive(tmp_path):
    odd = [Embedding(name, "m", "e", np.zeros(2, np.float32)) for name in ("猫.png", "a\nb.png", "\udcff.png")]
    save_vectors(odd, tmp_path / "v.npy")
    assert json.loads((tmp_path / "v.names.json").read_text())["inputs"] == [result.input for result in odd]
    save_vectors(odd, tmp_path / "v.parquet")
    assert pq.read_table(tmp_path / "v.parquet")["input"].to_pylist() == ["猫.png", "a\nb.png", "\\udcff.png"]


def test_wrong_endings_and_places(tmp_path):
    for name in ("v.csv", "v", "v.npz"):
        with pytest.raises(vitrail.UsageError, match=r"\.npy or \.parquet"):
            vector_writer(tmp_path / name)
    with pytest.raises(vitrail.VitrailError, match="no such folder"):
        vector_writer(tmp_path / "nowhere" / "v.npy")
    (tmp_path / "v.npy").mkdir()
    with pytest.raises(vitrail.VitrailError, match="folder"):
        vector_writer(tmp_path / "v.npy")


def test_a_missing_pyarrow_is_named_with_what_installs_it(tmp_path, monkeypatch):
    import_module = builtins.__import__

    def without_pyarrow(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return import_module(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(vitrail.VitrailError, match=r"pip install 'vitrail\[data\]'"):
        vector_writer(tmp_path / "v.parquet")
    vector_writer(tmp_path / "v.npy")


def test_streaming_into_a_file(tmp_path):
    model = tiny_vit()
    inputs = find_inputs([noise(20, 20, seed=seed) for seed in range(7)])
    assert save_vectors(embed_each(inputs, model, batch_size=3), tmp_path / "v.npy") == 7
    expected = np.stack([vitrail.embed(input.source, model=model).vector for input in inputs])
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, rtol=1e-4, atol=1e-5)
