"""Graphs that were converted for a network, kept so that the next process need not convert them."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.engines.cache import cache_folder, fingerprint
from vitrail.engines.entries import Entry, Run
from vitrail.engines.exported import Graph
from vitrail.engines.machine import versions
from vitrail.errors import VitrailError
from vitrail.files import appearing
from vitrail.models.model import Model


class ConvertedEntry(Entry):
    """A method whose graph another program runs. A graph that passed its first comparison is kept in the cache."""

    unkept: Any = None

    @abstractmethod
    def read(self, folder: Path) -> Any:
        """The graph that is kept in a folder; None where there is none that can be read."""

    @abstractmethod
    def convert(self, images: Tensor) -> Any:
        """The graph for pictures of this size.

        Raises:
            VitrailError: there is none.
        """

    @abstractmethod
    def running(self, graph: Any) -> Run:
        """What runs a graph."""

    @abstractmethod
    def write(self, graph: Any, folder: Path) -> None:
        """Write a graph into an empty folder."""

    def graph(self, images: Tensor) -> Graph:
        """The method, for pictures of this size."""
        example = images[:1].expand(2, -1, -1, -1).contiguous()
        return Graph(getattr(type(self.model), self.name), {"images": example}, (self.name,))

    @property
    def kind(self) -> str:
        """What tells this engine's graphs from others of the network."""
        return self.engine

    def make(self, images: Tensor) -> Run:
        """Of what was kept, or else of what is converted now."""
        graph = self.read(self._folder(images))
        if graph is not None:
            with suppress(Exception):  # broken on disk, which runtimes have a dozen errors for: it is converted again
                return self.running(graph)
        graph = self.unkept = self.convert(images)
        return self.running(graph)

    def checked(self, images: Tensor) -> Run:
        """As every entry's; then the graph is kept. Where the cache cannot be written it is converted in each process.

        Raises:
            VitrailError: there is none, or it says something else.
        """
        run = super().checked(images)
        if self.unkept is not None:
            graph, self.unkept = self.unkept, None
            keep(self._folder(images), lambda folder: self.write(graph, folder))
        return run

    def _folder(self, images: Tensor) -> Path:
        return kept_folder(self.model, self.name, tuple(images.shape[1:]), self.kind)


def kept_folder(model: Model, name: str, size: tuple[int, ...], kind: str) -> Path:
    """Where the graph of a method is kept, or would be.

    Args:
        model: the network; all of its weights are read.
        name: the method's.
        size: (C, H, W) of the pictures.
        kind: what the graph is: "openvino", "openvino-int8", "onnx".
    """
    made_by = "-".join(f"{version}" for version in versions().values())
    return cache_folder() / "engines" / fingerprint(model) / made_by / f"{name}-{'x'.join(map(str, size))}-{kind}"


def keep(folder: Path, write: Callable[[Path], object]) -> bool:
    """Write a folder whole, in the place of what is there; False where it cannot be written, which breaks nothing.

    Args:
        folder: where.
        write: given an empty folder, writes into it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with appearing(folder) as scratch:
            scratch.mkdir()
            write(scratch)
            if folder.is_dir():
                for path in folder.iterdir():
                    path.unlink()
        return True
    except (OSError, VitrailError):
        return False
