"""Vitrail: vision foundation models that see, talk and imagine.

Everything here is imported when it is first used: `import vitrail` alone touches neither torch nor a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitrail.errors import CheckpointError, ImageError, UsageError, VitrailError

if TYPE_CHECKING:
    from vitrail.checkpoints.load import load
    from vitrail.checkpoints.lora import apply_lora
    from vitrail.checkpoints.save import convert, save
    from vitrail.tasks.analyze import analyze
    from vitrail.tasks.ask import ask
    from vitrail.tasks.caption import caption
    from vitrail.tasks.chat import chat
    from vitrail.tasks.classify import classify
    from vitrail.tasks.duplicates import duplicates
    from vitrail.tasks.edit import edit
    from vitrail.tasks.embed import embed
    from vitrail.tasks.export import export
    from vitrail.tasks.finetune import finetune
    from vitrail.tasks.generate import generate
    from vitrail.tasks.index import index
    from vitrail.tasks.morph import morph
    from vitrail.tasks.search import search
    from vitrail.tasks.trace import trace
    from vitrail.tasks.tune import tune
    from vitrail.training.loop import evaluate, train

__version__ = "0.1.0"

_LAZY = {
    "load": "vitrail.checkpoints.load",
    "save": "vitrail.checkpoints.save",
    "convert": "vitrail.checkpoints.save",
    "apply_lora": "vitrail.checkpoints.lora",
    "classify": "vitrail.tasks.classify",
    "embed": "vitrail.tasks.embed",
    "analyze": "vitrail.tasks.analyze",
    "caption": "vitrail.tasks.caption",
    "ask": "vitrail.tasks.ask",
    "chat": "vitrail.tasks.chat",
    "generate": "vitrail.tasks.generate",
    "edit": "vitrail.tasks.edit",
    "morph": "vitrail.tasks.morph",
    "trace": "vitrail.tasks.trace",
    "index": "vitrail.tasks.index",
    "search": "vitrail.tasks.search",
    "duplicates": "vitrail.tasks.duplicates",
    "finetune": "vitrail.tasks.finetune",
    "tune": "vitrail.tasks.tune",
    "export": "vitrail.tasks.export",
    "train": "vitrail.training.loop",
    "evaluate": "vitrail.training.loop",
}

__all__ = [
    "CheckpointError",
    "ImageError",
    "UsageError",
    "VitrailError",
    "__version__",
    "analyze",
    "apply_lora",
    "ask",
    "caption",
    "chat",
    "classify",
    "convert",
    "duplicates",
    "edit",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "generate",
    "index",
    "load",
    "morph",
    "save",
    "search",
    "trace",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'vitrail' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
