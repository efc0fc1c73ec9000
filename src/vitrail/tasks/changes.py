"""The pictures of a folder, and what has happened to them since they were indexed."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import ImageError
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Picture, printable
from vitrail.tasks.batches import Failure
from vitrail.tasks.store import Row, Seen, Store, read_failures


@dataclass(frozen=True, kw_only=True)
class PictureFile(Input):
    """A picture of the folder. What the index wants to know of it is noted when it is opened.

    Attributes:
        path: relative to the folder, with slashes.
        seen: its size and time, as they were before it was opened.
        noted: "sha256" once it has been read, "width" and "height" once it has been decoded.
    """

    path: str
    seen: Seen
    noted: dict[str, Any] = field(default_factory=dict, compare=False)

    def open(self, allow_private: bool = False, enough: tuple[int, int] | None = None) -> Picture:
        """Open it and note its facts.

        Raises:
            ImageError: it cannot be read, or what `open_picture` raises.
        """
        try:
            self.noted["sha256"] = file_hash(self.name)
        except OSError as error:
            raise ImageError(f"{printable(self.name)} cannot be read: {error.strerror or error}.") from error
        picture = super().open(allow_private, enough)
        self.noted.update(width=picture.width, height=picture.height)
        return picture

    @property
    def is_broken(self) -> bool:
        """Whether it could be read and could not be decoded: trying again is of no use until it changes."""
        return "sha256" in self.noted and "width" not in self.noted

    def row(self, vector: np.ndarray) -> Row:
        """What the index keeps of it, once it has been opened."""
        return Row(path=self.path, seen=self.seen, vector=vector, **self.noted)


@dataclass(frozen=True)
class Scan:
    """The pictures of a folder as they are on the disk.

    Attributes:
        files: in natural order.
        failures: files and folders that cannot be looked at.
        closed: the relative paths of those of them that may be there nevertheless.
    """

    files: tuple[PictureFile, ...]
    failures: tuple[Failure, ...]
    closed: tuple[str, ...]

    def may_hold(self, path: str) -> bool:
        """Whether a picture that was not found may be there, in a folder that cannot be looked into."""
        return any(path == at or path.startswith(f"{at}/") for at in self.closed)


def scan(folder: Path) -> Scan:
    """Find the pictures below a folder; none is opened."""
    files: list[PictureFile] = []
    failures: list[Failure] = []
    closed: list[str] = []

    def fail(name: str, path: str | None, error: ImageError) -> None:
        failures.append(Failure(name, str(error), error))
        if path is not None:
            closed.append(path)

    for input in find_inputs(folder):
        where = Path(input.name)
        name, path = str(where), where.relative_to(folder).as_posix()
        if input.error is not None:
            if where != folder:  # of the folder itself: that it has no pictures
                fail(name, path, input.error)
            continue
        try:
            path.encode()
            status = os.stat(where)
        except UnicodeEncodeError:
            fail(name, None, ImageError(f"{printable(name)}: its name is no valid Unicode: give it another."))
        except FileNotFoundError:
            fail(name, None, ImageError(f"{printable(name)}: there is no such file."))
        except OSError as error:
            fail(name, path, ImageError(f"{printable(name)} cannot be read: {error.strerror or error}."))
        else:
            if stat.S_ISREG(status.st_mode):
                files.append(PictureFile(source=name, name=name, path=path, seen=Seen.of(status)))
            else:
                fail(name, None, ImageError(f"{printable(name)} is no file."))
    return Scan(tuple(files), tuple(failures), tuple(closed))


@dataclass(frozen=True)
class Changes:
    """What is known of the files of a folder, before any is opened.

    Attributes:
        known: what the index holds, by path.
        unchanged: how many files look as they did when they were indexed.
        doubtful: files that are new, or look otherwise than they did.
        broken: files that could not be decoded and look as they did, by path: with the sentence that said why.
        gone: paths in the index that are not there any more.
    """

    known: dict[str, Seen]
    unchanged: int
    doubtful: tuple[PictureFile, ...]
    broken: dict[str, tuple[Seen, str]]
    gone: tuple[str, ...]

    @classmethod
    def since(cls, store: Store | None, found: Scan) -> "Changes":
        """The changes of a folder since it was indexed; everything where it was not."""
        if store is None:
            return cls({}, 0, found.files, {}, ())
        known, failed = store.seen(), read_failures(store.folder)
        doubtful, broken, unchanged = [], {}, 0
        for file in found.files:
            if known.get(file.path) == file.seen:
                unchanged += 1
            elif file.path in failed and failed[file.path][0] == file.seen:
                broken[file.path] = failed[file.path]
            else:
                doubtful.append(file)
        there = {file.path for file in found.files}
        gone = tuple(path for path in known if path not in there and not found.may_hold(path))
        return cls(known, unchanged, tuple(doubtful), broken, gone)

    def __len__(self) -> int:
        return len(self.doubtful) + len(self.gone)


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
