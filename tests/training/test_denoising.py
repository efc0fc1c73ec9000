"""Learning to make pictures from noise: the losses are the papers', runs resume, and what is made is like glyphs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from tests.training.small import SMALL, interrupt
from tests.training.test_loop import losses
from vitrail.data.source import normalise
from vitrail.errors import UsageError
from vitrail.evaluation.generation import box_encoder, features, frechet_distance
from vitrail.training.denoising import Denoising, DenoisingSection
from vitrail.training.family import build_model
from vitrail.training.loop import evaluate, open_data, train
from vitrail.training.randomness import generator_for
from vitrail.training.recipe import Recipe, parse_recipe

UNET = {"family": "ddpm", "image_size": 16, "widths": [16, 32], "depth": 1, "attention": [False, False], "groups": 4}
SCORE = {
    "family": "ncsnpp",
    "image_size": 16,
    "widths": [16, 32],
    "depth": 1,
    "attention": [False, False],
    "center_input": False,
}
DIT = {
    "family": "dit",
    "image_size": 16,
    "patch_size": 2,
    "channels": 3,
    "width": 48,
    "depth": 2,
    "heads": 3,
    "variance": False,
}
DENOISING: dict[str, Any] = {
    **SMALL,
    "model": UNET,
    "data": {"source": "glyphs", "generated": 24, "hold_out_combinations": True, "background": "white"},
    "objective": {"name": "denoising", "parameterisation": "velocity", "sampling": {"num_steps": 8}},
    "precision": "fp32",
    "checkpoint": {"every": 4},
    "evaluation": {"every": 1000, "samples": 4},
}


def denoising(model: dict[str, Any] = UNET, objective: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    said = {**DENOISING["objective"], **(objective or {})}
    return parse_recipe({**DENOISING, "model": model, "objective": said, **changes})


def section(**keys: Any) -> DenoisingSection:
    return DenoisingSection(name="denoising", **keys)


class Says(nn.Module):
    """A network that says something fixed, and keeps what it was shown."""

    def __init__(self, said: Tensor) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.x, self.time = x, time
        return self.said


@pytest.mark.parametrize("parameterisation", ["epsilon", "velocity", "clean", "flow", "score", "preconditioned"])
def test_the_loss_is_the_error_of_what_the_network_says(parameterisation: str):
    exploding = {"score": "variance-exploding", "preconditioned": "variance-exploding"}
    schedule = {"flow": "flow", **exploding}.get(parameterisation, "linear")
    objective = section(parameterisation=parameterisation, schedule=schedule)
    images, noise, said = (torch.randn(4, 3, 4, 4) for _ in range(3))
    sigma = objective.sigma(torch.tensor([0.1, 0.4, 0.7, 0.95]))
    network, by = Says(said), sigma.view(-1, 1, 1, 1)
    found = objective.errors(network, images, noise, sigma, None)  # type: ignore[arg-type]
    alpha = (1 + by**2).rsqrt()
    target, seen, scale = {
        "epsilon": (noise, alpha * (images + by * noise), 1),
        "velocity": (alpha * noise - alpha * by * images, alpha * (images + by * noise), 1),
        "clean": (images, alpha * (images + by * noise), 1),
        "flow": (noise - images, (images + by * noise) / (1 + by), 1),
        "score": (-noise / by, images + by * noise, by),
        "preconditioned": (
            (images - 0.25 * (images + by * noise) / (by**2 + 0.25)) * (by**2 + 0.25).sqrt() / (0.5 * by**2),
            (images + by * noise) / (by**2 + 0.25).sqrt(),
            by,
        ),
    }[parameterisation]
    torch.testing.assert_close(found, ((said - target) * scale).square().mean((1, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.x, seen)
    if schedule == "linear":
        assert network.time.tolist() == [100, 400, 700, 950]
    if schedule == "flow":
        torch.testing.assert_close(network.time, torch.tensor([100.0, 400.0, 700.0, 950.0]))


def test_min_snr_weighs_the_error_of_the_picture_alike_whatever_is_said():
    sigma = torch.tensor([0.1, 0.5, 2.0])
    for parameterisation, schedule in (("epsilon", "linear"), ("velocity", "cosine"), ("flow", "flow")):
        objective = section(parameterisation=parameterisation, schedule=schedule, min_snr=5.0)
        torch.testing.assert_close(objective.weight(sigma), torch.tensor([5.0, 4.0, 0.25]))


def test_times_are_spread_evenly_or_gathered_in_the_middle():
    places = (torch.arange(10_000) + 0.5) / 10_000
    even = section(parameterisation="flow", schedule="flow").sigma(places)
    gathered = section(parameterisation="flow", schedule="flow", times="logit-normal").sigma(places)
    assert even.median().item() == pytest.approx(1.0, abs=1e-2)
    assert gathered.median().item() == pytest.approx(1.0, abs=1e-2)
    share = lambda sigma: ((sigma > 1 / 3) & (sigma < 3)).float().mean().item()  # noqa: E731 - times in the middle half
    assert share(even) == pytest.approx(0.5, abs=1e-2)
    assert share(gathered) == pytest.approx(math.erf(math.log(3) / 2**0.5), abs=1e-2)  # logit(t) from N(0, 1)
    steps = section(schedule="cosine").sigma(places)
    assert len(steps.unique()) == 1000


def test_classes_are_hidden_as_often_as_asked():
    recipe = denoising({**DIT, "image_size": 8}, {"class_dropout": 0.25})
    model = build_model("dit", recipe.model.config(5))
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    torch.manual_seed(0)
    Denoising(model, recipe.objective)(torch.zeros(400, 3, 8, 8), torch.full((400,), 2))  # type: ignore[arg-type]
    assert set(seen[0].tolist()) == {2, 5}
    assert (seen[0] == 5).float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_bits_per_dimension_of_noise_are_its_entropy():
    """Pictures from N(0, s²), and the network that is right about them: what is bits is known."""
    spread, objective = 0.3, section(parameterisation="score", schedule="variance-exploding", sigma_max=50.0)

    class Right(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            return -x / (spread**2 + sigma.view(-1, 1, 1, 1) ** 2)

    images = ((spread * torch.randn(16, 3, 8, 8)).clamp(-1, 1) * 127.5).round() / 127.5
    dice = [generator_for("test", number) for number in range(16)]
    bits = objective.bits(Right(), images, None, dice)  # type: ignore[arg-type]
    entropy = math.log2(spread * math.sqrt(2 * math.pi * math.e)) + math.log2(255 / 2)
    assert bits.shape == (16,)
    assert bits.mean().item() == pytest.approx(entropy, abs=0.08)


def test_a_picture_follows_from_its_number_and_not_from_its_batch():
    recipe = denoising(DIT, {"class_dropout": 0.1, "likelihood": 3, "sampling": {"sampler": "ddpm", "num_steps": 4}})
    data = open_data(recipe)
    model = build_model("dit", recipe.model.config(len(data.labels)))
    for weights in (model.output.parameters(), model.blocks.parameters()):
        for weight in weights:
            nn.init.normal_(weight, std=0.05)
    answer = recipe.objective.answering(model.eval(), data)
    numbers = torch.arange(len(data.test))
    batch = {**data.test.batch(numbers, None), "numbers": numbers}
    some = {**data.test.batch(numbers[2:4], None), "numbers": numbers[2:4]}
    with torch.no_grad():
        every = answer(normalise(batch["images"]), batch)
        two = answer(normalise(some["images"]), some)
    for one, other in zip(every[2:4], two, strict=True):
        torch.testing.assert_close(one.picture, other.picture)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert (one.bits is None) == (other.bits is None)
    assert not torch.allclose(every[0].picture, every[1].picture)
    assert sum(made.bits is not None for made in every) == 3
    assert all(made.asked for made in every)


def test_guidance_pushes_away_from_no_class():
    model = build_model("dit", denoising(DIT, {"class_dropout": 0.1}).model.config(5))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    noise, labels = torch.randn(2, 3, 16, 16), torch.tensor([1, 3])
    plain, guided, none = (
        section(class_dropout=0.1, sampling={"num_steps": 1, "guidance_scale": scale, "sampler": "euler"})
        for scale in (1.0, 3.0, 0.0)
    )
    with torch.no_grad():
        made = [one.sample(model, noise, labels) for one in (plain, guided)]
        hidden = plain.sample(model, noise, torch.full((2,), model.no_class))
        torch.testing.assert_close(none.sample(model, noise, labels), hidden, atol=1e-3, rtol=0)
    assert not torch.allclose(*made)


def looks(recipe: Recipe, folder: Path) -> tuple[float, float]:
    """The Fréchet distance to the glyphs of training, of what a run makes, and of noise with their colours' spread."""
    data, encoder = open_data(recipe), box_encoder(torch.device("cpu"))
    model = vitrail.load(str(folder / "model.safetensors"))
    seen = data.train.batch(torch.arange(len(data.train)), None)
    real = normalise(seen["images"])
    noise = torch.randn(64, *real.shape[1:], generator=generator_for("looks"))
    dice = [generator_for("dice", number) for number in range(64)]
    with torch.no_grad():
        made = recipe.objective.sample(model, noise, seen["targets"][:64], dice)  # type: ignore[union-attr]
    noisy = real.mean((0, 2, 3), keepdim=True) + real.std() * noise
    known = features(real, encoder)
    return frechet_distance(known, features(made, encoder)), frechet_distance(known, features(noisy, encoder))


@pytest.mark.parametrize(
    ("model", "objective", "steps"),
    [
        (
            {**UNET, "widths": [32, 64], "image_size": 8},
            {"parameterisation": "clean", "schedule": "cosine", "sampling": {"sampler": "ddpm", "num_steps": 12}},
            100,
        ),
        (
            {**DIT, "image_size": 8},
            {
                "parameterisation": "flow",
                "schedule": "flow",
                "class_dropout": 0.1,
                "sampling": {"sampler": "euler", "num_steps": 8, "guidance_scale": 1.5},
            },
            150,
        ),
    ],
    ids=["ddpm", "dit"],
)
def test_a_run_learns_and_what_it_makes_is_nearer_to_glyphs_than_noise(
    model: dict[str, Any], objective: dict[str, Any], steps: int, tmp_path: Path
):
    checkpoint = {"every": 1000}
    learning = {"steps": steps, "batch_size": 32, "optimiser": {"lr": 3e-3}, "log_every": 10, "checkpoint": checkpoint}
    recipe = denoising(model, objective, **learning)
    run = train(recipe, output=tmp_path / "run")
    curve = losses(run.folder)
    assert curve[steps] < 0.5 * curve[10]
    made, noise = looks(recipe, run.folder)
    assert made < 0.75 * noise  # 0.44 and 0.55 when this was written
    assert {"loss", "frechet", "frechet_real", "precision", "recall", "novelty"} <= run.scores.keys()
    assert ("recognised" in run.scores) == (model["family"] == "dit")
    assert run.scores["loss"] < curve[10]
    assert evaluate(run.folder).scores["loss"] == pytest.approx(run.scores["loss"], rel=0.05)  # stored in bfloat16
    (sheet,) = (run.folder / "samples").iterdir()
    with Image.open(sheet) as drawn:
        assert min(drawn.size) > 100


@pytest.mark.parametrize("parameterisation", ["score", "preconditioned"])
def test_a_score_network_learns(tmp_path: Path, parameterisation: str):
    objective = {
        "parameterisation": parameterisation,
        "schedule": "variance-exploding",
        "sigma_max": 10.0,
        "sampling": {"sampler": "predictor-corrector", "num_steps": 4},
    }
    recipe = denoising({**SCORE, "image_size": 8}, objective, steps=40, optimiser={"lr": 3e-3}, log_every=10)
    run = train(recipe, output=tmp_path / "run")
    curve = losses(run.folder)
    assert curve[40] < 0.8 * curve[10]


def test_stopped_between_checkpoints_it_ends_in_the_same_numbers(tmp_path: Path):
    objective = {"parameterisation": "flow", "schedule": "flow", "times": "logit-normal", "class_dropout": 0.3}
    recipe = denoising({**DIT, "image_size": 8}, objective, steps=9, optimiser={"name": "muon", "lr": 1e-3})
    straight = train(recipe, output=tmp_path / "straight")
    interrupt(recipe, tmp_path / "stopped", before=6)
    resumed = train(recipe, output=tmp_path / "stopped")
    assert resumed.model.read_bytes() == straight.model.read_bytes()
    assert resumed.scores == straight.scores
    assert losses(resumed.folder) == losses(straight.folder)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"parameterisation": "velocity", "schedule": "flow"}, "velocity goes with the schedule linear or"),
        ({"parameterisation": "flow"}, "flow goes with the schedule flow alone"),
        ({"sampling": {"sampler": "magic"}}, "there is no sampler 'magic'; there are ddpm, ddim"),
        ({"sampling": {"guidance_scale": 2.0}}, "set class_dropout"),
    ],
)
def test_sections_that_make_no_sense_are_refused(keys: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        denoising(objective={"parameterisation": "epsilon", **keys})


def test_networks_and_objectives_that_do_not_fit_are_refused(tmp_path: Path):
    score = {"parameterisation": "score", "schedule": "variance-exploding"}
    for model, objective, said in (
        (UNET, score, "'score' or 'preconditioned' for ncsnpp, and for no other"),
        (SCORE, {}, "'score' or 'preconditioned' for ncsnpp, and for no other"),
        ({**SCORE, "center_input": True}, score, "set model.center_input to false"),
        ({**DIT, "variance": True}, {}, "set model.variance to false"),
        (UNET, {"class_dropout": 0.1}, "ddpm is told no classes"),
    ):
        with pytest.raises(UsageError, match=said):
            train(denoising(model, objective), output=tmp_path / "run", resume=False)
    with pytest.raises(UsageError, match="'vit' make no pictures"):
        open_data(denoising(SMALL["model"]))
    with pytest.raises(UsageError, match="'ddpm' make pictures, and say nothing of them"):
        open_data(parse_recipe({**DENOISING, "objective": {"name": "classification"}}))
