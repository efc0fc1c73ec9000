"""Files of vectors: NumPy's or Parquet, written as the vectors come and there only when they are whole."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.tasks.batches import Failure
from vitrail.tasks.embed import Embedding

ROWS = 1024
"""Rows of a Parquet row group: as many vectors are in memory at once."""


def save_vectors(results: Iterable[Embedding | Failure], path: str | os.PathLike) -> int:
    """Write embeddings of one network to a file; failures are left out.

    What is there is replaced, and only when everything is written.

    - `vectors.npy`: an (N, D) float32 array, and beside it `vectors.names.json`:
      {"model": …, "engine": …, "inputs": […]}, where inputs[i] is what row i was made of.
    - `vectors.parquet`: columns `input` (string) and `vector` (list of D float32), with `model` and `engine` in the
      schema's metadata.

    Args:
        results: what `embed_each` yields, or a list of the same; it is read as it is written.
        path: a file that ends in .npy or .parquet.

    Returns:
        How many vectors were written.

    Raises:
        UsageError: another ending, or vectors of several networks.
        VitrailError: there is no vector to write, the file cannot be written, or pyarrow is not installed.
    """
    path = Path(path)
    write = vector_writer(path)
    embeddings = (result for result in results if isinstance(result, Embedding))
    first = next(embeddings, None)
    if first is None:
        raise VitrailError(f"{path} is not written: there is no vector to write")
    return write(first, (_beside(first, embedding) for embedding in embeddings), path)


def vector_writer(path: str | os.PathLike) -> Callable[[Embedding, Iterator[Embedding], Path], int]:
    """What writes a file of that ending; asked for before any work is done, it says what would go wrong.

    Raises:
        UsageError: an ending other than .npy and .parquet.
        VitrailError: the file's folder does not exist, or pyarrow is not installed.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".parquet"):
        raise UsageError(f"vectors are written to a .npy or .parquet file, not to '{path}'")
    if path.is_dir() or not path.parent.is_dir():
        raise VitrailError(
            f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'there is no such folder'}"
        )
    if path.suffix == ".npy":
        return _write_npy
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise VitrailError(
            "Parquet files are written by pyarrow, which is not installed: pip install 'vitrail[data]'"
        ) from None
    return _write_parquet


def _beside(first: Embedding, embedding: Embedding) -> Embedding:
    if (embedding.model, len(embedding.vector)) != (first.model, len(first.vector)):
        raise UsageError(
            f"one file holds the vectors of one network, not those of '{first.model}' and '{embedding.model}'"
        )
    return embedding


def names_path(path: Path) -> Path:
    """Where the names of a .npy file's rows are: `vectors.names.json` for `vectors.npy`."""
    return path.with_suffix(".names.json")


def _write_npy(first: Embedding, others: Iterator[Embedding], path: Path) -> int:
    inputs = [first.input]
    with appearing(path) as scratch, open(scratch, "w+b") as file:
        _write_header(file, 0, len(first.vector))
        file.write(_row(first))
        for embedding in others:
            file.write(_row(embedding))
            inputs.append(embedding.input)
        file.seek(0)
        _write_header(file, len(inputs), len(first.vector))
        described = {"model": first.model, "engine": first.engine, "inputs": inputs}
        with appearing(names_path(path)) as names:
            names.write_bytes(json.dumps(described, indent=1).encode() + b"\n")
    return len(inputs)


def _write_header(file: IO[bytes], rows: int, columns: int) -> None:
    """The header of an (rows, columns) array. NumPy leaves room in it for the rows to grow, so its length stays."""
    described = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
    np.lib.format.write_array_header_1_0(file, described)


def _row(embedding: Embedding) -> bytes:
    return embedding.vector.astype("<f4", copy=False).tobytes()


def _write_parquet(first: Embedding, others: Iterator[Embedding], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), len(first.vector))
    schema = pa.schema(
        [pa.field("input", pa.string(), nullable=False), pa.field("vector", vector, nullable=False)],
        metadata={"model": first.model, "engine": first.engine},
    )
    written, group = 0, [first, *islice(others, ROWS - 1)]
    with appearing(path) as scratch, pq.ParquetWriter(scratch, schema) as writer:
        while group:
            vectors = np.concatenate([embedding.vector for embedding in group])
            columns: list[Any] = [
                pa.array([_text(embedding.input) for embedding in group], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors, pa.float32()), type=vector),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            written += len(group)
            group = list(islice(others, ROWS))
    return written


def _text(name: str) -> str:
    """A name as Parquet can hold it: bytes of a file's name that are no UTF-8 are written as \\udcff."""
    return name.encode("utf-8", "backslashreplace").decode()
