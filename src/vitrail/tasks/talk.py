"""What caption, ask and chat share: the network that writes, and how a text is had from it."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from vitrail.checkpoints.box import box_names
from vitrail.errors import UsageError
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import Picture, open_picture
from vitrail.models.generator import Generator
from vitrail.models.image_text import ImageText
from vitrail.models.language_model import LanguageModel, Prompt, Turn
from vitrail.models.model import Model
from vitrail.tasks.batches import Failure, prepared_in_batches
from vitrail.tasks.models import get_any_model, name_of
from vitrail.text.decoding import Decoding, generate, stream
from vitrail.text.pieces import stream_text

DEFAULT_TALKER = "emoji/talk-nano"
"""In the box, trained on Emoji World's scenes; it speaks English and Chinese."""

EXAMPLE = "microsoft/git-base-coco"
"""A published network that writes, for sentences that ask for one."""

LANGUAGES = ("en", "zh")
"""What a network may be asked to speak."""

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))
"""Every control code but the tab and the line feed: a terminal would obey them."""


@dataclass(frozen=True)
class Request:
    """What a network is to write.

    Attributes:
        turns: what was said, the user's first and last; the last shows the picture that the text is about.
        pictures: those of the earlier turns.
        language: "en" or "zh".
        decoding: how the text is written.
    """

    turns: tuple[Turn, ...]
    pictures: tuple[Picture, ...] = ()
    language: str = "en"
    decoding: Decoding = field(default_factory=Decoding)

    def prompt(self, model: LanguageModel, *pictures: Picture) -> Prompt:
        """What the network reads, with these as the last turn's pictures.

        Raises:
            UsageError: the network cannot do this.
        """
        return prompt_of(model, self.turns, (*self.pictures, *pictures), self.language)

    def check(self, model: LanguageModel) -> None:
        """Find out before any picture is opened whether the network can do this at all: it is asked about a grey one.

        Raises:
            UsageError: it cannot.
        """
        self.prompt(model, open_picture(Image.new("RGB", (224, 224), "grey")))


def prompt_of(model: LanguageModel, turns: Sequence[Turn], pictures: Sequence[Picture], language: str) -> Prompt:
    """`model.prompt`, and a sentence for a network that has none.

    Raises:
        UsageError: the network cannot do this.
    """
    most = model.most_pictures
    if most is not None and len(pictures) > most:
        raise UsageError(f"'{name_of(model)}' reads {pictures_read(most)}, and not {len(pictures)}")
    try:
        return model.prompt(turns, pictures, language)
    except NotImplementedError:
        raise UsageError(
            f"'{name_of(model)}' goes on with a text and has no form for questions: in Python, call its generate()"
        ) from None


def pictures_read(most: int) -> str:
    """How many pictures a network reads, in words."""
    return {0: "no pictures", 1: "one picture"}.get(most, f"{most} pictures")


def get_talker(
    model: str | os.PathLike | Model | None = None,
    *,
    engine: str = "auto",
    device: str | None = None,
    architecture: str | None = None,
) -> LanguageModel:
    """The network that writes; arguments and errors are `get_any_model`'s. Without a name it is `DEFAULT_TALKER`.

    Raises:
        UsageError: the network does not write; or none is named and there is none in the box.
    """
    if model is None:
        if DEFAULT_TALKER not in box_names():
            raise UsageError(f"name a network that writes, as in --model {EXAMPLE}: there is none in the box")
        model = DEFAULT_TALKER
    network = get_any_model(model, engine=engine, device=device, architecture=architecture)
    if not isinstance(network, LanguageModel):
        can = _what_it_does(network)
        raise UsageError(f"'{name_of(network)}' {can} and writes nothing: use one that does, as in --model {EXAMPLE}")
    if network.tokenizer is None:
        raise UsageError(f"'{name_of(network)}' came without a tokenizer: it can neither read nor write a text")
    return network


def _what_it_does(model: Model) -> str:
    if isinstance(model, ImageText):
        return "compares pictures with words (classify --labels)"
    if isinstance(model, Generator):
        return "makes pictures (generate, edit)"
    return "names what is in pictures or makes vectors of them (classify, embed)"


def check_language(language: str | None) -> None:
    """UsageError for a language that no network here is asked for; None leaves it open."""
    if language is not None and language not in LANGUAGES:
        raise UsageError(f"there is no language '{language}' here: {' or '.join(LANGUAGES)}")


def language_of(text: str) -> str:
    """ "zh" for a text with a Chinese character in it, else "en"."""
    return "zh" if _CHINESE.search(text) else "en"


def checked_question(question: str) -> str:
    """The question without space around it.

    Raises:
        UsageError: there is nothing left.
    """
    question = str(question).strip()
    if not question:
        raise UsageError("the question is empty: ask something")
    return question


def write_each(
    inputs: Sequence[Input],
    model: LanguageModel,
    request: Request,
    *,
    batch_size: int = 8,
    allow_private: bool = False,
) -> Iterator[tuple[Input, str | Failure]]:
    """The same request about every picture; each comes with its text as soon as that is there, in order.

    Pictures whose prompts are the same length in ids and size in pixels share a batch with their neighbours.

    Raises:
        UsageError: `batch_size` below 1, or the network cannot do this.
    """
    request.check(model)

    def run(prompts: list[Prompt]) -> list[str]:
        try:
            return written(model, prompts, request.decoding)
        except UsageError as error:  # the network's own sentence about this picture
            raise ValueError(str(error)) from None

    return prepared_in_batches(
        inputs,
        lambda picture: request.prompt(model, picture),
        lambda prompt: (prompt.ids.shape, None if prompt.pixels is None else prompt.pixels.shape),
        run,
        batch_size=batch_size,
        allow_private=allow_private,
    )


def write_about(picture: Picture, model: LanguageModel, request: Request) -> str:
    """What the network writes about one picture.

    Raises:
        UsageError: it cannot do this.
    """
    with torch.inference_mode():
        (text,) = written(model, [request.prompt(model, picture)], request.decoding)
    return text


def written(model: LanguageModel, prompts: Sequence[Prompt], decoding: Decoding) -> list[str]:
    """What the network writes behind each of several prompts of one shape.

    Raises:
        UsageError: they leave no room for an answer, or decoding makes no sense.
    """
    together = _on_device(model, prompts)
    ids = generate(model, together.pixels, together.ids, _with_stops(model, decoding))
    return [_text(model, row) for row in ids[:, together.ids.shape[1] :].tolist()]


def pieces(model: LanguageModel, prompt: Prompt, decoding: Decoding) -> Iterator[str]:
    """What the network writes behind a prompt, as it comes; with beams it comes all at once.

    Raises:
        UsageError: as `written`; at once, not with the first piece.
    """
    if decoding.num_beams > 1:
        return iter(written(model, [prompt], decoding))
    prompt, decoding = _on_device(model, [prompt]), _with_stops(model, decoding)
    return _trimmed(_said(model, stream(model, prompt.pixels, prompt.ids, decoding)))


def _text(model: LanguageModel, ids: Sequence[int]) -> str:
    """One row of what was written, up to its end."""
    end = next((place for place, token in enumerate(ids) if token in model.ends), len(ids))
    return "".join(_trimmed(_said(model, ids[:end])))


def _said(model: LanguageModel, ids: Iterable[int]) -> Iterator[str]:
    assert model.tokenizer is not None  # get_talker saw to it
    return stream_text(ids, model.tokenizer, model.stop)


def _trimmed(said: Iterable[str]) -> Iterator[str]:
    """A text in pieces, without space around all of it and without control codes."""
    space = None  # what may turn out to stand at the end; None before the text has begun
    for piece in said:
        piece = piece.translate(_CONTROL)
        body = piece.strip()
        if body:
            before = piece[: len(piece) - len(piece.lstrip())]
            yield ("" if space is None else space + before) + body
            space = piece[len(piece.rstrip()) :]
        elif space is not None:
            space += piece


def _with_stops(model: LanguageModel, decoding: Decoding) -> Decoding:
    return replace(decoding, stop=(*decoding.stop, *model.stop))


def _on_device(model: LanguageModel, prompts: Sequence[Prompt]) -> Prompt:
    """Prompts of one shape as one batch, where the network is."""
    weights = next(model.parameters())
    ids = torch.cat([prompt.ids for prompt in prompts]).to(weights.device)
    pixels = [prompt.pixels for prompt in prompts if prompt.pixels is not None]
    return Prompt(torch.cat(pixels).to(weights.device, weights.dtype) if pixels else None, ids)
