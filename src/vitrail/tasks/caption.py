"""`vitrail.caption`: what a network says about a picture, unasked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from vitrail.imaging import draw
from vitrail.imaging.inputs import Input, find_inputs
from vitrail.imaging.open import printable
from vitrail.models.language_model import LanguageModel, Turn
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, one_or_all
from vitrail.tasks.models import engine_of, name_of
from vitrail.tasks.talk import Request, check_language, get_talker, write_each
from vitrail.text.decoding import Decoding


@dataclass(frozen=True)
class Caption:
    """A picture in words.

    Attributes:
        input: what the user would recognise the picture by.
        model: the network's name.
        engine: how it ran.
        text: what it wrote.
        language: that it was asked for, "en" or "zh".
        source: where the picture is, for `draw`.
    """

    input: str
    model: str
    engine: str
    text: str
    language: str
    source: Input = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "model": …, "engine": …, "language": …, "text": …}."""
        return {
            "input": self.input,
            "model": self.model,
            "engine": self.engine,
            "language": self.language,
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"{printable(self.input)}\n  {self.text}"

    def draw(self, *, allow_private: bool = False) -> Image.Image:
        """The picture, opened again, with its caption below, RGB.

        Raises:
            ImageError: the picture cannot be opened any more.
        """
        return draw.sheet([self.source.open(allow_private).image], [self.text], cell=480)


def caption(
    images: Any,
    *,
    language: str = "en",
    max_new_tokens: int = 64,
    num_beams: int = 1,
    temperature: float | None = None,
    seed: int | None = None,
    model: str | Model | None = None,
    batch_size: int = 8,
    engine: str = "auto",
    device: str | None = None,
    allow_private: bool = False,
) -> "Caption | list[Caption | Failure]":
    """Describe a picture, or many, in a sentence.

    Args:
        images: a path, an http(s) URL, "-" for standard input, encoded bytes, a PIL image, an array (H, W[, C]); or
            many: a list or tuple of these, a folder, or a pattern ("photos/*.jpg").
        language: "en" for English, "zh" for Chinese, where the network speaks it.
        max_new_tokens: the most tokens a caption has.
        num_beams: above 1 to search for the likeliest caption among so many.
        temperature: above 0 to draw tokens by their probability instead of taking the likeliest.
        seed: of what is drawn; a batch shares it.
        model: what `vitrail.load` takes, or a loaded network; emoji/talk-nano unless said, which knows scenes of emoji
            and no photographs.
        batch_size: the most pictures that go through the network at once.
        engine: how the network runs.
        device: where it runs.
        allow_private: fetch URLs from addresses that are not public, too.

    Returns:
        For one picture its Caption; for many a list, with a Failure in the place of each that could not be done.

    Raises:
        UsageError: a number is out of its range; the network does not write, or not captions, or not this language.
        CheckpointError: the network cannot be loaded.
        ImageError: the one picture cannot be opened, or the network cannot run on it.
    """
    decoding = Decoding(max_new_tokens, num_beams, temperature=temperature, seed=seed)
    check_language(language)
    network = get_talker(model, engine=engine, device=device)
    inputs = find_inputs(images)
    results = caption_each(
        inputs, network, decoding, language=language, batch_size=batch_size, allow_private=allow_private
    )
    return one_or_all(images, inputs, results)


def caption_each(
    inputs: Sequence[Input],
    model: LanguageModel,
    decoding: Decoding | None = None,
    *,
    language: str = "en",
    batch_size: int = 8,
    allow_private: bool = False,
) -> Iterator[Caption | Failure]:
    """`caption` for a stream: each input's result as soon as it is there, in order, however many there are.

    Raises:
        UsageError: `batch_size` below 1; or the network writes no captions, or not in this language.
    """
    check_language(language)
    request = Request((Turn("", 1),), language=language, decoding=decoding or Decoding())
    results = write_each(inputs, model, request, batch_size=batch_size, allow_private=allow_private)
    name, engine = name_of(model), engine_of(model)
    return (
        result if isinstance(result, Failure) else Caption(input.name, name, engine, result, language, input)
        for input, result in results
    )
