"""What is shown while a picture is made: a bar on standard error, and every few steps the picture so far."""

import os
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vitrail.cli import terminal
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.tasks.generate import Step

TIMES = 5
"""How often the picture so far is shown, where nobody says otherwise."""

_kitty_numbers = iter(range(os.getpid() % 2**16 * 2**8 + 1, 2**31))
"""What the pictures of this process are called: other numbers than those of pictures that stand there already."""


class Watching:
    """Called after every step; shows it where somebody sees it.

    Args:
        pictures: how many will be made.
        preview: a file for the picture so far.
        every: steps between two looks at it, 0 for none; None for `TIMES` looks a picture.

    Raises:
        UsageError: `every` is below 0.
    """

    def __init__(self, pictures: int, preview: Path | None, every: int | None) -> None:
        if every is not None and every < 0:
            raise UsageError(f"the picture is shown every so many steps, or with 0 never; not every {every}")
        self.pictures = pictures
        self.preview = preview
        self.every = every
        self.protocol = terminal.protocol_of(sys.stderr)
        self.begun = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        """From here on, what a network warns of a prompt is a note, said once."""
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.filterwarnings("always", message="the prompt ")
        other, said = warnings.showwarning, set[str]()

        def show(message: Warning | str, *about: Any, **more: Any) -> None:
            if not str(message).startswith("the prompt "):
                other(message, *about, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(f"Note: {message}", file=sys.stderr)

        warnings.showwarning = show
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._caught.__exit__(kind, error, trace)
        self.close()

    def __call__(self, step: "Step") -> None:
        """One step more."""
        if step.number == 1:
            self.close()
            self.begun += 1
            self._start(step.total)
        if self._bar is not None:
            self._bar.update(self._task, completed=step.number, total=step.total)
            self._bar.refresh()
        every = max(1, step.total // TIMES) if self.every is None else self.every
        if every and (step.number % every == 0 or step.number == step.total):
            self._look(step)

    def close(self) -> None:
        """Take the bar away; what comes next may be printed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, total: int) -> None:
        if self.protocol is not None and self.every != 0:
            self._number = next(_kitty_numbers)
            sys.stderr.write(terminal.room())
            sys.stderr.flush()
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        # Drawn only when told: or its thread would write into the codes of a picture.
        self._bar = Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,  # or it would take the codes for text
        )
        self._bar.start()
        which = f"picture {self.begun} of {self.pictures}" if self.pictures > 1 else "steps"
        self._task = self._bar.add_task(which, total=total)

    def _look(self, step: "Step") -> None:
        if self.preview is None and self.protocol is None:
            return
        picture = step.picture()
        if self.preview is not None:
            from vitrail.imaging.save import save_picture

            save_picture(picture, self.preview)
        if self.protocol is not None:
            sys.stderr.write(terminal.above(terminal.picture_codes(picture, self.protocol, self._number)))
            sys.stderr.flush()
