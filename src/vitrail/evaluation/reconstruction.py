"""How much of a picture comes back from an autoencoder."""

import torch
from torch import Tensor

from vitrail.evaluation.torchmetrics import import_part


class ReconstructionScores:
    """How near pictures that came back are to what they were."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in pairs of pictures (B, 2, 3, H, W) in [-1, 1]: what came back, and what it was."""
        metrics = import_part("functional.image")
        back, was = ((outputs.float() + 1) / 2).unbind(1)  # as light, which structural similarity takes for positive
        whole = (0.0, 1.0)
        signal = metrics.peak_signal_noise_ratio(back, was, data_range=whole, reduction="none", dim=(1, 2, 3))
        likeness = metrics.structural_similarity_index_measure(back, was, data_range=whole, reduction="none")
        self.taken.append(torch.stack([signal, likeness], 1).cpu())

    def compute(self) -> dict[str, float]:
        """Means over the pictures that all processes took in.

        psnr: the peak signal-to-noise ratio, in decibels. ssim: structural similarity (Wang et al. 2004), 1 at most.
        """
        from accelerate.utils import gather_object  # only training has several processes

        psnr, ssim = torch.cat(gather_object(self.taken)).mean(0).tolist()
        return {"psnr": psnr, "ssim": ssim}
