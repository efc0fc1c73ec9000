"""What `vitrail index` keeps in `FOLDER/.vitrail/`: one row a picture, in a table of LanceDB's.

Every change is one commit of LanceDB's, which is there whole or not at all, whenever the process is killed.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from vitrail.errors import VitrailError
from vitrail.files import appearing
from vitrail.imaging.open import printable

NAME = ".vitrail"
"""The folder in a folder of pictures that holds its index. Being hidden, it is not searched for pictures."""

ANN_FROM = 50_000
"""From so many pictures on an approximate index pays: docs/search.md has the measurement."""

PROBES, REFINE = 40, 20
"""How many of the index's cells a search looks into, and how many times the hits it takes from them by RaBitQ's
estimates to compare exactly: docs/search.md has the recall."""

SMALL_FRAGMENTS = 16
"""More small pieces than so many are joined into one."""

KEPT = timedelta(minutes=10)
"""Old versions of the table stay so long, for who is reading them."""

_TABLE = "pictures"
_CHUNK = 1000  # paths that are named in one condition


@dataclass(frozen=True)
class Seen:
    """What tells whether a file has changed.

    Attributes:
        size: in bytes.
        modified: nanoseconds since 1970 (UTC).
    """

    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Seen":
        """A file as it is now."""
        return cls(status.st_size, clamp_time(status.st_mtime_ns))


@dataclass(frozen=True, eq=False)
class Row:
    """A picture in the index.

    Attributes:
        path: relative to the indexed folder, with slashes.
        seen: the file's size and time when it was read.
        sha256: of the file, in hexadecimal digits.
        width, height: of the upright picture, in pixels.
        vector: (D,) float32, of length 1.
    """

    path: str
    seen: Seen
    sha256: str
    width: int
    height: int
    vector: np.ndarray


@dataclass(frozen=True)
class Near:
    """A picture that a search found.

    Attributes:
        path, seen, sha256, width, height: as in `Row`.
        score: the cosine of its vector and the one searched for, in [-1, 1].
    """

    path: str
    seen: Seen
    sha256: str
    width: int
    height: int
    score: float


@dataclass(frozen=True, eq=False)
class Maker:
    """The network whose vectors an index holds.

    Attributes:
        name: what `vitrail.load` takes, or "" for a network that was built in Python.
        probe: (D,) float32, of length 1: what it makes of one fixed picture. This is how networks are told apart: it
            changes with whatever changes vectors, be that weights or preprocessing, and hardly with dtype or engine.
    """

    name: str
    probe: np.ndarray


def clamp_time(nanoseconds: int) -> int:
    """A time as 64 bits can hold it: between the years 1677 and 2262."""
    return max(-(2**63) + 1, min(2**63 - 1, nanoseconds))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one that changes a folder's index. The lock goes with the process that holds it, however it ends.

    Raises:
        VitrailError: somebody else is, or the folder cannot be written.
    """
    lock = filelock.FileLock(folder / NAME / "lock")
    try:
        (folder / NAME).mkdir(exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise VitrailError(f"{_shown(folder)} is being indexed by another process: wait until it is done") from None
    except OSError as error:
        raise VitrailError(
            f"the index of {_shown(folder)} cannot be written ({folder / NAME}: {error.strerror or error})"
        ) from None
    try:
        yield
    finally:
        lock.release()


class Store:
    """The index of one folder.

    Args:
        folder: the folder of pictures.
        table: LanceDB's.
    """

    def __init__(self, folder: Path, table: Any) -> None:
        self.folder = folder
        self._table = table
        metadata = table.schema.metadata
        self.maker = Maker(metadata[b"model"].decode(), np.array(json.loads(metadata[b"probe"]), np.float32))

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether the folder has an index; one whose first commit was cut off is none."""
        return any((folder / NAME / f"{_TABLE}.lance" / "_versions").glob("*.manifest"))

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """The index of a folder, as it is now.

        Raises:
            VitrailError: there is none, it is damaged, or lancedb is not installed.
        """
        lancedb = require_lancedb()
        if not cls.exists(folder):
            raise VitrailError(f"{_shown(folder)} is not indexed yet: vitrail index {_shown(folder)}")
        with _reported(folder):
            return cls(folder, lancedb.connect(folder / NAME).open_table(_TABLE))

    @classmethod
    def create(cls, folder: Path, maker: Maker) -> "Store":
        """An empty index, in the place of any that is there.

        Raises:
            VitrailError: it cannot be written, or lancedb is not installed.
        """
        import pyarrow as pa

        lancedb = require_lancedb()
        fields = [
            pa.field("path", pa.string(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("modified", pa.timestamp("ns", "UTC"), nullable=False),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), len(maker.probe)), nullable=False),
        ]
        schema = pa.schema(fields, {"model": maker.name, "probe": json.dumps(maker.probe.tolist())})
        with _reported(folder):
            shutil.rmtree(folder / NAME / f"{_TABLE}.lance", ignore_errors=True)
            _failures_path(folder).unlink(missing_ok=True)
            return cls(folder, lancedb.connect(folder / NAME).create_table(_TABLE, schema=schema))

    def __len__(self) -> int:
        with _reported(self.folder):
            return self._table.count_rows()

    def seen(self) -> dict[str, Seen]:
        """Every picture in the index by path."""
        found = self._columns("path", "size", "modified")
        return {
            path: Seen(size, modified)
            for path, size, modified in zip(*(found[name].to_pylist() for name in found), strict=True)
        }

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of every picture by path."""
        found = self._columns("path", "sha256")
        return dict(zip(found["path"].to_pylist(), found["sha256"].to_pylist(), strict=True))

    def put(self, rows: Sequence[Row], *, new: bool) -> None:
        """Add rows, in one commit.

        Args:
            rows: whose paths differ.
            new: whether no path is in the index yet; otherwise rows of the same paths are replaced.
        """
        import pyarrow as pa

        if not rows:
            return
        vectors = pa.array(np.concatenate([row.vector for row in rows]), pa.float32())
        columns: list[Any] = [
            [row.path for row in rows],
            [row.seen.size for row in rows],
            [row.seen.modified for row in rows],
            [row.sha256 for row in rows],
            [row.width for row in rows],
            [row.height for row in rows],
        ]
        schema = self._table.schema
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=False)]
        arrays.append(pa.FixedSizeListArray.from_arrays(vectors, type=schema.field("vector").type))
        table = pa.Table.from_arrays(arrays, schema=schema)
        with _reported(self.folder):
            if new:
                self._table.add(table)
            else:
                upsert = self._table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all()
                upsert.execute(table)

    def remove(self, paths: Sequence[str]) -> None:
        """Take rows out."""
        for first in range(0, len(paths), _CHUNK):
            with _reported(self.folder):
                self._table.delete(_among(paths[first : first + _CHUNK]))

    def snapshot(self) -> "Store":
        """The index as it is now, whatever is changed later."""
        with _reported(self.folder):
            table = require_lancedb().connect(self.folder / NAME).open_table(_TABLE)
            table.checkout(self._table.version)
            return Store(self.folder, table)

    def rows(self, paths: Sequence[str]) -> dict[str, Row]:
        """Some rows, by path."""
        found: dict[str, Row] = {}
        for first in range(0, len(paths), _CHUNK):
            with _reported(self.folder):
                some = self._table.search().where(_among(paths[first : first + _CHUNK])).to_arrow()
            for near, vector in zip(_pictures(some), _vectors(some), strict=True):
                found[near.path] = Row(near.path, near.seen, near.sha256, near.width, near.height, vector)
        return found

    def nearest(self, vector: np.ndarray, count: int, where: str | None = None, *, exact: bool = False) -> list[Near]:
        """The pictures whose vectors are nearest to one, nearest first.

        Args:
            vector: (D,) float32, of length 1.
            count: how many, at the most.
            where: a condition in SQL that they fulfil.
            exact: compare with every vector, even where there is an approximate index.
        """
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(count)
        query = query.select(["path", "size", "modified", "sha256", "width", "height", "_distance"])
        # A condition that few fulfil is met by looking into more cells than PROBES, all if need be.
        query = query.minimum_nprobes(PROBES).maximum_nprobes(0).refine_factor(REFINE)
        if where is not None:
            query = query.where(where)
        if exact:
            query = query.bypass_vector_index()
        with _reported(self.folder):
            return _pictures(query.to_arrow())

    def all(self) -> tuple[list[Near], np.ndarray]:
        """Every picture, in the order of the paths, and their vectors (N, D) float32."""
        with _reported(self.folder):
            found = self._table.search().to_arrow().sort_by("path")
        return _pictures(found), _vectors(found)

    def settle(self) -> None:
        """Join what small commits left in pieces, keep the approximate index up to date where it pays."""
        from lancedb.index import IvfRq

        with _reported(self.folder):
            rows, unindexed = self._table.count_rows(), self._unindexed()
            pieces = self._table.stats()["fragment_stats"]["num_small_fragments"]
            if pieces > SMALL_FRAGMENTS or (unindexed or 0) > ANN_FROM / 10:
                self._table.optimize(cleanup_older_than=KEPT)  # which takes new rows into the index, too
            if rows >= ANN_FROM and (unindexed is None or unindexed > rows / 2):
                cells = round(rows**0.5)
                self._table.create_index("vector", config=IvfRq(distance_type="dot", num_partitions=cells))

    def _unindexed(self) -> int | None:
        """How many rows the approximate index does not know; None where there is no index."""
        for index in self._table.list_indices():
            return self._table.index_stats(index.name).num_unindexed_rows
        return None

    def _columns(self, *names: str) -> dict[str, Any]:
        import pyarrow as pa

        with _reported(self.folder):
            found = self._table.search().select(list(names)).to_arrow()
        if "modified" in names:
            found = found.set_column(names.index("modified"), "modified", found["modified"].cast(pa.int64()))
        return {name: found[name] for name in names}


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def read_failures(folder: Path) -> dict[str, tuple[Seen, str]]:
    """The pictures that could not be read the last time, by path: the file as it was then, and the sentence.

    What cannot be read of this itself is forgotten: those pictures are tried again.
    """
    try:
        kept = json.loads(_failures_path(folder).read_text(encoding="utf-8"))
        return {path: (Seen(int(size), int(modified)), str(error)) for path, (size, modified, error) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_failures(folder: Path, failures: Mapping[str, tuple[Seen, str]]) -> None:
    """Keep them for the next time.

    Raises:
        VitrailError: they cannot be written.
    """
    kept = {path: [seen.size, seen.modified, error] for path, (seen, error) in failures.items()}
    with appearing(_failures_path(folder)) as scratch:
        scratch.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _failures_path(folder: Path) -> Path:
    return folder / NAME / "failures.json"


def require_lancedb() -> Any:
    """LanceDB's module, imported when it is first needed, for that takes its time.

    Raises:
        VitrailError: it is not installed.
    """
    os.environ.setdefault("LANCE_LOG", "error")  # it would log on standard error what is no sentence for users
    try:
        import lancedb
    except ImportError:
        raise VitrailError(
            "indexes are kept by lancedb, which is not installed: pip install 'vitrail[search]'"
        ) from None
    return lancedb


@contextmanager
def _reported(folder: Path) -> Iterator[None]:
    """LanceDB's errors, of any type, as a sentence."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        if "No space left" in reason:
            raise VitrailError(f"the index of {_shown(folder)} cannot be written: the disk is full") from None
        raise VitrailError(
            f"the index of {_shown(folder)} cannot be read or written, and may be damaged ({printable(reason[:160])}): "
            f"make it anew with vitrail index {_shown(folder)} --rebuild"
        ) from None


def _among(paths: Sequence[str]) -> str:
    return f"path IN ({', '.join(map(quoted, paths))})"


def _pictures(found: Any) -> list[Near]:
    """Rows of an Arrow table; without a distance their score is 1."""
    import pyarrow as pa

    names = "path", "size", "sha256", "width", "height"
    path, size, sha256, width, height = (found[name].to_pylist() for name in names)
    modified = found["modified"].cast(pa.int64()).to_pylist()
    distances = found["_distance"].to_pylist() if "_distance" in found.column_names else [0.0] * len(found)
    return [
        Near(path[i], Seen(size[i], modified[i]), sha256[i], width[i], height[i], max(-1.0, min(1.0, 1 - distances[i])))
        for i in range(len(found))
    ]


def _vectors(found: Any) -> np.ndarray:
    column = found["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(found), column.type.list_size)


def _shown(folder: Path) -> str:
    return printable(str(folder))
