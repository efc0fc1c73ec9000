"""Data sets of the `datasets` library as a source of training data."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.source import Batch, Data, scaling, to_tensor
from vitrail.errors import UsageError, VitrailError
from vitrail.settings import Section


class DatasetSection(Section):
    """A data set of the `datasets` library: local Parquet or Arrow files, a folder saved with it, or a hub id.

    Attributes:
        path: a hub id, a folder, or a `.parquet` or `.arrow` file.
        config: which of a data set's configurations.
        train_split, test_split: its splits; where there is no test split, `test_fraction` of the other is kept for it.
        image: the column of pictures.
        label: the column of classes: numbers, or names.
        test_fraction: see above.
    """

    source: Literal["dataset"]
    path: str
    config: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    image: str = "image"
    label: str = "label"
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def open(self, size: tuple[int, int]) -> Data:
        """Open the data set; its pictures are scaled to `size` = (height, width) as they are looked at."""
        train = self._read(self.train_split)
        if self.test_split is None:
            halves = train.train_test_split(self.test_fraction, seed=0)
            train, test = halves["train"], halves["test"]
        else:
            test = self._read(self.test_split)
        labels = self._labels(train)
        return Data(
            train=Rows(train, self.image, self._targets(train, labels), size),
            test=Rows(test, self.image, self._targets(test, labels), size),
            labels=labels,
            many=False,
            split="held-out rows" if self.test_split is None else f"split {self.test_split}",
        )

    def _read(self, split: str) -> Any:
        """One split, with the two columns that are asked for."""
        datasets = _import_datasets()
        path = Path(self.path).expanduser()
        try:
            if path.suffix in (".parquet", ".arrow") and path.is_file():
                kind = path.suffix.removeprefix(".")
                table = datasets.load_dataset(kind, data_files={split: str(path)}, split=split)
            elif (path / "dataset_dict.json").is_file():
                table = datasets.load_from_disk(str(path))[split]
            elif (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
                table = datasets.load_from_disk(str(path))
            else:
                table = datasets.load_dataset(self.path, self.config, split=split)
        except Exception as error:  # the library raises as it likes: its own, pyarrow's, the hub's
            said = " ".join(str(error).split())[:200]
            raise UsageError(f"data.path: the split '{split}' of '{self.path}' cannot be opened ({said})") from None
        for key, column in (("image", self.image), ("label", self.label)):
            if column not in table.column_names:
                columns = ", ".join(table.column_names)
                raise UsageError(f"data.{key} is '{column}', and the columns of '{self.path}' are {columns}")
        return table.select_columns([self.image, self.label]).cast_column(self.image, datasets.Image())

    def _labels(self, table: Any) -> tuple[str, ...]:
        """The names of the classes: those the data set declares, or all that occur."""
        names = getattr(table.features[self.label], "names", None)
        return tuple(names) if names else tuple(map(str, sorted(set(table[self.label]))))

    def _targets(self, table: Any, labels: tuple[str, ...]) -> Tensor:
        values = table[self.label]
        if getattr(table.features[self.label], "names", None):
            return torch.tensor(list(values))
        number = {label: index for index, label in enumerate(labels)}
        if unknown := {str(value) for value in values} - number.keys():
            raise UsageError(f"data.label: the class '{min(unknown)}' of the test is none of the training's")
        return torch.tensor([number[str(value)] for value in values])


class Rows:
    """Rows with a picture and a class, scaled to one size without regard to their proportions.

    Args:
        table: a `datasets.Dataset`.
        image: the column of pictures.
        targets: (N,) int64, each row's class.
        size: (height, width) in pixels.
    """

    def __init__(self, table: Any, image: str, targets: Tensor, size: tuple[int, int]) -> None:
        self.table, self.image, self.targets, self.scale = table, image, targets, scaling(size)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look."""
        pictures = [self.scale.picture(picture) for picture in self.table[indices.tolist()][self.image]]
        return {"images": to_tensor(pictures), "targets": self.targets[indices]}


def _import_datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise VitrailError("reading data sets needs the library datasets: pip install 'vitrail[train]'") from None
    return datasets
