"""How well a network names what is at each place of a picture."""

import torch
from torch import Tensor


class PatchScores:
    """The accuracy of naming a patch, over those that show something and over all."""

    def __init__(self) -> None:
        self.counts = torch.zeros(4, dtype=torch.int64)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in pictures: the logits of their patches (B, N, classes), and a map each of what is right (B, H, W)."""
        right = patch_targets(targets, outputs.shape[1])
        hit, thing = outputs.argmax(-1) == right, right > 0
        self.counts += torch.stack([(hit & thing).sum(), thing.sum(), hit.sum(), torch.tensor(hit.numel())]).cpu()

    def compute(self) -> dict[str, float]:
        """things: the accuracy over patches that mostly show a thing, in [0, 1]; patches: over all."""
        from accelerate.utils import gather_object  # only training has several processes

        hits, things, all_hits, patches = torch.stack(gather_object([self.counts])).sum(0).tolist()
        return {"things": hits / max(things, 1), "patches": all_hits / max(patches, 1)}


def patch_targets(maps: Tensor, patches: int) -> Tensor:
    """Maps of classes (B, H, W) -> the commonest class of each square patch, (B, patches), row by row.

    Args:
        maps: int64.
        patches: how many square patches each map is cut into.
    """
    area = maps.shape[1] * maps.shape[2] // patches
    side = round(area**0.5)
    return maps.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(1, 2).mode(-1).values
