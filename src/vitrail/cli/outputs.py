"""Where pictures that were made go, and what is said of each."""

import os
from itertools import count as counted
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from vitrail.cli.door import fail as say
from vitrail.cli.report import print_json
from vitrail.cli.watching import Watching
from vitrail.errors import UsageError, VitrailError

if TYPE_CHECKING:
    from PIL import Image

    from vitrail.tasks.batches import Failure
    from vitrail.tasks.generate import Made


class Saveable(Protocol):
    """A picture, a strip or a film that knows how to write itself."""

    def save(self, path: Path) -> None:
        """Write it to a file, in the format of its ending."""


class Places:
    """The files that pictures go to.

    What the user named is replaced; what is named after a prompt or a picture never takes the place of another file.

    Args:
        output: a file, a folder (what has no ending, or is one), or None for files named after what they show.
        inputs: of so many prompts or pictures.
        each: so many pictures each.
        endings: what the file may end in beside .png, .jpg and .webp.

    Raises:
        UsageError: a file of no format that pictures are written in, or one file for several inputs.
        VitrailError: there is no such folder, or nothing may be written there.
    """

    def __init__(self, output: Path | None, *, inputs: int, each: int, endings: tuple[str, ...] = ()) -> None:
        self.file = self.folder = None
        self.inputs = inputs
        self.numbers = counted(1) if each > 1 else None
        if output is None:
            return
        if not output.suffix or output.is_dir():
            self.folder = output
        else:
            if inputs > 1:
                raise UsageError(f"the pictures of {inputs} inputs do not go into one file, {output}: name a folder")
            check_file(output, endings)
            self.file = output

    def save(self, picture: Saveable, default: Path) -> Path:
        """Write it to its place, and say which that is.

        Args:
            picture: what to write.
            default: what it is called where the user named no file.

        Raises:
            VitrailError: it cannot be written.
        """
        if self.file is not None:
            path = self.file
            if self.numbers is not None:
                path = path.with_stem(f"{path.stem}-{next(self.numbers)}")
            picture.save(path)
            return path
        path = _new_file(default if self.folder is None else self.folder / default.name)
        try:
            picture.save(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


class Shown:
    """Saves pictures as they come and says where they are; remembers whether something failed.

    Args:
        places: where they go.
        watching: whose bar makes room for what is printed.
        as_json: one JSON object an input, when all of its pictures are there.
    """

    def __init__(self, places: Places, watching: Watching, *, as_json: bool) -> None:
        self.places = places
        self.watching = watching
        self.as_json = as_json
        self.failures: list[Failure] = []
        self.kept: list[tuple[Made, Path]] = []
        self.since: list[dict[str, Any]] = []  # since the last input
        self.input = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Interrupted, it still says what there is of the input at hand."""
        if isinstance(error, KeyboardInterrupt) and self.since:
            self.watching.close()
            self.tell(self.input)

    @property
    def exit_code(self) -> int:
        """1 when an input failed; where it was the only one, 2 for wrong usage."""
        if not self.failures:
            return 0
        return self.failures[0].cause.exit_code if self.places.inputs <= 1 else 1

    def keep(self, made: "Made", default: Path, input: str) -> None:
        """Save one of an input's pictures."""
        self.watching.close()
        path = self.places.save(made, default)
        self.kept.append((made, path))
        self.since.append({**made.recipe.to_dict(), "path": str(path)})
        self.input = input
        if not self.as_json:
            print(f"{path}: seed {made.recipe.seed}", flush=True)

    def tell(self, input: str) -> None:
        """All pictures of this input are there."""
        if self.as_json:
            print_json({"input": input, "pictures": self.since})
        self.since = []

    def fail(self, failure: "Failure") -> None:
        """An input could not be done."""
        self.watching.close()
        self.failures.append(failure)
        say(failure.error)
        if self.as_json:
            print_json(failure.to_dict())


def check_file(path: Path | None, endings: tuple[str, ...] = ()) -> None:
    """Find out before any work is done whether a picture can be written to a file.

    Raises:
        UsageError: it has the ending of no format that pictures are written in, nor one of `endings`.
        VitrailError: its folder is not there, or nothing may be written to it.
    """
    from vitrail.imaging.save import picture_format

    if path is None:
        return
    if path.suffix.lower() not in endings:
        picture_format(path)
    if not path.parent.is_dir():
        raise VitrailError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise VitrailError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'you may not'}")


def save_drawing(drawing: "Image.Image", path: Path, *, quiet: bool) -> None:
    """Write what was drawn, and say so unless told to be `quiet`.

    Raises:
        VitrailError: it cannot be written.
    """
    from vitrail.imaging.save import save_picture

    save_picture(drawing, path)
    if not quiet:
        print(path, flush=True)


def _new_file(path: Path) -> Path:
    """A file that was not there and now is, empty: `path`, or the first that is free of path-2, path-3, …

    Raises:
        VitrailError: it cannot be written.
    """
    for number in counted(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("x").close()
        except FileExistsError as error:
            if path.parent.exists() and not path.parent.is_dir():
                raise VitrailError(f"{path} cannot be written: {path.parent} is no folder") from error
            path = path.with_stem(f"{path.stem if number == 2 else path.stem.rpartition('-')[0]}-{number}")
        except OSError as error:
            raise VitrailError(f"{path} cannot be written ({error.strerror or error})") from None
        else:
            return path
    raise AssertionError("there is always a free number")
