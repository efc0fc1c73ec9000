"""How a picture comes out of noise."""

import json

import numpy as np
import pytest
import torch

import vitrail
from tests.painter import Dreamer, PainterConfig, painter
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.tasks.trace import principal_plane


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"ode"}))  # which takes its own steps, and many
def test_the_picture_is_the_one_that_generate_makes(sampler):
    model = painter()
    seen = vitrail.trace("disc", model=model, sampler=sampler, num_steps=5, seed=4, grid=2, levels=1)
    alone = vitrail.generate("disc", sampler=sampler, num_steps=5, seed=4, model=model)
    assert seen.made.image.tobytes() == alone.image.tobytes()
    assert seen.made.recipe == alone.recipe
    assert len(seen.path) == 6


def test_states_from_noise_to_picture():
    seen = vitrail.trace("red disc", model=painter(), seed=1)
    sigmas = [state.sigma for state in seen.states]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-1] == 0
    final = np.asarray(seen.made.image, dtype=float)
    errors = [np.abs(np.asarray(state.noisy, dtype=float) - final).mean() for state in seen.states]
    assert errors[0] > 50 > errors[-2]
    assert errors[-1] == 0
    assert np.asarray(seen.states[-2].denoised).tobytes() == np.asarray(seen.made.image).tobytes()
    assert 0.9 < seen.spread <= 1


def test_the_arrows_lead_to_the_picture():
    """With hardly any noise the denoiser takes every point near the picture for the picture."""
    seen = vitrail.trace("red disc", model=painter(), seed=1, grid=7)
    last = seen.fields[-1]
    wanted = seen.path[-1] - last.points
    cosines = (last.arrows * wanted).sum(1) / (
        np.linalg.norm(last.arrows, axis=1) * np.linalg.norm(wanted, axis=1) + 1e-9
    )
    assert cosines.mean() > 0.95
    assert [field.step for field in seen.fields] == sorted({field.step for field in seen.fields})


def test_the_arrows_are_the_score_that_is_known():
    """At the highest level, of a mixture as good as a Gaussian there: towards the mean of what it knows."""
    model = painter()
    model.usual = type(model.usual)(8, "euler", 1.0, (32, 32))
    seen = vitrail.trace("disc", model=model, seed=2, grid=5)
    field = seen.fields[0]
    fit = np.linalg.lstsq(np.c_[field.points, np.ones(25)], field.arrows, rcond=None)[0]
    assert np.abs(fit[:2] + np.eye(2)).max() < 0.15  # D hardly depends on x, so that D - x falls as x rises


def test_the_plane_holds_a_path_that_lies_in_one():
    turn = torch.linspace(0, 1.5, 9)
    first, second = torch.linalg.qr(torch.randn(48, 2)).Q.T
    states = (turn.cos()[:, None] * first + turn.sin()[:, None] * second + 3).view(9, 3, 4, 4)
    centre, axes, spread = principal_plane(states)
    assert spread == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(axes.T @ axes, torch.eye(2, dtype=torch.float64))
    back = centre + (states.flatten(1).double() - centre) @ axes @ axes.T
    torch.testing.assert_close(back, states.flatten(1).double(), atol=1e-5, rtol=0)


def test_drawing_and_words():
    seen = vitrail.trace("red disc", model=painter(), seed=1, grid=5, levels=3)
    drawn = np.asarray(seen.draw())
    assert drawn.std() > 20
    assert "3 " not in str(seen).partition("\n")[0]
    assert "8 steps" in str(seen)
    said = json.loads(json.dumps(seen.to_dict()))
    assert (said["input"], len(said["path"])) == ("red disc", 9)


def test_few_steps_and_no_prompt():
    seen = vitrail.trace(model=Dreamer(PainterConfig()), num_steps=2, seed=0, grid=3)
    assert len(seen.fields) == 2
    assert seen.draw().width > 0
    with pytest.raises(vitrail.UsageError, match="from 2 steps on"):
        vitrail.trace("disc", model=painter(), num_steps=1)
