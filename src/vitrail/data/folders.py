"""A folder of class folders as a source of training data."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitrail.data.source import Batch, Data, scaling, to_tensor
from vitrail.errors import UsageError
from vitrail.imaging.inputs import PICTURE_ENDINGS
from vitrail.imaging.open import open_picture
from vitrail.settings import Section


class FolderSection(Section):
    """A folder with a folder of pictures for each class.

    Attributes:
        path: the folder. Where it has the subfolders "train" and "test" (or "val", "validation"), those are the two
            parts.
        test_fraction: where it has not, the fraction of each class's pictures that is kept for the test.
    """

    source: Literal["folder"]
    path: str
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def open(self, size: tuple[int, int]) -> Data:
        """List the pictures, to be scaled to `size` = (height, width) as they are looked at."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise UsageError(f"data.path names {root}, which is no folder")
        other = next((root / name for name in ("test", "val", "validation") if (root / name).is_dir()), None)
        if (root / "train").is_dir() and other:
            labels = _class_names(root / "train")
            train, test = _listed(root / "train", labels), _listed(other, labels)
        else:
            labels = _class_names(root)
            train, test = _parted(_listed(root, labels), len(labels), self.test_fraction)
        if not train or not test:
            raise UsageError(f"data.path names {root}, which has too few pictures to train and to test on")
        return Data(Files(train, size), Files(test, size), labels, many=False, split="held-out pictures")


class Files:
    """Picture files with a class each, scaled to one size without regard to their proportions.

    Args:
        files: path and class of each.
        size: (height, width) in pixels.
    """

    def __init__(self, files: list[tuple[str, int]], size: tuple[int, int]) -> None:
        self.paths = [path for path, _ in files]
        self.targets = torch.tensor([target for _, target in files])
        self.scale = scaling(size)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor, generator: torch.Generator | None) -> Batch:
        """See `Source`; nothing varies from look to look.

        Raises:
            ImageError: a picture cannot be opened.
        """
        pictures = [self.scale.picture(open_picture(self.paths[index])) for index in indices.tolist()]
        return {"images": to_tensor(pictures), "targets": self.targets[indices]}


def _class_names(root: Path) -> tuple[str, ...]:
    names = tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")))
    if len(names) < 2:
        raise UsageError(f"data.path names {root}, which has no folders of at least two classes")
    return names


def _listed(root: Path, labels: tuple[str, ...]) -> list[tuple[str, int]]:
    """Every picture below the class folders, in a fixed order, with its class."""
    return [
        (str(path), number)
        for number, label in enumerate(labels)
        for path in sorted((root / label).rglob("*"))
        if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()
    ]


def _parted(
    files: list[tuple[str, int]], classes: int, fraction: float
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Train and test: the same share of each class, at least one picture of each where it has two, chosen by a fixed
    seed.
    """
    train, test = [], []
    for number in range(classes):
        own = [file for file in files if file[1] == number]
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(number)).tolist()
        kept = max(1, round(fraction * len(own))) if len(own) > 1 else 0
        test += [own[index] for index in order[:kept]]
        train += [own[index] for index in order[kept:]]
    return train, test
