"""`vitrail.index`: make a folder of pictures searchable, and keep it so."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vitrail.errors import ImageError, UsageError, VitrailError
from vitrail.imaging.open import printable
from vitrail.models.model import Model
from vitrail.tasks.batches import THREADS, Failure, in_batches
from vitrail.tasks.changes import Changes, PictureFile, Scan, file_hash, scan
from vitrail.tasks.maker import default_index_model, folder_of, image_vectors, maker_of, network_for
from vitrail.tasks.models import get_model
from vitrail.tasks.settle import settle
from vitrail.tasks.store import Row, Store, locked, require_lancedb, write_failures

COMMIT_SECONDS = 5.0
"""What is done is committed so often: a kill costs no more than the work of this time."""

COMPACT_COMMITS = 200
"""After so many commits the table is compacted, lest it fall into ever more pieces."""

_CHUNK = 1000  # vectors that are taken over at once

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, how much there is."""


@dataclass(frozen=True)
class Indexed:
    """What indexing a folder has changed.

    Attributes:
        folder: the folder of pictures.
        model: the network whose vectors the index holds.
        added: pictures that are new in it.
        updated: pictures whose content has changed.
        moved: pictures that have another path now; their vectors were kept.
        deleted: pictures that are not there any more.
        unchanged: pictures whose content is what it was.
        failures: pictures and folders that could not be read, now or before without having changed since.
    """

    folder: Path
    model: str
    added: int
    updated: int
    moved: int
    deleted: int
    unchanged: int
    failures: tuple[Failure, ...] = field(default=(), repr=False)

    @property
    def pictures(self) -> int:
        """How many the index holds now, but for those in folders that could not be read."""
        return self.added + self.updated + self.moved + self.unchanged

    @property
    def failed(self) -> int:
        """How many could not be read."""
        return len(self.failures)

    def to_dict(self) -> dict[str, Any]:
        """The counts by name, {"folder": …, "model": …, "pictures": …, "added": …, …, "failures": [{…}, …]}."""
        counts = {name: getattr(self, name) for name in ("pictures", *_COUNTS)}
        failures = [failure.to_dict() for failure in self.failures]
        return {"folder": str(self.folder), "model": self.model, **counts, "failures": failures}

    def __str__(self) -> str:
        changes = ", ".join(f"{getattr(self, name):,} {name}" for name in _COUNTS if getattr(self, name))
        many = "picture" if self.pictures == 1 else "pictures"
        model = self.model or "a network built in Python"
        return f"{printable(str(self.folder))}: {self.pictures:,} {many} ({changes or 'none'}), by {model}"


_COUNTS = ("added", "updated", "moved", "deleted", "unchanged", "failed")


def index(
    folder: str | os.PathLike = ".",
    *,
    model: str | os.PathLike | Model | None = None,
    rebuild: bool = False,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    progress: Progress | None = None,
) -> Indexed:
    """Make every picture below a folder searchable: its vector goes into a LanceDB table in `FOLDER/.vitrail/`.

    What is indexed already is not looked at again: files of the same size and time are taken for unchanged, and of the
    others those whose content is known (touched, moved, copied) keep their vectors. Work is committed every few
    seconds; after a kill the next call goes on from there. Hidden files and folders are left out.

    Args:
        folder: the folder. Links to folders in it are followed.
        model: what `vitrail.load` takes, or a loaded network. By default the one the folder was indexed with; for the
            first time `default_index_model()`.
        rebuild: forget the index that is there and start over.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs. For many minutes of work "auto" measures first, unless it was measured before.
        device: where it runs.
        progress: told how far the work is.

    Raises:
        UsageError: `batch_size` below 1.
        CheckpointError: the network cannot be loaded.
        ImageError: the folder is not indexed yet and has no pictures in it.
        VitrailError: the folder cannot be read or its index cannot be written, another process is indexing it, it was
            indexed with another network and `rebuild` is not asked for, or lancedb is not installed.
    """
    if batch_size < 1:  # before what is there is forgotten
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")
    folder = folder_of(folder)
    found = scan(folder)
    if not (found.files or found.failures or Store.exists(folder)):
        raise ImageError(f"The folder {printable(str(folder))} has no pictures in it.")
    require_lancedb()
    with locked(folder):
        store = Store.open(folder) if Store.exists(folder) and not rebuild else None
        changes = Changes.since(store, found)
        network: Model | None = None
        if store is None:
            network = get_model(model or _named_before(folder), engine=engine, device=device)
            store = Store.create(folder, maker_of(network))
        elif changes.doubtful or model is not None:
            network = network_for(store, model, engine, device)
        updater = _Updater(store, changes, progress or (lambda what, done, total: None))
        remaining = updater.reuse()
        updater.remove_gone()
        if remaining:
            assert network is not None  # something is doubtful
            settle(network, remaining, batch_size, progress)
            updater.embed(remaining, network, batch_size)
        return updater.finish(found)


def _named_before(folder: Path) -> str:
    """The network of the index that is to be forgotten, if that can still be read; or else the default."""
    try:
        return Store.open(folder).maker.name or default_index_model()
    except VitrailError:
        return default_index_model()


class _Updater:
    """Brings an index up to date, in commits each of which leaves it whole.

    Args:
        store: the index, whose lock is held.
        changes: what has happened since.
        progress: told how far the work is.
    """

    def __init__(self, store: Store, changes: Changes, progress: Progress) -> None:
        self.store = store
        self.changes = changes
        self.progress = progress
        self.counts = dict.fromkeys(("added", "updated", "moved"), 0)
        self.unchanged = changes.unchanged
        self.failures: list[Failure] = []
        self.broken = dict(changes.broken)
        self.lost: list[str] = []  # paths whose rows are to go, for what is there now is broken
        self.rows: list[Row] = []
        self.commits = 0

    def reuse(self) -> list[PictureFile]:
        """Take over vectors of files whose content is known; gives the files that have to be looked at.

        Only a file as large as an indexed one can have its content, so others are not read here.
        """
        sizes = {seen.size for seen in self.changes.known.values()}
        suspects = [file for file in self.changes.doubtful if file.seen.size in sizes]
        if not suspects:
            return list(self.changes.doubtful)
        before = self.store.snapshot()
        hashes = before.hashes()
        holders = defaultdict(list)
        for path, digest in hashes.items():
            holders[digest].append(path)
        gone = set(self.changes.gone)
        sources: list[tuple[PictureFile, str]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for file, found in zip(suspects, pool.map(_hash_if_readable, suspects), strict=True):
                if found is None or found not in holders:
                    continue
                if hashes.get(file.path) == found:
                    self.unchanged += 1
                    sources.append((file, file.path))
                    continue
                source = next((path for path in holders[found] if path in gone), holders[found][0])
                moved = file.path not in hashes and source in gone
                gone.discard(source)  # it has moved once
                self.counts["moved" if moved else self._kind(file)] += 1
                sources.append((file, source))
        for first in range(0, len(sources), _CHUNK):
            some = sources[first : first + _CHUNK]
            rows = before.rows([source for _, source in some])
            moved_rows = [replace(rows[source], path=file.path, seen=file.seen) for file, source in some]
            self.store.put(moved_rows, new=all(file.path not in self.changes.known for file, _ in some))
            self.progress("taking over", first + len(some), len(sources))
        reused = {file.path for file, _ in sources}
        return [file for file in self.changes.doubtful if file.path not in reused]

    def remove_gone(self) -> None:
        """Take out what is not there any more."""
        self.store.remove(self.changes.gone)

    def embed(self, files: Sequence[PictureFile], network: Model, batch_size: int) -> None:
        """Look at files, and commit every few seconds."""

        def run(images: Tensor) -> list[np.ndarray]:
            return [vector.copy() for vector in image_vectors(network, images).numpy()]

        committed = time.monotonic()
        try:
            for done, (file, result) in enumerate(in_batches(files, network, run, batch_size=batch_size), start=1):
                assert isinstance(file, PictureFile)
                if isinstance(result, Failure):
                    self.failures.append(result)
                    if file.is_broken:
                        self.broken[file.path] = file.seen, result.error
                    if file.path in self.changes.known:
                        self.lost.append(file.path)
                else:
                    self.rows.append(file.row(result))
                    self.counts[self._kind(file)] += 1
                self.progress("looking", done, len(files))
                if time.monotonic() - committed >= COMMIT_SECONDS:
                    self._commit()
                    committed = time.monotonic()
        finally:
            self._commit()

    def finish(self, found: Scan) -> Indexed:
        """Leave the table in order; gives what was done."""
        if self.changes:
            self.progress("tidying up", 0, 1)
            self.store.settle()
        before = [_failed_before(self.store.folder / path, error) for path, (_, error) in self.changes.broken.items()]
        return Indexed(
            self.store.folder,
            self.store.maker.name,
            **self.counts,
            deleted=len(self.changes.gone) - self.counts["moved"],
            unchanged=self.unchanged,
            failures=(*found.failures, *before, *self.failures),
        )

    def _kind(self, file: PictureFile) -> str:
        return "updated" if file.path in self.changes.known else "added"

    def _commit(self) -> None:
        self.store.put(self.rows, new=all(row.path not in self.changes.known for row in self.rows))
        self.store.remove(self.lost)
        write_failures(self.store.folder, self.broken)
        self.rows, self.lost = [], []
        self.commits += 1
        if self.commits % COMPACT_COMMITS == 0:
            self.store.settle()


def _hash_if_readable(file: PictureFile) -> str | None:
    try:
        return file_hash(file.name)
    except OSError:  # which will be said when it is opened
        return None


def _failed_before(path: Path, error: str) -> Failure:
    return Failure(str(path), error, ImageError(error))
