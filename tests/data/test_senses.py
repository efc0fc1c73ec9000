"""Pictures, films and sounds side by side as training data."""

import pytest
import torch
from pydantic import ValidationError

from vitrail.data.scenes.motion import MOTIONS
from vitrail.data.senses import SenseItems, SensesSection
from vitrail.data.sounds import KINDS
from vitrail.errors import UsageError


def section(**changes) -> SensesSection:
    return SensesSection(
        **{"source": "senses", "generated": 12, "hold_out_style": "shaded", "frames": 4, "samples": 1024, **changes}
    )


def test_a_batch_is_of_all_senses_and_says_what_each_is():
    data = section().open((24, 24))
    batch = data.train.batch(torch.tensor([5, 0, 5]), torch.Generator())
    assert batch["images"].shape == (3, 3, 24, 24)
    assert batch["videos"].shape == (3, 3, 4, 24, 24)
    assert batch["images"].dtype == batch["videos"].dtype == torch.uint8
    assert batch["sounds"].shape == (3, 1024)
    for key in ("images", "videos", "sounds", "targets"):
        assert (batch[key][0] == batch[key][2]).all()
        assert not (batch[key][0] == batch[key][1]).all()
    items = data.train
    assert isinstance(items, SenseItems)
    named, moved, heard = (data.labels[number] for number in batch["targets"][0].tolist())
    assert named == items.scenes[5].objects[0].concept.name_en
    assert moved == f"video: {items.scenes.video(5, 4).motions[0].kind}"
    assert heard == f"sound: {KINDS[items.sounds[5][1]]}"
    assert (batch["videos"][0, :, 0] == torch.from_numpy(items.scenes.video(5, 4).frames[0]).permute(2, 0, 1)).all()


def test_each_sense_has_classes_of_its_own():
    data = section().open((24, 24))
    assert data.senses is not None
    assert [len(classes) for classes in data.senses.values()] == [12, len(MOTIONS), len(KINDS)]
    assert [number for classes in data.senses.values() for number in classes] == list(range(len(data.labels)))
    targets = data.test.batch(torch.arange(30), None)["targets"]
    for column, classes in enumerate(data.senses.values()):
        assert set(targets[:, column].tolist()) <= set(classes)


def test_the_test_is_in_the_style_held_out():
    data = section(length=20, test_length=20).open((24, 24))
    shown = [
        {scenes[index].objects[0].style for index in range(20)} for scenes in (data.train.scenes, data.test.scenes)
    ]  # type: ignore[attr-defined]
    assert "shaded" not in shown[0]
    assert shown[1] == {"shaded"}
    again = section(hold_out_style=None, length=20, test_length=20).open((24, 24))
    first = [source.batch(torch.arange(20), None) for source in (again.train, again.test)]
    assert not (first[0]["images"] == first[1]["images"]).flatten(1).all(1).any()
    assert not (first[0]["sounds"] == first[1]["sounds"]).all(1).any()


def test_a_test_shows_all_three():
    batch = section().open((24, 24)).test.batch(torch.arange(2), None)
    assert batch["shown"].shape == (2, 3, 72, 96)
    assert batch["shown"].dtype == torch.uint8
    assert (batch["shown"][:, :, :48:2, :48:2] == batch["images"]).all()
    assert (batch["shown"][:, :, 48:, 72:] == batch["videos"][:, :, -1]).all()
    assert batch["shown"][:, :, :48, 48:].float().std() > 5


def test_settings_that_fit_nothing_are_refused():
    with pytest.raises(UsageError, match="scenes are square"):
        section().open((24, 32))
    with pytest.raises(UsageError, match=r"data\.subgroups names 'food-frut'"):
        section(subgroups=("food-frut",)).open((24, 24))
    with pytest.raises(ValidationError):
        section(frames=3)
