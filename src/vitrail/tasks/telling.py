"""What a network that writes adds to a report: a description, and answers to what was asked."""

from dataclasses import dataclass

from vitrail.errors import ImageError
from vitrail.imaging.inputs import Input
from vitrail.imaging.open import Picture, printable
from vitrail.models.language_model import LanguageModel, Turn
from vitrail.tasks.ask import Answer, Asking
from vitrail.tasks.caption import Caption
from vitrail.tasks.models import engine_of, name_of
from vitrail.tasks.talk import Request, write_about
from vitrail.text.decoding import Decoding


@dataclass(frozen=True)
class Talk:
    """A network that writes, and what it is asked about every picture.

    Attributes:
        model: the network.
        language: of the description.
        questions: what is asked besides.

    Raises:
        UsageError: a question is empty, or the network cannot do this.
    """

    model: LanguageModel
    language: str
    questions: tuple[Asking, ...]

    def __post_init__(self) -> None:
        for request in self._requests:
            request.check(self.model)

    @property
    def _requests(self) -> list[Request]:
        """For the description, and for each question."""
        described = Request((Turn("", 1),), language=self.language)
        return [described, *(asked.request(self.model, Decoding()) for asked in self.questions)]

    def about(self, picture: Picture) -> tuple[Caption, tuple[Answer, ...]]:
        """What it writes about a picture.

        Raises:
            ImageError: it cannot run on it.
        """
        try:
            described, *answers = [write_about(picture, self.model, request) for request in self._requests]
        except (ValueError, RuntimeError, MemoryError) as error:
            reason = str(error).strip().partition("\n")[0] or "out of memory"
            raise ImageError(
                f"{printable(picture.name)}: '{name_of(self.model)}' cannot run on it ({reason})."
            ) from error
        name, engine, source = name_of(self.model), engine_of(self.model), Input(picture.image, picture.name)
        return Caption(picture.name, name, engine, described, self.language, source), tuple(
            Answer(picture.name, name, engine, asked.question, text, asked.language, source)
            for asked, text in zip(self.questions, answers, strict=True)
        )
