"""What every objective says of the data it learns from."""

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from vitrail.data.source import Batch, Data
from vitrail.settings import Section
from vitrail.training.sheet import prediction_sheet


class Objective(Section):
    """A section that says what is minimised; what it needs of its data is as here unless it says otherwise."""

    @property
    def many(self) -> bool:
        """Whether a picture may show several classes at once."""
        return False

    @property
    def reads(self) -> bool:
        """Whether pictures must come with texts that are compared with them."""
        return False

    @property
    def makes(self) -> bool:
        """Whether networks learn to make pictures, rather than to say something of them."""
        return False

    def said(self, output: Any, data: Data) -> tuple[str, ...]:
        """What a network says of a test picture, in words, by what the objective's `answering` gives for it."""
        raise NotImplementedError

    def right(self, target: Tensor, data: Data) -> tuple[str, ...]:
        """What it should say, by the picture's target."""
        raise NotImplementedError

    def sheet(self, batch: Batch, outputs: Sequence[Any], data: Data, title: str) -> Image.Image:
        """A picture of how well it goes: some test pictures, with what the network makes of them.

        Args:
            batch: of the test.
            outputs: what `answering` gives for it.
            data: what it is of.
            title: a line above all.
        """
        said = [self.said(output, data) for output in outputs]
        right = [self.right(target, data) for target in batch["targets"]]
        return prediction_sheet(batch.get("shown", batch["images"]), said, right, title)
