"""The figures of docs/diffusion.md, drawn from the package's own samplers: `python -m vitrail.diffusion.figures`.

The data is a mixture of Gaussians, in one dimension or along two spiral arms in two, so that the score of every noise
level is known and what a figure shows is the sampler's doing and no network's.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.diffusion.denoiser import Denoiser, score
from vitrail.diffusion.guidance import classifier_free
from vitrail.diffusion.mixture import Mixture
from vitrail.diffusion.panel import Colour, Panel
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.samplers.ordinary import ode
from vitrail.diffusion.schedules import geometric, karras
from vitrail.imaging.draw import ACCENT, INK, sheet

_BLUE: Colour = (38, 84, 161)
_PALE: Colour = (150, 178, 224)
_GREEN: Colour = (30, 130, 90)
_ORANGE: Colour = (214, 110, 20)
_GREY: Colour = (225, 225, 230)

_SEED = 4
_LOW, _HIGH = 0.02, 10.0  # where the runs of these figures start and end


def spiral(arms: tuple[int, ...] = (0, 1), beads: int = 18) -> Mixture:
    """Arms of a spiral, each a string of small Gaussians; both together have about unit variance."""
    means = []
    for arm in arms:
        for bead in range(beads):
            along = bead / (beads - 1)
            angle = 3.4 * along + math.pi * arm
            radius = 0.35 + 1.65 * along
            means.append((radius * math.cos(angle), radius * math.sin(angle)))
    count = len(means)
    return Mixture(torch.tensor(means), torch.full((count,), 0.07), torch.full((count,), 1 / count))


def line() -> Mixture:
    """Two heaps on a line."""
    return Mixture(torch.tensor([[-1.2], [0.9]]), torch.tensor([0.12, 0.3]), torch.tensor([0.45, 0.55]))


def brownian() -> Image.Image:
    """Random walks from one point, and how far they get."""
    dice = _dice()
    steps, walks = 400, 41
    moves = torch.randn(walks, steps, generator=dice) / steps**0.5 * 2  # variance 4 at the end
    paths = torch.cat([torch.zeros(walks, 1), moves.cumsum(1)], 1).numpy()
    time = np.linspace(0, 4, steps + 1)
    panel = Panel((0, 4), (-5.4, 5.4), (620, 260))
    for path in paths[1:]:
        panel.line(np.stack([time, path], 1), _PALE, 0.6)
    panel.line(np.stack([time, paths[0]], 1), _BLUE, 1.2)
    for sign in (-1, 1):
        panel.line(np.stack([time, sign * np.sqrt(time)], 1), ACCENT, 1.6)
        panel.line(np.stack([time, 2 * sign * np.sqrt(time)], 1), ACCENT, 0.8)
    panel.text(np.array([0.07, 4.6]), "one standard deviation, sqrt(t), and two", ACCENT)
    return panel.with_axes(_ticks(range(5)), _ticks((-4, -2, 0, 2, 4)), "time t", "place")


def forward() -> Image.Image:
    """Data drowning in noise: x0 + sigma n above, the same scaled to unit variance below."""
    data, dice = spiral(), _dice()
    clean = data.sample(900, dice)
    noise = torch.randn(900, 2, generator=dice)
    panels, words = [], []
    for scaled in (False, True):
        for sigma in (0.0, 0.2, 0.6, 2.0):
            shrink = (1 + sigma**2) ** -0.5 if scaled else 1.0
            panel = _square(5.0 if not scaled else 2.9)
            panel.dots((shrink * (clean + sigma * noise)).numpy(), _BLUE)
            panels.append(panel.drawn())
            words.append(f"scaled to unit variance, alpha = {shrink:.2f}" if scaled else f"sigma = {sigma:g}")
    return sheet(panels, words, columns=4, text_size=13)


def field() -> Image.Image:
    """The score's arrows over the density, at three noise levels."""
    data = spiral()
    panels, words = [], []
    for sigma in (0.15, 0.5, 1.5):
        reach = 2.6 + sigma
        panel = _square(reach, 310)
        panel.shade(_density(data, sigma, reach), _PALE)
        places = torch.cartesian_prod(*[torch.linspace(-0.92, 0.92, 13) * reach] * 2)
        arrows = score(data, places, sigma)
        lengths = arrows.norm(dim=1, keepdim=True)
        longest = 0.13 * reach
        drawn = arrows / lengths * longest * (lengths / lengths.max()).sqrt()
        for place, arrow in zip(places.numpy(), drawn.numpy(), strict=True):
            panel.arrow(place - arrow / 2, place + arrow / 2, INK)
        panels.append(panel.drawn())
        words.append(f"sigma = {sigma:g}; longest arrow {lengths.max():.3g} nats per unit")
    return sheet(panels, words, columns=3, text_size=13)


def paths() -> Image.Image:
    """The way back: the reverse SDE and the probability-flow ODE, over the density of every noise level."""
    data = line()
    sigmas = geometric(_LOW, 6.0, 200)
    rows = np.linspace(4.0, -4.0, 200)
    columns = torch.linspace(math.log(6.0), math.log(_LOW), 240).exp()
    density = np.stack([_line_density(data, rows, sigma) for sigma in columns.tolist()], 1)
    panels, words = [], []
    for name, caption in [
        ("euler-ancestral", "the reverse SDE: each path draws fresh noise at every step"),
        ("heun", "the probability-flow ODE: no noise but the first, and paths never cross"),
    ]:
        panel = Panel((math.log(6.0), math.log(_LOW)), (-4.0, 4.0), (440, 300))
        panel.shade((density / density.max(0)) ** 0.8, _PALE)
        probabilities = (torch.arange(14) + 0.5) / 14
        start = 6.0 * torch.special.ndtri(probabilities)[:, None]
        stops = _watched(data, name, start, sigmas)
        time = sigmas[:-1].log().numpy()
        for walker in range(len(start)):
            path = np.stack([time, stops[:, walker, 0]], 1)
            panel.line(path, ACCENT if walker in (3, 9) else _BLUE, 1.2 if walker in (3, 9) else 0.8)
        levels = (5.0, 1.0, 0.2, 0.05)
        panels.append(
            panel.with_axes(
                [(math.log(level), f"{level:g}") for level in levels], _ticks((-4, -2, 0, 2, 4)), "noise sigma", "x"
            )
        )
        words.append(caption)
    return sheet(panels, words, columns=2, text_size=13)


def landings() -> Image.Image:
    """Where a thousand points land with few looks at the denoiser, by sampler."""
    data, dice = spiral(), _dice()
    start = _HIGH * torch.randn(1000, 2, generator=dice)
    panels, words = [], []
    for looks in (8, 24):
        for name, steps in [
            ("euler", looks),
            ("euler-ancestral", looks),
            ("heun", (looks + 1) // 2),
            ("dpm++2m", looks),
            ("unipc", looks),
        ]:
            panel = _square(2.9, 200)
            points = SAMPLERS[name](data, start, karras(_LOW, _HIGH, steps), generator=_dice())
            panel.dots(points.numpy(), ACCENT if looks == 8 else _BLUE, 1.1)
            panels.append(panel.drawn())
            words.append(f"{name}, {2 * steps - 1 if name == 'heun' else steps} looks")
    return sheet(panels, words, columns=5, text_size=13)


def orders() -> Image.Image:
    """The error of a path against the number of looks it took."""
    data = spiral()
    data = Mixture(data.means.double(), torch.full_like(data.deviations, 0.25).double(), data.weights.double())
    start = _HIGH * torch.randn(64, 2, generator=_dice(), dtype=torch.float64)
    true = ode(data, start, torch.tensor([_HIGH, 0.1]), tolerance=1e-10)
    panel = Panel((math.log10(8), math.log10(400)), (-7.2, 0.4), (520, 320))
    for number, (name, colour, looks_a_step) in enumerate(
        [("euler", _ORANGE, 1), ("heun", _GREEN, 2), ("dpm++2m", _BLUE, 1), ("unipc", ACCENT, 1)]
    ):
        curve = []
        for steps in (10, 16, 24, 36, 54, 80, 120, 180):
            sigmas = torch.cat([geometric(0.1, _HIGH, steps + 1)[:-1], torch.zeros(1)])
            reached = torch.from_numpy(_watched(data, name, start, sigmas)[-1])
            error = (reached - true).norm(dim=1).mean().item()
            curve.append((math.log10(steps * looks_a_step), math.log10(error)))
        points = np.array(curve)
        panel.line(points, colour, 1.6)
        panel.dots(points, colour, 3)
        slope = np.polyfit(points[-4:, 0], points[-4:, 1], 1)[0]
        panel.text(np.array([0.96, -4.5 - 0.55 * number]), f"{name}: slope {slope:.1f}", colour)
    return panel.with_axes(
        [(math.log10(value), str(value)) for value in (10, 20, 50, 100, 200)],
        [(power, f"1e{power}" if power else "1") for power in range(-7, 1)],
        "looks at the denoiser",
        "mean distance from the exact end of the path",
    )


def guidance() -> Image.Image:
    """Classifier-free guidance towards one arm of the spiral."""
    both, one = spiral(), spiral((1,))

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return torch.where(cond > 0, one(x, sigma), both(x, sigma))

    start = _HIGH * torch.randn(700, 2, generator=_dice())
    sigmas, arm = karras(_LOW, _HIGH, 40), torch.ones(700, 1)
    panels, words = [], []
    for scale, interval in [(0.0, None), (1.0, None), (2.0, None), (5.0, None), (5.0, (0.15, 0.8))]:
        guided = classifier_free(denoiser, torch.zeros(1, 1), scale, interval=interval or (0.0, math.inf))
        panel = _square(2.6, 200)
        panel.dots(spiral().sample(700, _dice()).numpy(), _GREY, 1.1)
        panel.dots(SAMPLERS["heun"](guided, start, sigmas, arm).numpy(), ACCENT, 1.1)
        panels.append(panel.drawn())
        where = f", only at sigma {interval[0]:g} to {interval[1]:g}" if interval else ""
        words.append(f"w = {scale:g}{where}")
    return sheet(panels, words, columns=5, text_size=13)


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "brownian": brownian,
    "forward": forward,
    "score": field,
    "paths": paths,
    "landings": landings,
    "orders": orders,
    "guidance": guidance,
}


def main(folder: str = "docs/figures") -> None:
    """Draw all figures into a folder, as PNG files of at most 64 colours."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        path = Path(folder) / f"diffusion-{name}.png"
        draw().quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _dice() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def _square(reach: float, side: int = 240) -> Panel:
    return Panel((-reach, reach), (-reach, reach), (side, side))


def _ticks(values: Any) -> list[tuple[float, str]]:
    return [(float(value), f"{value:g}") for value in values]


def _watched(denoiser: Denoiser, sampler: str, start: Tensor, sigmas: Tensor) -> np.ndarray:
    """(steps, N, D): what a sampler shows the denoiser first at each of its levels."""
    shown: dict[float, np.ndarray] = {}

    def watch(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        level = sigma[0].item()
        if level not in shown or sampler == "heun":  # which looks ahead to a level before it gets there
            shown[level] = x.numpy()
        return denoiser(x, sigma, cond)

    SAMPLERS[sampler](watch, start, sigmas, generator=_dice())
    return np.stack(list(shown.values()))


def _density(data: Mixture, sigma: float, reach: float, size: int = 160) -> np.ndarray:
    """(size, size), the highest 1, the first row at the top."""
    across = torch.linspace(-reach, reach, size)
    down, right = torch.meshgrid(-across, across, indexing="ij")
    places = torch.stack([right.flatten(), down.flatten()], 1)
    values = data.log_density(places, torch.full((len(places),), sigma)).exp().reshape(size, size)
    return (values / values.max()).numpy()


def _line_density(data: Mixture, rows: np.ndarray, sigma: float) -> np.ndarray:
    places = torch.from_numpy(rows).float()[:, None]
    return data.log_density(places, torch.full((len(rows),), sigma)).exp().numpy()


if __name__ == "__main__":
    main(*sys.argv[1:2])
