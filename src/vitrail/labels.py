"""The names of ImageNet's classes."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_labels() -> tuple[str, ...]:
    """The thousand classes of ImageNet-1k (ILSVRC 2012) in their usual order, each by its first WordNet name."""
    return tuple(files("vitrail").joinpath("imagenet-1k.txt").read_text(encoding="utf-8").splitlines())
