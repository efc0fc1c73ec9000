"""A network that talks, made by hand: it says the last picture's colour, and how often it was asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from tests.reading import word_tokenizer
from vitrail import registry
from vitrail.errors import UsageError
from vitrail.imaging.open import Picture
from vitrail.imaging.preprocess import Preprocess, Resize
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.nn.cache import Cache

WORDS = (
    *("<pad>", "?", "<end>", "<picture>", "<user>", "<model>", "zh", "describe", "shout", "nothing", "!"),
    *("red", "green", "blue", "红", "绿", "蓝", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
)
_END, _PICTURE, _USER, _MODEL, _ZH = (WORDS.index(word) for word in ("<end>", "<picture>", "<user>", "<model>", "zh"))
_RED, _HAN, _ZERO, _NOTHING = (WORDS.index(word) for word in ("red", "红", "0", "nothing"))
_SHOUT, _LOUD = WORDS.index("shout"), WORDS.index("!")


@dataclass(frozen=True)
class ParrotConfig:
    """How much it reads."""

    context: int = 48


class Parrot(LanguageModel):
    """Says "red 2" where the last picture is red and it reads its second question; "red 2 !" after "shout" was read."""

    family: ClassVar[str] = "parrot"
    config: ParrotConfig
    most_pictures: int | None = None

    def __init__(self, config: ParrotConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(len(WORDS), len(WORDS), bias=False)
        nn.init.eye_(self.head.weight)
        self.rows_at_once: list[int] = []

    @property
    def ends(self) -> tuple[int, ...]:
        return (_END,)

    def start(self, pixels: Tensor | None, rows: int = 1) -> Cache:
        cache = Cache(0)
        shown = torch.zeros(rows, 0, 3) if pixels is None else pixels.mean((3, 4))
        cache.memory = {"colours": shown.argmax(2) if shown.shape[1] else torch.zeros(rows, 0, dtype=torch.int64)}
        cache.memory["text"] = torch.zeros(len(shown), 0, dtype=torch.int64)
        self.rows_at_once.append(len(shown))
        return cache

    def read(self, ids: Tensor, cache: Cache, mask: Tensor | None = None) -> Tensor:
        cache.admit(ids, mask)
        if cache.length > self.config.context:
            raise ValueError(f"a text of {cache.length} tokens is too long: this network reads {self.config.context}")
        cache.memory["text"] = text = torch.cat([cache.memory["text"], ids], 1)
        following = torch.full_like(ids, _END)
        for row, words in enumerate(text.tolist()):
            following[row, -1] = self._after(words, cache.memory["colours"][row].tolist())
        return nn.functional.one_hot(following, len(WORDS)).float()

    def _after(self, words: list[int], colours: list[int]) -> int:
        last = words[-1]
        if last == _MODEL:
            if not colours:
                return _NOTHING
            return (_HAN if _ZH in words else _RED) + colours[words.count(_PICTURE) - 1]
        if _RED <= last < _ZERO or last == _NOTHING:
            return _ZERO + words.count(_USER) % 10
        return _LOUD if last >= _ZERO and _SHOUT in words else _END

    def prompt(self, turns: Sequence[Turn], pictures: Sequence[Picture], language: str = "en") -> Prompt:
        assert self.tokenizer is not None
        assert sum(turn.pictures for turn in turns) == len(pictures)
        ids = [_ZH] if language == "zh" else []
        for turn in turns:
            ids += [_USER if turn.by == "user" else _MODEL, *[_PICTURE] * turn.pictures]
            ids += self.tokenizer.plain(turn.text or "describe")
        if len(ids) + 1 >= self.config.context:
            raise UsageError(f"{len(ids)} words leave no room: this network reads {self.config.context}")
        pixels = self.preprocess(list(pictures))[None] if pictures else None
        return Prompt(pixels, torch.tensor([[*ids, _MODEL]]))


def parrot(context: int = 48) -> Parrot:
    """The network, ready to talk."""
    model = Parrot(ParrotConfig(context)).eval()
    model.preprocess = Preprocess(Resize((8, 8)), mean=None, std=None)
    model.tokenizer = word_tokenizer(WORDS, context=context)
    return model


def register() -> None:
    """Let `vitrail.load` know the family, in this process."""
    registry.FAMILIES["parrot"] = registry.Family(
        "parrot", "Parrot", "nobody", "tests.parrot:Parrot", "tests.parrot:ParrotConfig", ()
    )


def saved_parrot(folder: Path, context: int = 48) -> str:
    """It in a `.safetensors` file; its name. The family must be registered."""
    return str(vitrail.save(parrot(context), folder / f"parrot-{context}.safetensors"))


def plain(colour: str, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """A picture of one colour; green is "lime" to Pillow."""
    return Image.new("RGB", size, colour)
