"""Read Emoji World back: from Parquet into a table of glyphs whose pixels are mapped from a file."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.emoji.fetch import STYLES
from vitrail.data.glyphs import Concept, GlyphTable
from vitrail.errors import VitrailError

_FACTS = tuple(field.name for field in fields(Concept) if field.name != "code")  # columns of the same names


def data_folder() -> Path:
    """Where Emoji World lies: what the environment's VITRAIL_DATA says, else ~/.cache/vitrail/data/emoji."""
    said = os.environ.get("VITRAIL_DATA")
    return Path(said).expanduser() if said else Path.home() / ".cache" / "vitrail" / "data" / "emoji"


def load_glyphs(folder: str | Path | None = None, *, complete: bool = True) -> GlyphTable:
    """The glyphs of a built Emoji World.

    The first time, all pictures are decoded into one array file beside the Parquet files, which this and every later
    call maps into memory: so processes share the pixels, and only those looked at are read.

    Args:
        folder: where `build` wrote; `data_folder()` by default.
        complete: only the concepts that every style draws, so that the table is a full grid of concepts × styles.

    Raises:
        VitrailError: there is no whole Emoji World in the folder.
    """
    folder = data_folder() if folder is None else Path(folder)
    rows: list[tuple[bool, str, str]] = []  # whether some style lacks the concept, its code, the style
    concepts: dict[str, Concept] = {}
    for path in part_paths(folder):
        for row in _read(path, ("concept", "style", "styles", *_FACTS)).to_pylist():
            code = row["concept"]
            rows.append((len(row["styles"]) < len(STYLES), code, row["style"]))
            if code not in concepts:
                facts: dict[str, Any] = {
                    name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in _FACTS
                }
                concepts[code] = Concept(code, **facts)
    order = sorted(range(len(rows)), key=lambda index: rows[index][0])  # stable: the complete first, in their order
    pictures = _pictures(folder, order)
    if complete:
        order = [index for index in order if not rows[index][0]]
    codes = tuple(rows[index][1] for index in order)
    return GlyphTable(
        pictures=pictures[: len(order)],
        concept=codes,
        style=tuple(rows[index][2] for index in order),
        concepts={code: concepts[code] for code in dict.fromkeys(codes)},
    )


def part_paths(folder: Path) -> list[Path]:
    """The Parquet files of a built Emoji World, one a style.

    Raises:
        VitrailError: not all are there.
    """
    paths = [folder / f"{style}.parquet" for style in STYLES]
    if missing := [path.name for path in paths if not path.is_file()]:
        lack = "there is no Emoji World" if len(missing) == len(paths) else f"{', '.join(missing)} is missing"
        raise VitrailError(f"{lack} in {folder}: `vitrail data build emoji` makes it")
    return paths


def _read(path: Path, columns: tuple[str, ...]) -> Any:
    """Some columns of a Parquet file, as an Arrow table."""
    parquet = import_parquet()
    try:
        return parquet.read_table(path, columns=list(columns))
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise VitrailError(f"{path} cannot be read ({error}): delete it and build Emoji World again") from error


def import_parquet() -> Any:
    """pyarrow.parquet, or a sentence that says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise VitrailError("Parquet files need pyarrow: pip install 'vitrail[data]'") from None
    return pyarrow.parquet


def _pictures(folder: Path, order: list[int]) -> np.ndarray:
    """The pixels of all rows in this order, (G, S, S, 4) uint8, mapped from the array file, made if need be."""
    parts = part_paths(folder)
    versions = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in parts]
    path = folder / f"glyphs-{hashlib.sha256(repr(versions).encode()).hexdigest()[:12]}.npy"
    if not path.is_file():
        decoded = np.stack(list(_decode(parts)))[order]
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.save(file, decoded)
            os.replace(partial, path)
        except OSError:  # a folder that cannot be written, or a full disk: the array in memory does as well
            partial.unlink(missing_ok=True)
            return decoded
        for stale in set(folder.glob("glyphs-*.npy")) - {path}:
            with suppress(OSError):
                stale.unlink()
    return np.load(path, mmap_mode="r")


def _decode(parts: list[Path]) -> Iterator[np.ndarray]:
    for part in parts:
        for picture in _read(part, ("picture",))["picture"].to_pylist():
            with Image.open(io.BytesIO(picture["bytes"]), formats=["PNG"]) as image:
                yield np.asarray(image.convert("RGBA"))
