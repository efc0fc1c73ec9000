"""The figures of docs/diffusion.md: all there, all drawn, and the numbers in them what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.diffusion import figures
from vitrail.diffusion.panel import Panel

DOCS = Path(__file__).parents[2] / "docs"


def test_page_shows_every_figure_and_no_other():
    shown = re.findall(r"\]\(figures/diffusion-(\w+)\.png\)", (DOCS / "diffusion.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(figures.FIGURES)
    files = [DOCS / "figures" / f"diffusion-{name}.png" for name in shown]
    assert sum(file.stat().st_size for file in files) < 600_000


def test_figures_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    few = ("score", "paths", "landings")
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in few})
    figures.main(str(tmp_path / "new"))
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / "new" / f"diffusion-{name}.png") for name in few
    ]
    for name in few:
        fresh = Image.open(tmp_path / "new" / f"diffusion-{name}.png").convert("L")
        kept = Image.open(DOCS / "figures" / f"diffusion-{name}.png").convert("L")
        assert fresh.size == kept.size
        differing = np.asarray(fresh).astype(int) - np.asarray(kept)
        assert (np.abs(differing) > 60).mean() < 0.01  # another machine rounds a path's last digits otherwise


def test_slopes_in_the_figure_are_those_of_the_page(monkeypatch: pytest.MonkeyPatch):
    written = []
    monkeypatch.setattr(Panel, "text", lambda self, place, words, *rest: written.append(words))
    figures.orders()
    assert written == ["euler: slope -1.0", "heun: slope -2.0", "dpm++2m: slope -2.0", "unipc: slope -3.0"]


def test_panel_puts_points_where_they_are():
    panel = Panel((-1.0, 3.0), (0.0, 2.0), (80, 40))
    panel.dots(np.array([[1.0, 0.5]]), (255, 0, 0), 4)
    red = np.asarray(panel.drawn())[..., 1] < 80
    red[[0, -1]] = red[:, [0, -1]] = False  # the frame
    rows, columns = red.nonzero()
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 40), abs=1.0)
