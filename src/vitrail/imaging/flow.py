"""Draw optical flow: the direction of a movement as a hue, its length as how strong the colour is.

Baker et al., "A Database and Evaluation Methodology for Optical Flow", ICCV 2007, §4.1; the wheel is the one of the
code published with it, whose hues are not evenly spaced but evenly told apart.
"""

from itertools import pairwise

import numpy as np
from PIL import Image
from torch import Tensor

_CORNERS = np.array(
    [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0)], dtype=np.float64
)
_STEPS = (15, 6, 4, 11, 13, 6)
"""Hues from one corner to the next: most of them between red and yellow, and around blue, where the eye tells most."""


def _wheel() -> np.ndarray:
    """(55, 3): the hues, from red over yellow, green, cyan, blue and magenta."""
    sides = zip(pairwise(_CORNERS), _STEPS, strict=True)
    hues = [start + (end - start) * step / steps for (start, end), steps in sides for step in range(steps)]
    return np.floor(hues)


def draw_flow(flow: np.ndarray | Tensor, longest: float | None = None) -> Image.Image:
    """Optical flow as a picture: white where nothing moves, red to the right, yellow down, blue up, cyan to the left.

    Args:
        flow: (2, H, W), pixels to the right and downwards, as `PerceiverFlow.flow` gives it.
        longest: the movement, in pixels, that gets the full colour, to draw several pictures alike; longer ones are
            darkened. The longest of this one where not given.

    Returns:
        RGB, W×H pixels.
    """
    right, down = np.asarray(flow, dtype=np.float64)
    length = np.hypot(right, down)
    full = longest or length.max() or 1.0
    length = length[..., None] / full
    hues = _wheel()
    turn = (np.arctan2(-down, -right) / np.pi + 1) / 2 * (len(hues) - 1)
    at = np.arange(len(hues))
    hue = np.stack([np.interp(turn, at, hues[:, channel]) for channel in range(3)], -1) / 255
    colour = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return Image.fromarray(np.floor(255 * colour).astype(np.uint8))


def flow_legend(edge: int = 96) -> Image.Image:
    """The colours of all movements, of none in the middle and the longest at the rim: a disc on white.

    Args:
        edge: side of the picture, in pixels.
    """
    along = np.linspace(-1, 1, edge)
    flow = np.stack(np.meshgrid(along, along))
    return draw_flow(np.where(np.hypot(*flow) <= 1, flow, 0.0), longest=1.0)
