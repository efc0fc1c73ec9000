"""`vitrail.duplicates`: pictures of an indexed folder that are there twice, or nearly so."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.open import printable
from vitrail.tasks.hits import PictureFacts, draw_sheet
from vitrail.tasks.maker import folder_of
from vitrail.tasks.store import Store

THRESHOLD = 0.9
"""The cosine from which pictures are taken for near-duplicates: docs/search.md has the measurement."""

_BLOCK = 2048  # vectors that are compared with as many others at once


@dataclass(frozen=True)
class Duplicate:
    """A picture of a group.

    Attributes:
        picture: which it is.
        score: the cosine of its vector and that of the group's first, in [-1, 1].
        exact: whether its file is, byte by byte, the group's first.
    """

    picture: PictureFacts
    score: float
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """{"path": …, "score": …, "exact": …, "size": …, "modified": …, "width": …, "height": …}."""
        facts = self.picture.to_dict()
        return {"path": facts.pop("path"), "score": self.score, "exact": self.exact, **facts}


@dataclass(frozen=True)
class Group:
    """Pictures that are one picture, as far as the network can tell.

    Attributes:
        pictures: at least two; first the one to keep: that of the most pixels, then of the largest file, then the
            oldest.
    """

    pictures: tuple[Duplicate, ...]

    @property
    def exact(self) -> bool:
        """Whether all files are the same, byte by byte."""
        return all(duplicate.exact for duplicate in self.pictures)

    @property
    def marks(self) -> tuple[str, ...]:
        """A word on each picture: "keep", "copy", or the score of a near-duplicate."""
        return ("keep", *("copy" if one.exact else f"{one.score:.3f}" for one in self.pictures[1:]))

    def to_dict(self) -> dict[str, Any]:
        """{"exact": …, "pictures": [{…}, …]}."""
        return {"exact": self.exact, "pictures": [duplicate.to_dict() for duplicate in self.pictures]}


@dataclass(frozen=True)
class Duplicates:
    """The groups of a folder.

    Attributes:
        folder: where they are.
        threshold: the cosine from which two pictures were taken for near-duplicates.
        groups: in the order of their first pictures' paths.
    """

    folder: Path
    threshold: float
    groups: tuple[Group, ...]

    @property
    def superfluous(self) -> int:
        """How many pictures there are beyond the first of each group."""
        return sum(len(group.pictures) - 1 for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """{"folder": …, "threshold": …, "groups": [{…}, …]}."""
        groups = [group.to_dict() for group in self.groups]
        return {"folder": str(self.folder), "threshold": self.threshold, "groups": groups}

    def __str__(self) -> str:
        if not self.groups:
            return "no duplicates"
        lines = []
        for number, group in enumerate(self.groups, start=1):
            lines.append(f"{number}. {'exact copies' if group.exact else 'near-duplicates'}")
            for mark, one in zip(group.marks, group.pictures, strict=True):
                pixels = f"{one.picture.width} × {one.picture.height}"
                lines.append(f"   {mark:>6}  {pixels:>13}  {one.picture.size:>12,}  {printable(str(one.picture.path))}")
        return "\n".join(lines)

    def draw(self, cell: int = 240) -> Image.Image:
        """A contact sheet, RGB, a group after the other; a picture that is not there any more is blank.

        Args:
            cell: the longer edge of a picture on it, in pixels.

        Raises:
            VitrailError: there are no groups.
        """
        if not self.groups:
            raise VitrailError("there is no contact sheet of nothing: no duplicates were found")
        pictures, captions = [], []
        for number, group in enumerate(self.groups, start=1):
            for mark, one in zip(group.marks, group.pictures, strict=True):
                pictures.append(one.picture)
                captions.append(
                    f"{number}.  {mark}  {one.picture.width} × {one.picture.height}\n{one.picture.path.name}"
                )
        return draw_sheet(pictures, captions, cell=cell)


def duplicates(folder: str | os.PathLike = ".", *, threshold: float = THRESHOLD) -> Duplicates:
    """Find the pictures of a folder that `index` has seen which are copies of each other, or nearly so.

    Pictures are of one group if their files are the same, or if the cosine of their vectors is at least the threshold;
    and so are those that a chain of such pairs connects. All pairs are compared, N² / 2 products of vectors, in memory
    that grows with N.

    Args:
        folder: the indexed folder.
        threshold: in (0, 1]; at 1 only exact copies are found.

    Raises:
        UsageError: a threshold outside (0, 1].
        VitrailError: the folder has no index, or one that cannot be read.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold is a cosine above 0 and up to 1, not {threshold}")
    folder = folder_of(folder)
    store = Store.open(folder)
    found, vectors = store.all()
    facts = [PictureFacts.of(folder, one) for one in found]
    hashes = [one.sha256 for one in found]

    def worth(index: int) -> tuple[Any, ...]:
        picture = facts[index]
        return -picture.width * picture.height, -picture.size, picture.modified, picture.path

    groups = []
    for members in grouped(vectors, hashes, threshold):
        first, *others = sorted(members, key=worth)
        exact = [hashes[index] == hashes[first] for index in others]
        scores = (vectors[others] @ vectors[first]).tolist()
        rest = (Duplicate(facts[i], score, same) for i, score, same in zip(others, scores, exact, strict=True))
        groups.append(Group((Duplicate(facts[first], 1.0, True), *rest)))
    return Duplicates(folder, threshold, tuple(sorted(groups, key=lambda group: group.pictures[0].picture.path)))


def grouped(vectors: np.ndarray, hashes: Sequence[str], threshold: float) -> list[list[int]]:
    """The groups of at least two, as indices.

    Args:
        vectors: (N, D) float32, of length 1.
        hashes: N of them; pictures of the same hash are of one group.
        threshold: as in `duplicates`.
    """
    _, first, copy_of = np.unique(np.array(hashes), return_index=True, return_inverse=True)
    parent = np.arange(len(vectors))
    parent[:] = first[copy_of]  # copies are compared once
    if threshold < 1:
        _join_near(torch.from_numpy(vectors[first]), first, parent, threshold)
    order = np.argsort(parent, kind="stable")
    sections = np.split(order, np.flatnonzero(np.diff(parent[order])) + 1)
    return [section.tolist() for section in sections if len(section) > 1]


def _join_near(vectors: torch.Tensor, indices: np.ndarray, parent: np.ndarray, threshold: float) -> None:
    """Join the groups of near vectors.

    Args:
        vectors: (M, D), all different pictures.
        indices: (M,), where they stand in `parent`.
        parent: (N,), to each picture one of its group, which is its own parent; it is changed, and is so again.
        threshold: the cosine from which two are joined.
    """
    for top in range(0, len(vectors), _BLOCK):
        rows = vectors[top : top + _BLOCK]
        for left in range(top, len(vectors), _BLOCK):
            near = torch.nonzero(rows @ vectors[left : left + _BLOCK].T >= threshold).numpy()
            _join(parent, indices[top + near[:, 0]], indices[left + near[:, 1]])


def _join(parent: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    """Make one group of the groups of each pair: in rounds, for thousands of alike pictures make millions of pairs."""
    while True:
        one, other = parent[ones], parent[others]
        apart = one != other
        if not apart.any():
            return
        np.minimum.at(parent, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while not np.array_equal(grandparent := parent[parent], parent):
            parent[:] = grandparent
