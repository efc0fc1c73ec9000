"""Learning to answer: the scores are what they say, and a short run learns to look."""

from typing import Any

import pytest
import torch

import vitrail
from tests.training.small import TOWER, small
from tests.training.test_loop import losses
from vitrail.data.answers import NOT_ASKED, UNKNOWN
from vitrail.data.source import Quiz
from vitrail.errors import UsageError
from vitrail.evaluation.answers import AnswerScores
from vitrail.models.vqa import VQA
from vitrail.training.loop import evaluate, train
from vitrail.training.recipe import Recipe, parse_recipe

RECIPE: dict[str, Any] = {
    "name": "small",
    "model": {
        "family": "vqa",
        "image": {"image_size": 24, "patch_size": 6, **TOWER, "classes": 0},
        "text": {"context": 40, **TOWER},
        "width": 48,
        "rank": 96,
    },
    "data": {
        "source": "answers",
        "generated": 12,
        "count": [1, 2],
        "languages": ["en"],
        "length": 32,
        "test_length": 20,
    },
    "objective": {"name": "answering"},
    "optimiser": {"name": "muon", "lr": 1e-2},
    "schedule": {"warmup": 10},
    "steps": 60,
    "batch_size": 16,
    "precision": "fp32",
    "log_every": 5,
    "evaluation": {"every": 1000, "samples": 4},
}


def recipe(**changes: Any) -> Recipe:
    raw = {**RECIPE}
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_recipe(raw)


def test_scores_by_hand():
    quiz = Quiz(lambda: iter(()), 300, (("how many", "en"), ("how many", "zh"), ("style", "en")), (1, 2, 0))
    scores = AnswerScores(quiz)
    no = NOT_ASKED
    scores.update(torch.tensor([[1, no, 0], [no, 2, 3]]), torch.tensor([[1, no, 3], [no, 4, 3]]))
    scores.update(torch.tensor([[0, no, 0]]), torch.tensor([[1, no, UNKNOWN]]))
    assert scores.compute() == pytest.approx(
        {
            "exact": 2 / 6,
            "exact_en": 2 / 5,
            "exact_zh": 0,
            "exact_how_many": 1 / 3,
            "exact_style": 1 / 3,
            "majority": 2 / 6,
            "majority_how_many": 2 / 3,
            "majority_style": 0,
        }
    )


def test_it_learns_to_look(tmp_path):
    """Of a few scenes it learns to tell what is asked of each, which cannot be told without the pictures."""
    seen, blind = (
        train(recipe(data={"blind": hidden}), output=tmp_path / name)
        for name, hidden in (("seen", False), ("blind", True))
    )
    fell, stayed = losses(seen.folder), losses(blind.folder)
    assert fell[60] < 0.2 * fell[5]
    assert fell[60] < 0.6 * stayed[60]
    model = vitrail.load(str(seen.model))
    assert isinstance(model, VQA)
    assert seen.scores["exact"] > 5 / len(model.labels)  # where chance is 1
    again = evaluate(seen.folder)
    assert again.scores == pytest.approx(seen.scores)
    assert set(model.answer(torch.zeros(2, 3, 24, 24), "Is there a red apple?")) <= set(model.labels)
    assert (seen.folder / "samples" / "step-00000060.png").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"objective": {"name": "classification"}}, "asks questions"),
        ({"data": {"source": "glyphs", "generated": 12}}, "asks nothing"),
        ({"objective": {"name": "classification"}, "data": {"source": "glyphs", "generated": 12}}, "choose answers"),
        ({"model": small().model.model_dump()}, "networks of model.family 'vit' choose no answers"),
    ],
)
def test_what_does_not_fit_is_said(wrong, said, tmp_path):
    raw = {**RECIPE, **wrong}
    with pytest.raises(UsageError, match=said):
        train(parse_recipe(raw), output=tmp_path)


def test_a_picture_encoder_that_can_see_already(tmp_path):
    first = train(small(steps=2), output=tmp_path / "seeing")
    seeing = vitrail.load(str(first.model))
    short = recipe(steps=1, optimiser={"lr": 1e-9}, start_from=str(first.folder), schedule={"warmup": 0})
    model = vitrail.load(str(train(short, output=tmp_path / "answering").model))
    for name, weight in seeing.state_dict().items():
        if not name.startswith("head"):
            torch.testing.assert_close(model.state_dict()[f"image.{name}"], weight)
