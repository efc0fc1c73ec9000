"""What is shown while many inputs are worked through: results on standard output, the rest on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vitrail.cli.door import fail

if TYPE_CHECKING:
    from vitrail.imaging.inputs import Input
    from vitrail.models.model import Model

FEW = 8
"""Up to so many inputs are done before a progress bar would be of use."""


class Result(Protocol):
    """What every verb gives back."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


Shown = TypeVar("Shown", bound=Result)


class Report:
    """Shows results as they come, and remembers whether one failed.

    Args:
        total: how many there will be.
        as_json: one JSON object a line, for failures too.
        silent: say nothing of a result that is no failure (it goes to a file).
    """

    def __init__(self, total: int, *, as_json: bool, silent: bool = False) -> None:
        self.total = total
        self.as_json = as_json
        self.silent = silent
        self.failed = 0

    @property
    def exit_code(self) -> int:
        """1 when an input failed."""
        return 1 if self.failed else 0

    def follow(self, results: Iterator[Shown]) -> Iterator[Shown]:
        """The same results, each shown before it is handed on."""
        from vitrail.tasks.batches import Failure

        with self._progress() as advance:
            for result in results:
                if isinstance(result, Failure):
                    self.failed += 1
                    fail(result.error)
                if self.as_json:
                    print_json(result.to_dict())
                elif not self.silent and not isinstance(result, Failure):
                    print(result, flush=True)
                advance()
                yield result

    def show(self, results: Iterator[Shown]) -> int:
        """Show them all; gives the exit code back."""
        for _ in self.follow(results):
            pass
        return self.exit_code

    @contextmanager
    def _progress(self) -> Iterator[Callable[[], None]]:
        """A bar on standard error, where somebody sees it and it would not run into the results."""
        scrolling = sys.stdout.isatty() and (self.as_json or not self.silent)
        if self.total <= FEW or scrolling or not sys.stderr.isatty():
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
            task = bar.add_task("", total=self.total)
            yield lambda: bar.advance(task)


def show_whole(result: Result, failures: Iterable[Any], *, as_json: bool) -> int:
    """Show one result of many inputs, and what could not be done on standard error; gives the exit code back."""
    failed = [fail(failure.error) for failure in failures]
    if as_json:
        print_json(result.to_dict())
    else:
        print(result)
    return 1 if failed else 0


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """For work in named steps: told what is being done, how much of it is done, how much there is."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield advance


def settled(network: "Model", found: Sequence["Input"], batch_size: int) -> None:
    """Measure engines first, where there is so much to do that this pays; and say so on standard error."""
    from vitrail.tasks.settle import settle

    with progress_bar() as progress:
        tuning = settle(network, found, batch_size, progress)
    if tuning is not None:
        print(
            f"Note: for {len(found):,} pictures engines were measured first, and auto is {tuning.engine} from now on "
            f"(vitrail tune {tuning.model} shows the table)",
            file=sys.stderr,
        )


def print_json(content: dict[str, Any]) -> None:
    """One line of JSON on standard output, there at once; letters it cannot write are escaped as JSON escapes them."""
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        line = json.dumps(content)
    print(line, flush=True)
