"""`vitrail.trace`: how a picture comes out of noise, the states on its way and the field of arrows that led it."""

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser
from vitrail.errors import UsageError
from vitrail.imaging import draw
from vitrail.imaging.open import printable
from vitrail.models.generator import Generator, to_image
from vitrail.models.model import Model
from vitrail.tasks.generate import Made, Settings, Size, Watch, checked_prompt, draw_seed, get_generator, watching
from vitrail.tasks.loras import Loras, adapted, find_loras
from vitrail.tasks.recipe import Recipe, cannot_run

GRID = 9
"""Arrows a side of the plane."""

LEVELS = 4
"""Noise levels at which the field is drawn."""

SHOWN = 8
"""States that the strip shows."""

_AT_ONCE = 9
"""Points of the plane that go through the network together."""


@dataclass(frozen=True)
class State:
    """One stop on the way.

    Attributes:
        sigma: the noise level.
        noisy: the picture with its noise, RGB, scaled as one of pictures of unit variance.
        denoised: what the network takes for the picture from here, RGB.
    """

    sigma: float
    noisy: Image.Image = field(repr=False, compare=False)
    denoised: Image.Image = field(repr=False, compare=False)


@dataclass(frozen=True)
class Field:
    """The score's arrows at one noise level, on the plane.

    Attributes:
        sigma: the noise level.
        step: how many steps were done when the path came through it.
        points: (N, 2) float64, where the arrows start.
        arrows: (N, 2) float64, where they point: from a state towards what the network takes for the picture there,
            which is the score times sigma squared.
    """

    sigma: float
    step: int
    points: np.ndarray = field(repr=False, compare=False)
    arrows: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Trace:
    """The way of one picture from noise.

    All states x are scaled by 1 / √(1 + sigma²), so that noise and picture are of one size; the plane is that of the
    first two principal components of the path so scaled.

    Attributes:
        made: the picture, the same that `generate` makes of this recipe.
        states: some of the stops, the noisiest first.
        path: (steps + 1, 2) float64, the stops on the plane, the last the picture.
        spread: how much of the path's variance the plane holds, 0..1.
        fields: the arrows at some noise levels, the highest first.
    """

    made: Made
    states: tuple[State, ...]
    path: np.ndarray = field(repr=False, compare=False)
    spread: float
    fields: tuple[Field, ...]

    def to_dict(self) -> dict[str, Any]:
        """{"input": …, "recipe": …, "sigmas": […], "path": [[x, y], …], "spread": …}."""
        return {
            "input": self.made.recipe.prompt,
            "recipe": self.made.recipe.to_dict(),
            "sigmas": [state.sigma for state in self.states],
            "path": self.path.tolist(),
            "spread": self.spread,
        }

    def __str__(self) -> str:
        levels = ", ".join(f"{one.sigma:.3g}" for one in self.fields)
        return (
            f"{printable(self.made.recipe.prompt) or 'out of noise'}\n  {len(self.path) - 1} steps; the plane holds "
            f"{self.spread:.0%} of the path; arrows at noise {levels}"
        )

    def draw(self) -> Image.Image:
        """Two strips, of the noisy states and of what they are taken for; below them the path with its arrows, RGB."""
        cell = max(128, min(256, max(self.made.image.size)))
        noisy = [f"noise {state.sigma:.3g}" for state in self.states]
        strip = draw.sheet(
            [*(state.noisy for state in self.states), *(state.denoised for state in self.states)],
            [*noisy, "taken for this", *[""] * (len(self.states) - 2), "the picture"],
            columns=len(self.states),
            cell=cell,
            text_size=13,
            title=printable(self.made.recipe.prompt),
        )
        side = max(280, (strip.width - 14 * (len(self.fields) + 1)) // len(self.fields))
        planes = draw.sheet(
            [_plane(self.path, one, side) for one in self.fields],
            [f"noise {one.sigma:.3g}, after {one.step} of {len(self.path) - 1} steps" for one in self.fields],
            columns=len(self.fields),
            text_size=13,
        )
        whole = Image.new("RGB", (max(strip.width, planes.width), strip.height + planes.height), draw.PAPER)
        whole.paste(strip, (0, 0))
        whole.paste(planes, (0, strip.height))
        return whole


def trace(
    prompt: str | None = None,
    *,
    seed: int | None = None,
    num_steps: int | None = None,
    sampler: str | None = None,
    guidance_scale: float | None = None,
    negative: str = "",
    size: Size | None = None,
    lora: Loras | None = None,
    grid: int = GRID,
    levels: int = LEVELS,
    model: str | os.PathLike | Model | None = None,
    engine: str = "auto",
    device: str | None = None,
    watch: Watch | None = None,
) -> Trace:
    """Make one picture, and watch.

    Beside the steps themselves this asks the network at `grid`² · `levels` points.

    Args:
        prompt: what to make; None where the network takes no prompt.
        seed: of the noise; by default one is drawn.
        num_steps, sampler, guidance_scale, negative, size, lora, model, engine, device: as for `generate`.
        grid: arrows a side.
        levels: noise levels at which arrows are drawn; fewer where there are fewer steps.
        watch: called after every step.

    Raises:
        UsageError: as for `generate`; or there are fewer than 2 steps, or the network was trained to inpaint.
        CheckpointError: the network or a LoRA cannot be loaded.
        VitrailError: it does not fit in memory.
    """
    settings = Settings(num_steps, sampler, guidance_scale, negative, size, find_loras(lora))
    network = get_generator(model, engine=engine, device=device)
    said = checked_prompt(network, prompt or "")
    recipe = settings.recipe(network, said, draw_seed() if seed is None else seed)
    return trace_again(recipe, network, grid=grid, levels=levels, watch=watch)


def trace_again(
    recipe: Recipe, model: Generator, *, grid: int = GRID, levels: int = LEVELS, watch: Watch | None = None
) -> Trace:
    """The trace of a recipe's picture; arguments and errors are those of `trace`."""
    if recipe.num_steps < 2:
        raise UsageError(f"the way from noise to a picture is worth a look from 2 steps on, not {recipe.num_steps}")
    if model.inpaints:
        raise UsageError("a network that was trained to inpaint has no field of its own to draw")
    try:
        with adapted(model, recipe.loras), torch.inference_mode():
            return _traced(recipe, model, grid, levels, watch)
    except (RuntimeError, MemoryError) as error:
        raise cannot_run(model, recipe.size, error) from error


def _traced(recipe: Recipe, model: Generator, grid: int, levels: int, watch: Watch | None) -> Trace:
    """What `Generator.generate` does for one picture, its denoiser watched."""
    dice = torch.Generator().manual_seed(recipe.seed)
    noise = torch.randn(1, *model.latent_shape(recipe.size), generator=dice).to(next(model.parameters()).device)
    cond = model.condition([recipe.prompt]) if model.prompted else None
    negative = model.condition_against([recipe.negative]) if model.prompted else None
    denoise, told = model.guided(cond, negative, recipe.guidance_scale, recipe.size)
    run, sigmas = model.sampler(recipe.sampler), model.sigmas(recipe.num_steps, recipe.sampler)
    seen: dict[float, tuple[Tensor, Tensor]] = {}
    preview = watching(watch, model, recipe.num_steps)
    x = model.begin(noise, sigmas[0].item(), recipe.sampler)
    x = model.ended(run(_remembered(denoise, seen), x, sigmas, told, generator=dice, preview=preview), sigmas[-1])

    at = [sigma for sigma in sigmas[:-1].float().tolist() if sigma in seen]
    states = torch.cat([*(seen[sigma][0] / math.hypot(1, sigma) for sigma in at), x])
    centre, axes, spread = principal_plane(states)
    path = (states.flatten(1).double() - centre) @ axes
    fields = []
    for step in _spaced(len(at), levels):
        where = _points(path, grid)
        spots = (centre + where @ axes.T).reshape(-1, *x.shape[1:]) * math.hypot(1, at[step])
        pulls = (_asked(denoise, spots.float(), at[step], told) - spots.float()) / math.hypot(1, at[step])
        fields.append(Field(at[step], step, where.cpu().numpy(), (pulls.flatten(1).double() @ axes).cpu().numpy()))

    def picture(latents: Tensor) -> Image.Image:
        return to_image(model.decode(latents)[0].clamp(-1, 1))

    stops = [
        State(at[step], picture(states[step : step + 1]), picture(seen[at[step]][1]))
        for step in _spaced(len(at), SHOWN - 1)
    ]
    made = picture(x)
    stops.append(State(float(sigmas[-1]), made, made))
    return Trace(Made(made, recipe), tuple(stops), path.cpu().numpy(), spread, tuple(fields))


def principal_plane(states: Tensor) -> tuple[Tensor, Tensor, float]:
    """The plane that a path runs in, most of it.

    Args:
        states: (N, …), at least 2.

    Returns:
        A point of it, (D,); two axes of length 1, (D, 2); and how much of the path's variance it holds, 0..1. The first
        axis points along the path. All float64.
    """
    rows = states.flatten(1).double()
    centre = rows.mean(0)
    _, strengths, directions = torch.linalg.svd(rows - centre, full_matrices=False)
    axes = directions[:2].T
    axes = axes * torch.where((rows[-1] - rows[0]) @ axes < 0, -1.0, 1.0)
    variances = strengths.square()
    return centre, axes, float(variances[:2].sum() / variances.sum())


def _remembered(denoise: Denoiser, seen: dict[float, tuple[Tensor, Tensor]]) -> Denoiser:
    """The same denoiser; by its noise level, the last state it was shown and what it took that for."""

    def remembered(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        x0 = denoise(x, sigma, cond)
        seen[float(sigma[0])] = (x, x0)
        return x0

    return remembered


def _asked(denoise: Denoiser, spots: Tensor, sigma: float, cond: Any) -> Tensor:
    """What the denoiser takes many states for, (N, …), a few at a time."""
    parts = []
    for part in spots.split(_AT_ONCE):
        parts.append(denoise(part, part.new_full((len(part),), sigma), _repeated(cond, len(part))))
    return torch.cat(parts)


def _repeated(cond: Any, count: int) -> Any:
    """A condition of one row as one of `count` rows."""
    if isinstance(cond, tuple):
        return tuple(_repeated(one, count) for one in cond)
    if isinstance(cond, dict):
        return {name: _repeated(one, count) for name, one in cond.items()}
    return None if cond is None else cond.expand(count, *cond.shape[1:])


def _spaced(total: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 … total - 1, both ends among them, as evenly as it goes."""
    wanted = min(wanted, total)
    return [round(number * (total - 1) / max(1, wanted - 1)) for number in range(wanted)]


def _points(path: Tensor, grid: int) -> Tensor:
    """(grid², 2): a square grid that holds the path, with room around it."""
    low, high = path.amin(0), path.amax(0)
    middle, half = (low + high) / 2, 0.65 * (high - low).max()
    line = torch.linspace(-1, 1, grid, dtype=path.dtype, device=path.device) * half
    return torch.cartesian_prod(line, line) + middle


def _plane(path: np.ndarray, arrows: Field, side: int) -> Image.Image:
    """One noise level: its arrows, longer and lighter where they are stronger, and the path, its stop marked."""
    fine = 3  # drawn larger and scaled down, for smooth lines
    low, high = arrows.points.min(0), arrows.points.max(0)
    spacing = (high[0] - low[0]) / (len(np.unique(arrows.points[:, 0])) - 1)
    low, high = low - spacing, high + spacing
    edge = side * fine

    def at(points: np.ndarray) -> np.ndarray:
        """Of the plane -> of the drawing, upwards."""
        return (points - low) / (high - low) * edge * np.array([1, -1]) + np.array([0, edge])

    drawn = Image.new("RGB", (edge, edge), draw.FAINT)
    pen = ImageDraw.Draw(drawn)
    lengths = np.linalg.norm(arrows.arrows, axis=1)
    shares = np.sqrt(lengths / max(float(lengths.max()), 1e-12))
    for start, arrow, length, share in zip(arrows.points, arrows.arrows, lengths, shares, strict=True):
        if length:
            reach = arrow / length * spacing * (0.25 + 0.6 * share)
            _arrow(pen, at(start - reach / 2), at(start + reach / 2), tuple(draw.colour_map(0.75 * share)), fine)
    stops = at(path)
    pen.line([tuple(stop) for stop in stops], draw.INK, 2 * fine, joint="curve")
    for number, stop in enumerate(stops):
        _dot(pen, stop, (2 if number != len(stops) - 1 else 5) * fine, draw.INK)
    _dot(pen, stops[arrows.step], 5 * fine, draw.ACCENT)
    return drawn.resize((side, side), Image.Resampling.LANCZOS)


def _arrow(pen: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, colour: tuple, width: int) -> None:
    along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    across = np.array([-along[1], along[0]])
    head = min(5.0 * width, 0.6 * float(np.linalg.norm(end - start)))
    pen.line([tuple(start), tuple(end - along * head)], colour, round(1.5 * width))
    corners = end, end - along * head + across * head / 2, end - along * head - across * head / 2
    pen.polygon([tuple(corner) for corner in corners], colour)


def _dot(pen: ImageDraw.ImageDraw, at: np.ndarray, radius: float, colour: tuple) -> None:
    pen.ellipse((*(at - radius), *(at + radius)), colour)
