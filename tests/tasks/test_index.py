"""`vitrail.index`: what is embedded, what is not embedded again, and what survives."""

import builtins
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vitrail
from tests.folders import blob, fill
from tests.tiny import saved_tiny_vit, tiny_vit
from vitrail.tasks import index as index_module
from vitrail.tasks.changes import Changes, scan
from vitrail.tasks.maker import default_index_model, maker_of
from vitrail.tasks.store import NAME, Row, Seen, Store, locked

COUNTS = ("added", "updated", "moved", "deleted", "unchanged", "failed")


class Counting:
    """A network that counts the pictures it is shown."""

    def __init__(self) -> None:
        self.network = tiny_vit()
        maker_of(self.network)  # which shows it one
        self.shown = 0
        self.network.patchify.register_forward_pre_hook(self._count)

    def _count(self, module, inputs) -> None:
        self.shown += len(inputs[0])


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def folder(tmp_path) -> Path:
    return fill(tmp_path / "pictures", 6)


def counts(indexed: vitrail.tasks.index.Indexed) -> dict[str, int]:
    return {name: getattr(indexed, name) for name in COUNTS if getattr(indexed, name)}


def check_against_embed(folder: Path, network) -> None:
    """Every row is a picture of the folder, with the vector that `vitrail.embed` gives, and its facts."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("[!.]*.png")}
    pictures = {path: found[path] for path in found if not path.startswith(".")}
    rows = Store.open(folder).rows(sorted(pictures))
    assert len(Store.open(folder)) == len(rows) == len(pictures)
    for path, embedding in zip(rows, vitrail.embed([pictures[path] for path in rows], model=network), strict=True):
        row, vector = rows[path], embedding.vector
        status = os.stat(pictures[path])
        assert row.seen == Seen(status.st_size, status.st_mtime_ns)
        np.testing.assert_allclose(row.vector, vector / np.linalg.norm(vector), atol=1e-5)
        assert row.vector.dtype == np.float32
        assert (row.width, row.height) == (40, 40)


def test_everything_is_embedded_once(folder, counting):
    fill(folder / "more" / "deeper", 2, first=50)
    (folder / "notes.txt").write_text("no picture")
    fill(folder / ".hidden", 1)
    indexed = vitrail.index(folder, model=counting.network)
    assert counts(indexed) == {"added": 8}
    assert counting.shown == 8
    check_against_embed(folder, counting.network)
    assert set(Store.open(folder).seen()) == {
        *(f"{n:03}.png" for n in range(6)),
        "more/deeper/050.png",
        "more/deeper/051.png",
    }

    shown = counting.shown
    assert counts(vitrail.index(folder, model=counting.network)) == {"unchanged": 8}
    assert counting.shown == shown


def test_only_what_changed_is_embedded_again(folder, counting):
    vitrail.index(folder, model=counting.network)
    counting.shown = 0
    blob(100).save(folder / "001.png")  # changed
    os.utime(folder / "002.png", (1, 1))  # touched
    os.rename(folder / "003.png", folder / "other.png")  # moved
    (folder / "004.png").unlink()  # deleted
    shutil.copy(folder / "005.png", folder / "copy.png")  # copied
    blob(101).save(folder / "new.png")  # added
    indexed = vitrail.index(folder, model=counting.network)
    assert counts(indexed) == {"added": 2, "updated": 1, "moved": 1, "deleted": 1, "unchanged": 3}
    assert indexed.pictures == 7
    assert counting.shown == 2
    check_against_embed(folder, counting.network)


def test_files_that_change_places_keep_their_vectors(folder, counting):
    vitrail.index(folder, model=counting.network)
    counting.shown = 0
    for old, new in (("000.png", "x.png"), ("001.png", "000.png"), ("x.png", "001.png")):
        os.rename(folder / old, folder / new)
    os.rename(folder / "002.png", folder / "003.png")  # over another
    assert counts(vitrail.index(folder, model=counting.network)) == {"updated": 3, "deleted": 1, "unchanged": 2}
    assert counting.shown == 0
    check_against_embed(folder, counting.network)


def test_a_moved_folder_takes_its_index_along(folder, counting, tmp_path):
    vitrail.index(folder, model=counting.network)
    counting.shown = 0
    os.rename(folder, tmp_path / "elsewhere")
    assert counts(vitrail.index(tmp_path / "elsewhere", model=counting.network)) == {"unchanged": 6}
    os.mkdir(tmp_path / "elsewhere" / "in")
    for picture in sorted((tmp_path / "elsewhere").glob("*.png")):
        os.rename(picture, picture.parent / "in" / picture.name)
    assert counts(vitrail.index(tmp_path / "elsewhere", model=counting.network)) == {"moved": 6}
    assert counting.shown == 0


def test_any_history_of_changes_ends_in_the_same_index(tmp_path):
    folder, network, dice = fill(tmp_path / "pictures", 8), tiny_vit(), random.Random(0)
    for step in range(8):
        for _ in range(dice.randrange(5)):
            pictures = sorted(folder.rglob("[!.]*.png"))
            one = dice.choice(pictures)
            other = folder / dice.choice(["", "a", "b/c"]) / f"{dice.randrange(10)}.png"
            other.parent.mkdir(parents=True, exist_ok=True)
            what = dice.choice(["change", "move", "copy", "delete", "touch"])
            if what == "change":
                blob(dice.randrange(12)).save(one)
            elif what == "move":
                os.replace(one, other)
            elif what == "copy" and one != other:
                shutil.copy2(one, other)
            elif what == "touch":
                os.utime(one, (step, step))
            elif what == "delete" and len(pictures) > 1:
                one.unlink()
        indexed = vitrail.index(folder, model=network, batch_size=2)
        assert indexed.pictures == len(list(folder.rglob("[!.]*.png")))
        check_against_embed(folder, network)


def test_broken_pictures_are_reported_and_remembered(folder, counting):
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    first = vitrail.index(folder, model=counting.network)
    assert counts(first) == {"added": 6, "failed": 1}
    (failure,) = first.failures
    assert failure.input == str(folder / "bad.png")
    assert str(folder / "bad.png") in failure.error

    opened = []
    unpatched = index_module.PictureFile.open
    index_module.PictureFile.open = lambda self, *rest: opened.append(self.path) or unpatched(self, *rest)
    try:
        again = vitrail.index(folder, model=counting.network)
        assert (counts(again), opened) == ({"unchanged": 6, "failed": 1}, [])
        assert again.failures[0].to_dict() == failure.to_dict()
        blob(70).save(folder / "bad.png")
        assert counts(vitrail.index(folder, model=counting.network)) == {"added": 1, "unchanged": 6}
        assert opened == ["bad.png"]
    finally:
        index_module.PictureFile.open = unpatched
    (folder / "000.png").write_bytes(b"broken now")
    assert counts(vitrail.index(folder, model=counting.network)) == {"unchanged": 6, "failed": 1}
    assert "000.png" not in Store.open(folder).seen()


def test_what_is_no_readable_file_is_reported(folder):
    os.mkfifo(folder / "pipe.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xff.png")).write_bytes((folder / "000.png").read_bytes())
    indexed = vitrail.index(folder, model=tiny_vit())
    assert counts(indexed) == {"added": 6, "failed": 3}
    assert {failure.error.rpartition(": ")[2] for failure in indexed.failures} == {
        "there is no such file.",
        "give it another.",
        f"{folder}/pipe.png is no file.",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_pictures_in_a_folder_that_cannot_be_read_stay(folder):
    network = tiny_vit()
    fill(folder / "closed", 2)
    vitrail.index(folder, model=network)
    (folder / "closed").chmod(0)
    try:
        assert counts(vitrail.index(folder, model=network)) == {"unchanged": 6, "failed": 1}
        assert "closed/000.png" in Store.open(folder).seen()
    finally:
        (folder / "closed").chmod(0o755)


def test_odd_names(tmp_path):
    folder, network = fill(tmp_path / "it's 100% odd_", 1), tiny_vit()
    names = ["猫.png", "it's.png", 'say "x".png', "50%_[1].png", "a\\b.png", "line\nbreak.png", "-o.png", "🐸.png"]
    for number, name in enumerate(names):
        blob(number + 10).save(folder / name)
    assert counts(vitrail.index(folder, model=network)) == {"added": 9}
    for name in names[::2]:
        os.rename(folder / name, folder / f"moved {name}")
    for name in names[1::2]:
        (folder / name).unlink()
    assert counts(vitrail.index(folder, model=network)) == {"moved": 4, "deleted": 4, "unchanged": 1}
    check_against_embed(folder, network)


def test_the_network_is_remembered_and_another_refused(folder, tmp_path, monkeypatch):
    one, other = saved_tiny_vit(tmp_path, seed=0), saved_tiny_vit(tmp_path, seed=1)
    monkeypatch.chdir(tmp_path)
    vitrail.index(folder, model=os.path.basename(one))
    monkeypatch.chdir(folder)
    assert vitrail.index(folder).model == one  # wherever it is called from
    with pytest.raises(vitrail.VitrailError, match=r"not of .*--rebuild"):
        vitrail.index(folder, model=other)
    with pytest.raises(vitrail.VitrailError, match="--rebuild"):
        vitrail.index(folder, model="efficientnet-lite0")  # of another width
    assert counts(vitrail.index(folder, model=tiny_vit(seed=0))) == {"unchanged": 6}  # the same, by another name
    assert counts(vitrail.index(folder, model=tiny_vit(seed=0).bfloat16())) == {"unchanged": 6}
    rebuilt = vitrail.index(folder, model=other, rebuild=True)
    assert (counts(rebuilt), rebuilt.model) == ({"added": 6}, other)
    with pytest.raises(vitrail.UsageError, match="batch size"):
        vitrail.index(folder, rebuild=True, batch_size=0)
    with pytest.raises(vitrail.CheckpointError):
        vitrail.index(folder, model="nothing-of-the-kind", rebuild=True)
    assert counts(vitrail.index(folder)) == {"unchanged": 6}  # nothing was lost
    assert vitrail.index(folder, rebuild=True).model == other

    shutil.copy(one, other)  # under its name there are other weights now
    blob(90).save(folder / "new.png")
    with pytest.raises(vitrail.VitrailError, match=r"weights have changed since.*--rebuild"):
        vitrail.index(folder)
    os.unlink(other)
    with pytest.raises(vitrail.CheckpointError):
        vitrail.index(folder)


def test_an_index_by_a_network_built_in_python_asks_for_it(folder):
    vitrail.index(folder, model=tiny_vit())
    blob(90).save(folder / "new.png")
    with pytest.raises(vitrail.UsageError, match="built in Python"):
        vitrail.index(folder)


def test_the_default_network(folder):
    assert default_index_model() in vitrail.checkpoints.box.box_names()
    assert vitrail.index(folder).model == default_index_model()


def test_result_is_readable_and_serialises(folder):
    (folder / "bad.png").write_bytes(b"no")
    indexed = vitrail.index(folder, model=tiny_vit())
    assert str(indexed).startswith(f"{folder}: 6 pictures (6 added, 1 failed)")
    described = json.loads(json.dumps(indexed.to_dict()))
    assert described.pop("failures")[0]["input"] == str(folder / "bad.png")
    assert described == {
        "folder": str(folder),
        "model": "",
        "pictures": 6,
        **dict.fromkeys(COUNTS, 0),
        "added": 6,
        "failed": 1,
    }


def test_progress_is_told(folder):
    told = []
    vitrail.index(folder, model=tiny_vit(), progress=lambda *what: told.append(what))
    assert [what for what in told if what[0] == "looking"] == [("looking", done, 6) for done in range(1, 7)]


def test_what_is_no_folder_or_has_no_pictures(tmp_path, folder):
    for wrong in (tmp_path / "missing", folder / "000.png", "nul\0"):
        with pytest.raises(vitrail.VitrailError, match="cannot be read"):
            vitrail.index(wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(vitrail.ImageError, match="no pictures"):
        vitrail.index(tmp_path / "empty")
    assert not list((tmp_path / "empty").iterdir())
    with pytest.raises(vitrail.UsageError, match="batch size"):
        vitrail.index(folder, model=tiny_vit(), batch_size=0)
    network = tiny_vit()
    vitrail.index(folder, model=network)
    for picture in folder.glob("*.png"):
        picture.unlink()
    assert counts(vitrail.index(folder)) == {"deleted": 6}


def test_a_killed_indexer_loses_no_more_than_a_batch_and_no_two_work_at_once(tmp_path):
    folder, model = fill(tmp_path / "pictures", 200), saved_tiny_vit(tmp_path)
    code = f"""
import vitrail
from vitrail.tasks import index
index.COMMIT_SECONDS = 0
progress = lambda what, done, total: print(what, done, flush=True)
vitrail.index({str(folder)!r}, model={model!r}, batch_size=1, progress=progress)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        for _ in range(10):
            assert process.stdout.readline().startswith(b"looking")
        process.send_signal(signal.SIGSTOP)  # alive, and not done before we are
        with pytest.raises(vitrail.VitrailError, match="being indexed by another process"):
            vitrail.index(folder)
        process.kill()  # wherever it was
        told = 10 + len(process.stdout.read().splitlines())
    kept = len(Store.open(folder))
    assert told - 2 <= kept < 200  # the last that was told of was not committed yet
    indexed = vitrail.index(folder)  # a dead one's lock holds nobody up
    assert (indexed.unchanged, indexed.added) == (kept, 200 - kept)
    check_against_embed(folder, vitrail.load(model))


def test_killed_before_the_first_commit(folder):
    (folder / NAME / "pictures.lance" / "_versions").mkdir(parents=True)  # as far as creating a table had come
    with pytest.raises(vitrail.VitrailError, match="not indexed yet"):
        Store.open(folder)
    assert counts(vitrail.index(folder, model=tiny_vit())) == {"added": 6}


def test_interrupting_keeps_what_is_done(folder, counting):
    def interrupt(what, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vitrail.index(folder, model=counting.network, batch_size=1, progress=interrupt)
    assert counts(vitrail.index(folder, model=counting.network)) == {"added": 2, "unchanged": 4}
    with locked(folder), pytest.raises(vitrail.VitrailError, match="another process"):
        vitrail.index(folder)


@pytest.mark.parametrize("part", ["_versions/*.manifest", "data/*.lance"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_index_is_a_sentence_and_can_be_rebuilt(folder, tmp_path, part, damage):
    model = saved_tiny_vit(tmp_path)
    vitrail.index(folder, model=model)
    for file in (folder / NAME / "pictures.lance").glob(part):
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": os.urandom(len(whole))}[damage])
    blob(99).save(folder / "new.png")
    for use in (vitrail.index, vitrail.duplicates):
        with pytest.raises(vitrail.VitrailError, match=r"damaged.*--rebuild"):
            use(folder)
    assert counts(vitrail.index(folder, model=model, rebuild=True)) == {"added": 7}


def test_damaged_memory_of_failures_is_forgotten(folder):
    (folder / "bad.png").write_bytes(b"no")
    network = tiny_vit()
    vitrail.index(folder, model=network)
    for damage in ("", "[1]", '{"bad.png": 3}', "\0"):
        (folder / NAME / "failures.json").write_text(damage)
        assert counts(vitrail.index(folder, model=network)) == {"unchanged": 6, "failed": 1}


def test_a_folder_that_cannot_be_written(folder):
    (folder / NAME).write_text("in the way")
    with pytest.raises(vitrail.VitrailError, match="cannot be written"):
        vitrail.index(folder, model=tiny_vit())
    (folder / NAME).unlink()
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to root")
    folder.chmod(0o555)
    try:
        with pytest.raises(vitrail.VitrailError, match="cannot be written"):
            vitrail.index(folder, model=tiny_vit())
    finally:
        folder.chmod(0o755)


def test_a_missing_lancedb_is_named_with_what_installs_it(folder, monkeypatch):
    import_module = builtins.__import__

    def without_lancedb(name, *rest, **more):
        if name.startswith("lancedb"):
            raise ImportError(name)
        return import_module(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_lancedb)
    for use in (vitrail.index, vitrail.duplicates, lambda folder: vitrail.search("words", folder)):
        with pytest.raises(vitrail.VitrailError, match=r"pip install 'vitrail\[search\]'"):
            use(folder)
    assert not (folder / NAME).exists()


def test_many_small_commits_are_joined_and_nothing_is_lost(folder, monkeypatch):
    monkeypatch.setattr(index_module, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(index_module, "COMPACT_COMMITS", 20)
    fill(folder, 50)
    network = tiny_vit()
    vitrail.index(folder, model=network, batch_size=1)
    assert len(list((folder / NAME / "pictures.lance" / "data").iterdir())) >= 50  # old ones stay for readers
    table = Store.open(folder)._table
    assert table.stats()["fragment_stats"]["num_fragments"] < 20
    check_against_embed(folder, network)


def test_the_approximate_index_is_built_followed_and_agrees(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.tasks.store.ANN_FROM", 1000)
    dice = np.random.default_rng(0)
    vectors = dice.normal(size=(3000, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [Row(f"{n}.png", Seen(n, n), f"{n:064}", 1, 1, vector) for n, vector in enumerate(vectors)]
    (tmp_path / NAME).mkdir()
    store = Store.create(tmp_path, maker_of(tiny_vit()))
    store.put(rows[:900], new=True)
    store.settle()
    assert store._table.list_indices() == []
    store.put(rows[900:1200], new=True)
    store.settle()
    assert len(store._table.list_indices()) == 1
    store.put(rows[1200:], new=True)  # some are not in it yet
    store.settle()
    queries = vectors[:50] + 0.05 * dice.normal(size=(50, 32)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    hits = 0
    for query in queries:
        expected = np.argsort(-vectors @ query)[:10]
        exact = store.nearest(query, 10, exact=True)
        assert [near.path for near in exact] == [f"{n}.png" for n in expected]
        np.testing.assert_allclose([near.score for near in exact], vectors[expected] @ query, atol=1e-5)
        found = store.nearest(query, 10)
        np.testing.assert_allclose(
            [near.score for near in found], [vectors[near.seen.size] @ query for near in found], atol=1e-5
        )
        hits += len({near.path for near in found} & {near.path for near in exact})
    assert hits >= 0.85 * 500  # points without any structure are the hardest to find their way among
    (only,) = store.nearest(queries[0], 10, "path = '2999.png'")  # far away, and the only one
    assert only.path == "2999.png"


def test_changes_are_counted_without_opening_anything(folder):
    vitrail.index(folder, model=tiny_vit())
    store = Store.open(folder)
    assert len(Changes.since(store, scan(folder))) == 0
    blob(100).save(folder / "001.png")
    (folder / "002.png").unlink()
    blob(101).save(folder / "new.png")
    assert len(Changes.since(store, scan(folder))) == 3
