"""`vitrail.search`: the pictures of an indexed folder that are nearest to words, to a picture, or to both."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import Source, printable
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.tasks.changes import Changes, scan
from vitrail.tasks.hits import PictureFacts, draw_sheet
from vitrail.tasks.maker import folder_of, image_vectors, network_for
from vitrail.tasks.store import Store, clamp_time, quoted

COMPARED = 10_000
"""A folder of up to so many pictures is compared with its index at every search, which takes a fraction of a second."""


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        rank: 1 for the nearest.
        score: the cosine of its vector and the one that was searched for, in [-1, 1].
        picture: which it is.
    """

    rank: int
    score: float
    picture: PictureFacts

    def to_dict(self) -> dict[str, Any]:
        """{"rank": …, "score": …, "path": …, "size": …, "modified": …, "width": …, "height": …}."""
        return {"rank": self.rank, "score": self.score, **self.picture.to_dict()}


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        folder: where it searched.
        query: the words, or None.
        images: the pictures that it was shown.
        model: the network whose vectors were compared.
        hits: nearest first.
        outdated: how many pictures have been added, changed or deleted since the folder was indexed; None for a folder
            too large to be compared with its index in passing.
    """

    folder: Path
    query: str | None
    images: tuple[str, ...]
    model: str
    hits: tuple[Hit, ...]
    outdated: int | None = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"folder": …, "query": …, "images": […], "model": …, "outdated": …, "hits": [{…}, …]}."""
        return {
            "folder": str(self.folder),
            "query": self.query,
            "images": list(self.images),
            "model": self.model,
            "outdated": self.outdated,
            "hits": [hit.to_dict() for hit in self.hits],
        }

    def __str__(self) -> str:
        if not self.hits:
            return "nothing found"
        digits = len(str(len(self.hits)))
        return "\n".join(
            f"{hit.rank:{digits}}  {hit.score:6.3f}  {printable(str(hit.picture.path))}" for hit in self.hits
        )

    def draw(self, cell: int = 240) -> Image.Image:
        """A contact sheet, RGB: each picture with its rank, score and path; one that is not there any more is blank.

        Args:
            cell: the longer edge of a picture on it, in pixels.

        Raises:
            VitrailError: nothing was found.
        """
        if not self.hits:
            raise VitrailError("there is no contact sheet of nothing: the search has found no picture")
        asked = " + ".join([*([f'"{self.query}"'] if self.query else []), *map(os.path.basename, self.images)])
        captions = [f"{hit.rank}.  {hit.score:.3f}\n{hit.picture.path.name}" for hit in self.hits]
        return draw_sheet([hit.picture for hit in self.hits], captions, title=asked, cell=cell)


def search(
    query: str | None = None,
    folder: str | os.PathLike = ".",
    *,
    images: Source | Iterable[Source] = (),
    count: int = 10,
    path: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    after: str | date | None = None,
    before: str | date | None = None,
    model: str | os.PathLike | Model | None = None,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> Found:
    """Find the pictures of a folder that `index` has seen which are nearest to words, to pictures, or to the sum.

    Args:
        query: words, for a network that understands them.
        folder: the indexed folder.
        images: pictures to search by: one or many of what `vitrail.embed` takes.
        count: how many to find, at the most.
        path: only pictures whose path in the folder is like this, where * stands for any letters, slashes too, and ?
            for one: "holiday/*".
        min_size: only files of at least so many bytes.
        max_size: only files of at most so many bytes.
        after: only files modified then or later: a date, or an ISO text of a date or a time, here where no zone is
            named.
        before: only files modified earlier than this.
        model: by default the network that the folder was indexed with, and no other can be named; a loaded one saves
            loading it.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Raises:
        UsageError: neither words nor pictures, a `count` below 1, a date that is none, or words for a network that
            does not understand them.
        ImageError: a picture to search by cannot be opened.
        VitrailError: the folder has no index, or one that cannot be read; or it was made with another network.
    """
    if count < 1:
        raise UsageError(f"there must be at least 1 picture to find, not {count}")
    where = condition(path=path, min_size=min_size, max_size=max_size, after=after, before=before)
    folder = folder_of(folder)
    shown = find_inputs(images)
    if not (query or shown):
        raise UsageError("there is nothing to search by: give words, a picture (--image), or both")
    store = Store.open(folder)
    network = network_for(store, model, engine, device)
    vector = query_vector(network, query or None, shown, allow_private)
    near = store.nearest(vector, count, where)
    hits = [Hit(rank, found.score, PictureFacts.of(folder, found)) for rank, found in enumerate(near, start=1)]
    outdated = len(Changes.since(store, scan(folder))) if len(store) <= COMPARED else None
    return Found(folder, query or None, tuple(i.name for i in shown), store.maker.name, tuple(hits), outdated)


def query_vector(model: Model, words: str | None, images: Sequence[Input], allow_private: bool = False) -> np.ndarray:
    """What is searched for: the sum of the words' and the pictures' vectors, each of length 1, scaled to length 1.

    Args:
        model: the network.
        words: or None.
        images: pictures; at least one where there are no words.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        (D,) float32.

    Raises:
        UsageError: words for a network that does not understand them.
        ImageError: a picture cannot be opened.
    """
    vectors = []
    weights = next(model.parameters())
    with torch.inference_mode():
        if words is not None:
            if not isinstance(model, ImageText):
                raise UsageError(
                    "the folder was indexed with a network that does not understand words: search by a picture "
                    "(--image), or index the folder anew with one that does, such as openai/clip-vit-base-patch32"
                )
            vectors.append(model.encode_text([words], normalize=True).float().cpu())
        for input in images:
            prepared = model.preprocess(input.open(allow_private))
            vectors.append(image_vectors(model, prepared.to(weights.device, weights.dtype)))
        return torch.nn.functional.normalize(torch.cat(vectors).sum(0), dim=0).numpy()


def condition(
    *,
    path: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    after: str | date | None = None,
    before: str | date | None = None,
) -> str | None:
    """What `search` filters by, as a condition in SQL; None for no filter.

    Raises:
        UsageError: a date that is none.
    """
    parts = []
    if path is not None:
        parts.append(f"path LIKE {quoted(_like(path))}")
    if min_size is not None:
        parts.append(f"size >= {int(min_size)}")
    if max_size is not None:
        parts.append(f"size <= {int(max_size)}")
    if after is not None:
        parts.append(f"modified >= to_timestamp_nanos({_nanoseconds(after)})")
    if before is not None:
        parts.append(f"modified < to_timestamp_nanos({_nanoseconds(before)})")
    return " AND ".join(parts) or None


def _like(pattern: str) -> str:
    """A pattern with * and ? as SQL's LIKE has it."""
    signs = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}
    return "".join(signs.get(sign, sign) for sign in pattern)


def _nanoseconds(moment: str | date) -> int:
    """A date, a time, or an ISO text of one, as nanoseconds since 1970 (UTC)."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise UsageError(f"'{moment}' is no date: write it as 2024-05-31 or 2024-05-31T18:30") from None
    elif not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        try:
            moment = moment.astimezone()
        except (ValueError, OverflowError, OSError):  # so early or late that the system knows no zone then
            moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return clamp_time((since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000)
