"""What happens to a batch of pictures before a network in training sees it.

Geometry, erasing and policies are kornia's.
Colour and light are here, because each is a linear map, so all of brightness, contrast, saturation and hue is one
product with a 3×3 matrix; kornia goes through HSV, and takes longer than the step of a small network. Mixing is here,
because kornia's draws the weight from no Beta distribution and knows no targets but class numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.errors import VitrailError
from vitrail.training.recipe import AugmentationSection

Step = Callable[[Tensor], Tensor]

_LUMA = torch.tensor([0.299, 0.587, 0.114])  # Rec. 601


class Augmentation:
    """A recipe's augmentation, made ready once. Its random numbers come from torch's random state on the CPU.

    Args:
        section: what to do.
        classes: how many there are, for mixed targets.

    Raises:
        VitrailError: kornia is needed and is not installed.
    """

    def __init__(self, section: AugmentationSection, classes: int) -> None:
        self.section, self.classes = section, classes
        self.steps = _picture_steps(section)
        self.mixes = [(mix, alpha) for mix, alpha in ((mixup, section.mixup), (cutmix, section.cutmix)) if alpha]

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Change pictures, and the targets with them where pictures are mixed.

        Args:
            images: (B, 3, H, W) float32 in [0, 1].
            targets: class numbers (B,), or each class's share (B, classes).

        Returns:
            Both in the same form; but targets as shares where the batch was mixed.
        """
        for step in self.steps:
            images = step(images)
        if self.mixes and float(torch.rand(())) < self.section.mix:
            mix, alpha = self.mixes[int(torch.randint(len(self.mixes), ()))]
            shares = targets if targets.ndim == 2 else F.one_hot(targets, self.classes).to(images)
            return mix(images, shares, alpha)
        return images, targets


def _picture_steps(section: AugmentationSection) -> list[Step]:
    """The changes of single pictures that a recipe asks for, in order: where things are, what colour, what is
    hidden.
    """
    steps: list[Step] = []
    if section.flip:
        steps.append(lambda images: torch.where(_chance(images, section.flip), images.flip(3), images))
    if section.rotate or section.translate or section.shear or section.scale != (1.0, 1.0):
        steps.append(
            _kornia().RandomAffine(
                section.rotate,
                translate=(section.translate, section.translate),
                scale=section.scale,
                shear=(-section.shear, section.shear, -section.shear, section.shear),
                p=1.0,
                padding_mode="border",
            )
        )
    if section.policy != "none":
        auto = _kornia().auto
        steps.append(auto.TrivialAugment() if section.policy == "trivial" else auto.RandAugment(n=2, m=9))
    if section.colour:
        steps.append(lambda images: change_colours(images, section.colour))
    if section.grey:
        steps.append(lambda images: torch.where(_chance(images, section.grey), _grey(images), images))
    if section.light:
        steps.append(lambda images: change_light(images, section.light))
    if section.erase:
        steps.append(_kornia().RandomErasing(scale=(0.02, 0.2), value=0.5, p=section.erase))
    return steps


def change_colours(images: Tensor, strength: float) -> Tensor:
    """Another brightness, contrast, saturation and hue for each picture, as one linear map of its colours.

    Haeberli, "Matrix Operations for Image Processing", 1993. Brightness, contrast and saturation are factors from
    [1 - s, 1 + s]; contrast is about mid-grey; hue turns about the grey axis, by up to s half turns.

    Args:
        images: (B, 3, H, W) float32 in [0, 1].
        strength: s, 0 to 1.

    Returns:
        The same shape and range.
    """
    count = len(images)
    bright, contrast, saturation = (1 + strength * (2 * torch.rand(3, count, 1, 1) - 1)).unbind()
    angle = torch.pi * strength * (2 * torch.rand(count) - 1)
    matrix = _hue_turn(angle) @ (saturation * torch.eye(3) + (1 - saturation) * _LUMA)
    matrix, offset = bright * contrast * matrix, (1 - contrast) / 2
    changed = matrix.to(images) @ images.flatten(2) + offset.to(images)
    return changed.view_as(images).clamp(0, 1)


def change_light(images: Tensor, strength: float) -> Tensor:
    """Lit from one side: brightness rises across the picture, in any direction, from 1 - s to 1 + s at the most.

    Args:
        images: (B, 3, H, W) float32 in [0, 1].
        strength: s, 0 to 1.

    Returns:
        The same shape and range.
    """
    count, _, height, width = images.shape
    angle, slope = 2 * torch.pi * torch.rand(count, 1, 1, 1), strength * torch.rand(count, 1, 1, 1)
    down, across = torch.linspace(-1, 1, height).view(-1, 1), torch.linspace(-1, 1, width)
    light = 1 + slope * (angle.cos() * across + angle.sin() * down) / 2**0.5
    return (images * light.to(images)).clamp(0, 1)


def _hue_turn(angle: Tensor) -> Tensor:
    """Rotations of colours about the grey axis (1, 1, 1), Rodrigues' formula: (B,) radians -> (B, 3, 3)."""
    cosine, sine = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1) / 3**0.5
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    return cosine * torch.eye(3) + (1 - cosine) / 3 + sine * cross


def _grey(images: Tensor) -> Tensor:
    return (images * _LUMA.to(images).view(3, 1, 1)).sum(1, keepdim=True).expand_as(images)


def _chance(images: Tensor, probability: float) -> Tensor:
    """(B, 1, 1, 1) bool."""
    return (torch.rand(len(images), 1, 1, 1) < probability).to(images.device)


def mixup(images: Tensor, shares: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Every picture laid over another, and the targets with it. Zhang et al. 2018 (1710.09412), eq. 1 and §2.

    Args:
        images: (B, 3, H, W).
        shares: each class's share in each picture, (B, classes).
        alpha: α of Beta(α, α), from which one weight for the batch is drawn.
    """
    weight, others = _weight(alpha), torch.randperm(len(images), device=shares.device)
    return images.lerp(images[others], 1 - weight), shares.lerp(shares[others], 1 - weight)


def cutmix(images: Tensor, shares: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """A rectangle of every picture taken from another, and as much of its target. Yun et al. 2019 (1905.04899), eq.
    1-2.

    Args:
        images: (B, 3, H, W).
        shares: each class's share in each picture, (B, classes).
        alpha: α of Beta(α, α), from which the area that stays is drawn, one for the batch.
    """
    height, width = images.shape[2:]
    side = (1 - _weight(alpha)) ** 0.5
    middle = torch.rand(2).tolist()
    top, left = (max(0, round(size * (at - side / 2))) for size, at in zip((height, width), middle, strict=True))
    bottom, right = (min(size, round(size * (at + side / 2))) for size, at in zip((height, width), middle, strict=True))
    others = torch.randperm(len(images), device=shares.device)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[others, :, top:bottom, left:right]
    stays = 1 - (bottom - top) * (right - left) / (height * width)  # what is left of it at the picture's edge
    return mixed, shares.lerp(shares[others], 1 - stays)


def _weight(alpha: float) -> float:
    return float(torch.distributions.Beta(torch.tensor(alpha), torch.tensor(alpha)).sample())


def _kornia() -> Any:
    try:
        import kornia.augmentation
    except ImportError:
        raise VitrailError("this recipe's augmentation needs kornia: pip install 'vitrail[train]'") from None
    return kornia.augmentation
