"""Learning what is at each place: its targets, its scores, and a run that learns."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small import SMALL, small
from tests.training.test_loop import losses
from vitrail.errors import UsageError
from vitrail.evaluation.patches import PatchScores, patch_targets
from vitrail.training.loop import evaluate, open_data, train
from vitrail.training.recipe import Recipe, parse_recipe


def maps(**changes: Any) -> Recipe:
    data = {"source": "scenes", "targets": "map", "generated": 12, "test_length": 20, "count": [1, 2]}
    return parse_recipe({**SMALL, "data": data, "objective": {"name": "patches"}, **changes})


def test_a_patch_is_of_the_class_that_most_of_its_pixels_show():
    maps = torch.zeros(2, 6, 9, dtype=torch.int64)
    maps[0, :3, :3] = torch.tensor([[5, 5, 0], [0, 5, 0], [0, 5, 5]])  # five of nine
    maps[0, 3:, 6:] = 7
    maps[1, :3, 3:6] = torch.tensor([[5, 5, 0], [0, 5, 0], [0, 0, 5]])  # four of nine
    assert patch_targets(maps, 6).tolist() == [[5, 0, 0, 0, 0, 7], [0] * 6]


def test_scores_count_things_apart():
    scores, maps = PatchScores(), torch.zeros(1, 4, 4, dtype=torch.int64)
    maps[0, :2] = 1
    right = torch.tensor([1, 1, 0, 0])
    scores.update(torch.eye(3)[[1, 2, 0, 0]][None], maps)
    scores.update(torch.eye(3)[right][None], maps)
    assert scores.compute() == pytest.approx({"things": 3 / 4, "patches": 7 / 8})


def test_a_map_says_what_is_where():
    recipe = maps()
    data = open_data(recipe)
    batch = data.train.batch(torch.arange(5), None)
    assert data.labels[0] == "background"
    for number in range(5):
        scene = data.train.scenes[number]  # type: ignore[attr-defined]
        for mask, one in zip(scene.masks, scene.objects, strict=True):
            shown = {data.labels[index] for index in batch["targets"][number][torch.from_numpy(mask)].unique().tolist()}
            assert shown == {one.concept.name_en}
        assert (batch["targets"][number][torch.from_numpy(scene.owner == 0)] == 0).all()


def test_a_run_learns_where_things_are(tmp_path: Path):
    recipe = maps(steps=300, optimiser={"name": "muon", "lr": 5e-3}, checkpoint={"every": 1000})
    run = train(recipe, output=tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert curve[300] < 0.3 * curve[3]
    assert run.scores["things"] > 0.15  # none where all is background, 0.08 by chance; 0.29 when this was written
    assert evaluate(run.folder).scores["things"] == pytest.approx(run.scores["things"], abs=0.05)


def test_maps_and_objectives_that_do_not_fit_are_refused():
    for augmentation, said in (
        ({"flip": 0.5}, "only colours may change"),
        ({"mixup": 0.4}, "objective patches has none"),
    ):
        with pytest.raises(UsageError, match=said):
            maps(augmentation=augmentation)
    with pytest.raises(UsageError, match="says what each pixel shows"):
        open_data(maps(objective={"name": "classification"}))
    with pytest.raises(UsageError, match="says what a whole picture shows"):
        open_data(small(objective={"name": "patches"}))
