"""How a run is going: a bar on standard error, metrics.jsonl, and TensorBoard."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch.utils.tensorboard import SummaryWriter

from vitrail.training.recipe import Recipe
from vitrail.training.run import RunFolder


class Progress:
    """Shows and writes down what happens, in the main process; nothing in the others.

    Args:
        recipe: of the run.
        folder: of the run.
        step: updates that were made before.
        visible: whether this is the main process.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, step: int, *, visible: bool) -> None:
        self.recipe, self.folder, self.visible, self.first = recipe, folder, visible, step
        self.started = time.monotonic()
        if not visible:
            return
        self.writer = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self.bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}  loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(recipe.name, total=recipe.steps, completed=step, speed="", loss="–")

    def __enter__(self) -> Self:
        if self.visible:
            self.bar.start()
            if self.first:
                self.bar.console.print(f"{self.recipe.name}: going on after step {self.first}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.visible:
            self.bar.stop()
            self.writer.close()

    def advance(self) -> None:
        """An update was made."""
        if self.visible:
            self.bar.advance(self.task)

    def loss(self, step: int, loss: float, rate: float) -> None:
        """The mean loss of the updates up to `step` since it was told last, and the learning rate."""
        if not self.visible:
            return
        seconds = time.monotonic() - self.started
        speed = (step - self.first) * self.recipe.batch_size / seconds
        self.bar.update(self.task, loss=f"{loss:.3f}", speed=f"{speed:.0f} pictures/s")
        self.writer.add_scalar("train/loss", loss, step)
        self.writer.add_scalar("train/learning_rate", rate, step)
        self.writer.add_scalar("train/pictures_per_second", speed, step)
        self.folder.log({"step": step, "loss": loss, "lr": rate})

    def scores(self, step: int, scores: dict[str, float]) -> None:
        """The scores after the update `step`."""
        if not self.visible:
            return
        said = "  ".join(f"{name} {score:.4f}" for name, score in scores.items())
        self.bar.console.print(f"step {step}: {said}")
        for name, score in scores.items():
            self.writer.add_scalar(f"test/{name}", score, step)
        self.folder.log({"step": step, **scores})
