"""Where a network looked, and how it divides the picture, for any model that has `features`, `pool` and `head`.

A transformer is asked through its attention (rollout), a convolutional network through its last feature map (class
activation). Both say where the evidence lay; neither says why it counted, or whether the answer is right. A network
that also reads can be asked which patches are near to a phrase.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.errors import UsageError, VitrailError
from vitrail.models.image_text import ImageText
from vitrail.models.model import Model
from vitrail.nn.attention import watch_attention

Method = Literal["attention rollout", "class activation"]
Head = Callable[[Tensor], Tensor]
"""What a network's `pool` gives, (B, D), -> logits (B, classes)."""


@dataclass(frozen=True)
class Explanation:
    """What one run of a network tells about how it saw a batch of pictures.

    Attributes:
        method: how `heat` was found. Attention rollout belongs to no class; class activation explains one.
        heat: where it looked, (B, h, w) float32 in [0, 1], one value a patch or a cell of the feature map.
        components: the features as colours, (B, h, w, 3) float32 in [0, 1]; see `patch_components`.
        phrases: how near each patch is to each phrase, (B, phrases, h, w) float32 in [-1, 1]; see `phrase_map`.
    """

    method: Method
    heat: Tensor
    components: Tensor
    phrases: Tensor


def explain(
    model: Model,
    pixels: Tensor,
    index: int | Tensor | None = None,
    *,
    head: Head | None = None,
    phrases: Sequence[str] = (),
) -> Explanation:
    """`where_it_looked`, `patch_components` and `phrase_map` from the same run of the network.

    Args and errors are theirs, and:

    Args:
        model: any network with `features`, `pool` and `head`.
        pixels: (B, C, H, W), as `model.preprocess` gives them.
        index: the class to explain, one for all pictures or (B,).
        head: what gives the classes' scores, where that is not `model.head`: a classifier made of words.
        phrases: what to look for in the patches; for none of them, any network will do.
    """
    features, attention = _features(model, pixels)
    grid = _grid_of(model, features, pixels)
    components, maps = _principal_colours(grid), _phrase_maps(model, features, grid, phrases)
    if features.dim() == 4:
        return Explanation("class activation", _class_activation(model, features, index, head), components, maps)
    return Explanation("attention rollout", _rolled_out(model, attention, _grid_size(model, pixels)), components, maps)


def where_it_looked(model: Model, pixels: Tensor, index: int | Tensor | None = None) -> Tensor:
    """A heat map of where the network looked.

    A network cut from `vitrail.nn.attention.Attention` tiles answers by `attention_rollout`: how much of each patch has
    reached what its head reads, which is the class token, the mean of the patches, or half of each. A convolutional
    network answers by `class_activation`.

    Args:
        model: any network with `features`, `pool` and `head`.
        pixels: (B, C, H, W), as `model.preprocess` gives them.
        index: the class to explain, one for all pictures or (B,); the one with the highest score where not given.
            Rollout knows no classes and takes no notice of it.

    Returns:
        (B, h, w) float32 in [0, 1], 1 at the brightest place of each picture; all 0 where no place stands out.

    Raises:
        UsageError: the network has no such class.
        VitrailError: a network whose features are tokens, but not of attention over all of them.
    """
    features, attention = _features(model, pixels)
    if features.dim() == 4:
        return _class_activation(model, features, index)
    return _rolled_out(model, attention, _grid_size(model, pixels))


def class_activation(model: Model, pixels: Tensor, index: int | Tensor | None = None) -> Tensor:
    """Grad-CAM on the final feature map: ReLU(Σ_k α_k A^k), α_k the mean over all places of ∂y_c / ∂A^k.

    Selvaraju et al. 2017 (1610.02391), eq. 1 and 2. Where the network ends in mean pooling and a linear head, α is that
    head's row for the class, and the map is the CAM of Zhou et al. 2016 (1512.04150), eq. 2, without its negative part.
    A network without a head has no score y_c; half the squared length of its pooled vector stands for it, so that those
    places are bright that resemble the whole.

    Args:
        model: a network whose `features` are (B, C, h, w).
        pixels: (B, C, H, W), as `model.preprocess` gives them.
        index: the class to explain, one for all pictures or (B,); the one with the highest score where not given.

    Returns:
        (B, h, w) float32 in [0, 1], 1 at the highest place of each picture; all 0 where nothing spoke for the class.

    Raises:
        UsageError: the network has no such class.
        VitrailError: the network's features are tokens and no map.
    """
    with torch.no_grad():
        features = model.features(pixels)
    if features.dim() != 4:
        raise VitrailError("Class activation needs a convolutional network: for a transformer use where_it_looked.")
    return _class_activation(model, features, index)


def attention_rollout(weights: Sequence[Tensor]) -> Tensor:
    """How much of each input token has reached each output token, following attention through all layers.

    Abnar and Zuidema 2020 (2005.00928), eq. 1: Ã(l) = A(l) Ã(l-1) with A = ½ (W_att + I), W_att the mean of the heads'
    weights; the identity stands for the residual connection.

    Args:
        weights: the attention weights of each layer in the order they ran, as `watch_attention` collects them: each
            (B, heads, N, N) with rows that sum to 1.

    Returns:
        (B, N, N) float32; row i says what output token i is made of, and sums to 1.

    Raises:
        ValueError: no layers, or layers over different tokens.
    """
    if not weights:
        raise ValueError("there are no attention weights to roll out")
    shapes = {(*layer.shape[:1], *layer.shape[2:]) for layer in weights}
    if len(shapes) > 1 or weights[0].shape[-1] != weights[0].shape[-2]:
        raise ValueError(f"attention rolls out over one set of tokens, not over shapes {sorted(shapes)}")
    identity = torch.eye(weights[0].shape[-1], device=weights[0].device)
    rolled = identity
    for layer in weights:
        rolled = (layer.float().mean(1) + identity) / 2 @ rolled
    return rolled


def patch_components(model: Model, pixels: Tensor) -> Tensor:
    """The first three principal components of each picture's patch features, as red, green and blue.

    Patches that mean the same to the network get the same colour. Oquab et al. 2023 (2304.07193), §7.5 and figure 1,
    without their threshold that blanks the background, and over one picture at a time where they take several together:
    so colours can be compared within a picture and not between two.

    Each component is divided by its standard deviation, and ±2 of those span the range of its colour. Its sign is free;
    the patch farthest from the mean gets the bright end.

    Args:
        model: any network with `features`.
        pixels: (B, C, H, W), as `model.preprocess` gives them.

    Returns:
        (B, h, w, 3) float32 in [0, 1]; ½ in every component that the features do not have.
    """
    with torch.no_grad():
        features = model.features(pixels)
    return _principal_colours(_grid_of(model, features, pixels))


def phrase_map(model: Model, pixels: Tensor, phrase: str) -> Tensor:
    """How near each patch of a picture is to a phrase: the cosine of their vectors in the space that both share.

    A phrase classifies places as it classifies pictures: Zhou et al. 2022 (2112.01071), §3.2; how a family makes a
    patch's vector, its `patch_vectors` says. Training on captions never asked that a patch be near its own word, so the
    map is a hint: only within a picture does nearer mean likelier, and no cosine says that a thing is there.

    Args:
        model: a network with two towers, and `patch_vectors`.
        pixels: (B, C, H, W), as `model.preprocess` gives them.
        phrase: what to look for.

    Returns:
        (B, rows, columns) float32 in [-1, 1].

    Raises:
        UsageError: the network reads no words, or has no vectors for patches.
    """
    with torch.no_grad():
        features = model.features(pixels)
    return _phrase_maps(model, features, _grid_of(model, features, pixels), (phrase,))[:, 0]


def check_phrases(model: Model) -> None:
    """Say now that `phrase_map` cannot be asked of a network.

    Raises:
        UsageError: the network reads no words, or has no vectors for patches.
    """
    if not isinstance(model, ImageText) or getattr(model, "patch_vectors", None) is None:
        lacks = "no vectors for patches" if isinstance(model, ImageText) else "no text tower"
        raise UsageError(f"this {model.family} has {lacks}, so there is no map of a phrase (--phrase): CLIP has both")


def _phrase_maps(model: Model, features: Tensor, grid: Tensor, phrases: Sequence[str]) -> Tensor:
    """Cosines of patches and phrases, (B, phrases, h, w); `grid` has the features' (B, h, w, D)."""
    rows, columns = grid.shape[1:3]
    if not phrases:
        return torch.zeros(len(grid), 0, rows, columns)
    check_phrases(model)
    assert isinstance(model, ImageText)
    with torch.no_grad():
        words = F.normalize(model.encode_text(list(phrases)).float(), dim=-1)
        patches = F.normalize(model.patch_vectors(features).float(), dim=-1)  # type: ignore[operator]
    return (words @ patches.mT).unflatten(2, (rows, columns))


def _features(model: Model, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The final features and the attention weights on the way to them."""
    with torch.no_grad(), watch_attention(model, heads=False) as attention:
        return model.features(pixels), attention


def _class_activation(model: Model, features: Tensor, index: int | Tensor | None, head: Head | None = None) -> Tensor:
    # Only what comes after the feature map is differentiated, and only with respect to it. The clone is for callers in
    # inference mode, whose tensors autograd does not take.
    with torch.inference_mode(False), torch.enable_grad():
        features = features.detach().clone().requires_grad_()
        logits = (head or model.head)(model.pool(features)).float()
        if head is None and isinstance(model.head, nn.Identity):
            scores = logits.square().sum(1) / 2
        else:
            scores = logits.gather(1, _index(logits, index)[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), features)
    alpha = gradient.float().mean((2, 3), keepdim=True)  # eq. 1
    heat = (alpha * features.detach().float()).sum(1).relu()  # eq. 2
    highest = heat.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, heat / highest, 0.0)


def _index(logits: Tensor, index: int | Tensor | None) -> Tensor:
    """The class to explain in each picture, (B,)."""
    count, classes = logits.shape
    if index is None:
        return logits.argmax(1)
    wanted = torch.as_tensor(index, device=logits.device).expand(count)
    if wanted.min() < 0 or wanted.max() >= classes:
        raise UsageError(f"There is no class {index}: the network's classes are 0 to {classes - 1}.")
    return wanted


def _rolled_out(model: Model, attention: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """What the head reads, followed back to the patches."""
    prefix = _prefix_tokens(model)
    tokens = prefix + grid[0] * grid[1]
    if not attention or any(layer.shape[2:] != (tokens, tokens) for layer in attention):
        raise VitrailError(f"Attention cannot be rolled out through this {model.family}: it is not over all patches.")
    rolled = attention_rollout(attention)[:, :, prefix:]  # (B, N, patches)
    of_class, of_patches = rolled[:, 0], rolled[:, prefix:].mean(1)
    pooling = getattr(model.config, "pooling", "class") if prefix else "mean"
    reached = {"class": of_class, "mean": of_patches, "class+mean": (of_class + of_patches) / 2}[pooling]
    highest, lowest = reached.amax(1, keepdim=True), reached.amin(1, keepdim=True)
    spread = highest - lowest
    stands_out = spread > 1e-5 * highest  # and is no rounding
    return torch.where(stands_out, (reached - lowest) / spread, 0.0).unflatten(1, grid)


def _prefix_tokens(model: Model) -> int:
    """How many tokens stand before the patches."""
    return getattr(model, "prefix_tokens", 0)


def _grid_size(model: Model, pixels: Tensor) -> tuple[int, int]:
    """Rows and columns of a transformer's patches."""
    if not hasattr(model, "patchify"):  # a Perceiver, whose latents lie nowhere
        raise VitrailError(f"Attention cannot be rolled out through this {model.family}: it is not over all patches.")
    return model.patchify.grid(pixels)  # type: ignore[operator, union-attr]  # every transformer's tile of that name


def _grid_of(model: Model, features: Tensor, pixels: Tensor) -> Tensor:
    """Features of either kind -> (B, h, w, D)."""
    if features.dim() == 4:
        return features.permute(0, 2, 3, 1)
    return features[:, _prefix_tokens(model) :].unflatten(1, _grid_size(model, pixels))


def _principal_colours(grid: Tensor) -> Tensor:
    """(B, h, w, D) -> (B, h, w, 3) in [0, 1]."""
    vectors = grid.detach().float().flatten(1, 2)  # (B, N, D)
    left, lengths, _ = torch.linalg.svd(vectors - vectors.mean(1, keepdim=True), full_matrices=False)
    scores = left[..., :3] * lengths[:, None, :3]  # each patch's coordinates along the components, (B, N, ≤ 3)
    scores = F.pad(scores, (0, 3 - scores.shape[2]))
    deviation = scores.square().mean(1, keepdim=True).sqrt()
    rounding = 1e-6 * vectors.abs().amax((1, 2), keepdim=True) * vectors.shape[2] ** 0.5
    scores = torch.where(deviation > rounding, scores / deviation, 0.0)
    farthest = scores.gather(1, scores.abs().argmax(1, keepdim=True))
    return (0.5 + scores * farthest.sign() / 4).clamp(0, 1).unflatten(1, grid.shape[1:3])
