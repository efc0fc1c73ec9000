"""The folder that a training run leaves behind."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import UsageError, VitrailError
from vitrail.files import appearing
from vitrail.text.tokenizer import Tokenizer
from vitrail.training.checkpoint import checkpoints
from vitrail.training.recipe import Recipe, load_recipe

_FREE = {"workers", "log_every", "evaluation", "checkpoint"}
"""Keys of a recipe that change nothing in the numbers of its training."""


@dataclass(frozen=True)
class Run:
    """A run that has come to its end.

    Attributes:
        folder: holds recipe.yaml, model.safetensors, metrics.jsonl, and the folders checkpoints, tensorboard and
            samples; and tokenizer.json where texts were read.
        name: the recipe's.
        steps: updates that were made.
        split: what the scores are scores on.
        scores: by name, as the objective defines them.
    """

    folder: Path
    name: str
    steps: int
    split: str
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The trained network, for `vitrail.load`."""
        return self.folder / MODEL

    def to_dict(self) -> dict[str, Any]:
        """{"run": …, "model": …, "steps": …, "split": …, "scores": {…}}."""
        return {
            "run": str(self.folder),
            "model": str(self.model),
            "steps": self.steps,
            "split": self.split,
            "scores": self.scores,
        }

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {score:.3f}" for name, score in self.scores.items())
        return f"{self.name}: {scores} on {self.split} after {self.steps} steps\n{self.model}"


MODEL = "model.safetensors"


class RunFolder:
    """The files of a run, while it is going on.

    Args:
        path: where they are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"
        self.metrics = path / "metrics.jsonl"
        self.recipe = path / "recipe.yaml"
        self.model = path / MODEL
        self.tokenizer = path / "tokenizer.json"

    def check(self, recipe: Recipe | None) -> None:
        """Refuse a folder that holds something else, and to go on with a run of another recipe.

        Args:
            recipe: what to go on with; None where any run will be discarded.

        Raises:
            UsageError: the folder holds such a run, or other things.
        """
        if not self.recipe.is_file():
            if self.path.exists() and not (self.path.is_dir() and self._empty()):
                raise UsageError(f"{self.path} is there already and holds no run: name another folder")
        elif recipe is not None:
            theirs, ours = _numbers(load_recipe(self.recipe)), _numbers(recipe)
            for key in theirs | ours:
                if theirs.get(key) != ours.get(key):
                    raise UsageError(
                        f"{self.path} holds a run of another recipe ({key} is {theirs.get(key)} there and "
                        f"{ours.get(key)} here): name another folder, or start over"
                    )

    def start(self, recipe: Recipe) -> None:
        """Write the recipe, every default spelled out.

        Raises:
            VitrailError: the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with appearing(self.recipe) as scratch:  # first: it is what tells a run's folder from another
                scratch.write_text(recipe.to_yaml(), encoding="utf-8")
            for folder in (self.checkpoints, self.samples, self.tensorboard):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise VitrailError(f"the run's folder {self.path} cannot be written ({error.strerror or error})") from None

    def write_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Keep the tokenizer of the run's texts, so that every process, and a resumed run, has the same."""
        with appearing(self.tokenizer) as scratch:
            scratch.write_text(tokenizer.to_json(), encoding="utf-8")

    def read_tokenizer(self) -> Tokenizer:
        """What `write_tokenizer` wrote.

        Raises:
            VitrailError: it is not there any more, or damaged.
        """
        try:
            return Tokenizer.from_json(self.tokenizer.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise VitrailError(f"the run's {self.tokenizer} cannot be read ({error}): start over") from None

    def latest(self) -> Path | None:
        """The newest whole checkpoint."""
        return next(reversed(checkpoints(self.checkpoints)), None)

    def forget_after(self, step: int) -> None:
        """Drop the metrics of updates that a killed run made after its last checkpoint: they will be made again."""
        if self.metrics.is_file():
            kept = [json.dumps(entry) for entry in self.entries() if entry["step"] <= step]
            with appearing(self.metrics) as scratch:
                scratch.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def log(self, entry: dict[str, Any]) -> None:
        """Add a line of metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> Iterator[dict[str, Any]]:
        """The lines of metrics; one that was cut off by a kill is skipped."""
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def start_over(self) -> None:
        """Remove what a run left, and nothing else."""
        for path in (*self.checkpoints.glob("*step-*"), self.metrics, self.model, self.tokenizer):
            path.unlink(missing_ok=True)
        for folder, pattern in ((self.samples, "step-*.png"), (self.tensorboard, "events.*")):
            for path in folder.glob(pattern):
                path.unlink()

    def _empty(self) -> bool:
        """Whether there is nothing but what a killed process had only begun to write."""
        return all(path.name.startswith(".") for path in self.path.iterdir())


def _numbers(recipe: Recipe) -> dict[str, Any]:
    """What the numbers of a recipe's training depend on, with dotted keys."""
    return _flat(recipe.model_dump(mode="json", exclude=_FREE))


def _flat(keys: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in keys.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
