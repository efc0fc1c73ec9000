"""From what the user named — files, folders, patterns, URLs, standard input, images — to the inputs to look at."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.errors import ImageError, UsageError
from vitrail.imaging.open import (
    FORMATS,
    Picture,
    Source,
    is_url,
    name_of,
    open_picture,
    printable,
    read_standard_input,
)

PICTURE_ENDINGS = (*(ending for endings in FORMATS.values() for ending in endings), ".heic", ".heif")
"""The endings by which a folder's pictures are told. HEIC cannot be read, but its owner should hear of that."""


@dataclass(frozen=True)
class Input:
    """One thing to look at.

    Attributes:
        source: what `open_picture` takes.
        name: what the user would recognise it by.
        error: why there is nothing to open here (a folder or a pattern without pictures, a standard input that failed);
            `open` raises it, so that it is met where every other bad input is. None for all else.
    """

    source: Source
    name: str
    error: ImageError | None = None

    def open(self, allow_private: bool = False, enough: tuple[int, int] | None = None) -> Picture:
        """Open it with `open_picture`, whose arguments these are.

        Raises:
            ImageError: `error`, or what `open_picture` raises.
        """
        if self.error is not None:
            raise self.error
        return open_picture(self.source, name=self.name, allow_private=allow_private, enough=enough)


def find_inputs(named: Source | Iterable[Source]) -> list[Input]:
    """Expand what was named, one source or many, in the order given. Nothing is opened, and what is missing is kept.

    - A file is itself, whatever its ending; so is a path that does not exist: opening it says so.
    - A folder becomes its pictures, by ending, in all its subfolders, in natural order (2.png before 10.png). Hidden
      files and folders are skipped. Links to folders are followed, each folder being entered once.
    - A pattern (*, ?, [a-z], and ** for any depth) becomes the files that match, in natural order, whatever their
      endings, without hidden ones. Where a file is called just that, the pattern is that file.
    - "-" is standard input, read here and now.
    - URLs, encoded bytes, PIL images and arrays stay as they are.

    Raises:
        UsageError: "-" is named more than once.
    """
    sources = [named] if isinstance(named, str | os.PathLike | bytes | Image.Image | np.ndarray) else list(named)
    if sum(isinstance(source, str) and source == "-" for source in sources) > 1:
        raise UsageError("Standard input can be read once only: name - once.")
    return [found for source in sources for found in _expand(source)]


def _expand(source: Source) -> Iterator[Input]:
    name = name_of(source)
    if not isinstance(source, str | os.PathLike) or (isinstance(source, str) and is_url(source)):
        yield Input(source, name)
    elif isinstance(source, str) and source == "-":
        try:
            yield Input(read_standard_input(), name)
        except ImageError as error:
            yield Input(source, name, error)
    elif os.path.isdir(name):
        yield from _folder_inputs(name)
    elif glob.has_magic(name) and "\0" not in name and not os.path.lexists(name):
        files = sorted((path for path in _matches(name) if os.path.isfile(path)), key=_natural)
        yield from (Input(path, path) for path in files)
        if not files:
            yield Input(source, name, ImageError(f"No file matches {printable(name)}."))
    else:
        yield Input(source, name)


def _folder_inputs(top: str) -> Iterator[Input]:
    unreadable: list[OSError] = []
    files = [
        os.path.join(folder, file)
        for folder, files in _walk(top, unreadable)
        for file in files
        if file.lower().endswith(PICTURE_ENDINGS)
    ]
    yield from (Input(path, path) for path in sorted(files, key=_natural))
    for failure in unreadable:
        path = os.fsdecode(failure.filename)
        error = ImageError(f"The folder {printable(path)} cannot be read: {failure.strerror}.")
        yield Input(path, path, error)
    if not files and not unreadable:
        yield Input(top, top, ImageError(f"The folder {printable(top)} has no pictures in it."))


def _walk(top: str, unreadable: list[OSError]) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `top` down with its files, without hidden ones; failures are added to `unreadable`."""
    entered = set()
    for folder, subfolders, files in os.walk(top, onerror=unreadable.append, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:  # a link led back, or here twice
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=_natural)
        yield folder, [name for name in files if not name.startswith(".")]


def _matches(pattern: str) -> set[str]:
    """What matches a pattern. `**` is expanded here, for `glob` loses itself among links that lead back."""
    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        return set(glob.glob(pattern))
    at = parts.index("**")
    before, after = parts[:at], parts[at + 1 :]
    matches = set()
    for base in glob.glob("/".join([*before, ""])) if before else [""]:
        for folder, _ in _walk(base or os.curdir, []):
            below = folder if base else folder[2:]  # without the "./" nobody wrote
            matches |= _matches(os.path.join(glob.escape(below), *(after or ["*"])))
    return matches


def _natural(path: str) -> tuple[list[list[str | int]], str]:
    """A sorting key: folder by folder, numbers by their value, letters whatever their case."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in path.split(os.sep)]
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], path
