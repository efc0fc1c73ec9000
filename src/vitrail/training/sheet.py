"""A picture of how well it goes: some of the test, with what the network says of each and what would be right."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.imaging.draw import sheet
from vitrail.models.generator import to_image


def prediction_sheet(
    images: Tensor, said: Sequence[Sequence[str]], right: Sequence[Sequence[str]], title: str
) -> Image.Image:
    """A contact sheet of predictions.

    Args:
        images: (B, 3, H, W) uint8.
        said: what the network says each picture shows.
        right: what each does show.
        title: a line above all.

    Returns:
        RGB; under each picture "yes" and the words where they are right, else "no", and what would be.
    """
    pictures = [Image.fromarray(np.ascontiguousarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
    captions = []
    for words, truth in zip(said, right, strict=True):
        answer = ", ".join(words) or "nothing"
        captions.append(f"yes: {answer}" if set(words) == set(truth) else f"no: {answer}\nis: {', '.join(truth)}")
    return sheet(pictures, captions, columns=6, cell=112, text_size=12, title=title)


def picture_sheet(groups: Sequence[Sequence[Tensor]], captions: Sequence[str], title: str) -> Image.Image:
    """A contact sheet of pictures that a network made.

    Args:
        groups: pictures that stand side by side, (3, H, W) float in [-1, 1] each.
        captions: what stands under each group.
        title: a line above all.

    Returns:
        RGB; pictures of few pixels are enlarged.
    """
    pictures = [to_image(torch.cat(list(group), dim=2)) for group in groups]
    return sheet(
        pictures, captions, columns=max(8 // len(groups[0]), 1), cell=112 * len(groups[0]), text_size=12, title=title
    )
