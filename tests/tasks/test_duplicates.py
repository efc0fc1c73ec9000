"""`vitrail.duplicates`: copies, near-copies, and what is neither."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.folders import blob, fill
from tests.pictures import EXAMPLES
from tests.tiny import tiny_vit
from vitrail.tasks import duplicates as module
from vitrail.tasks.duplicates import grouped


def test_scaled_recompressed_and_copied_photographs_are_found_and_others_not(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("cat", "coffee", "rocket"):
        shutil.copy(EXAMPLES / f"{name}.jpg", tmp_path)
    with Image.open(EXAMPLES / "cat.jpg") as cat:
        cat.resize((cat.width // 2, cat.height // 2)).save(tmp_path / "more" / "half.png")
        cat.save(tmp_path / "again.jpg", quality=40)
    shutil.copy(EXAMPLES / "coffee.jpg", tmp_path / "more")
    vitrail.index(tmp_path, model="efficientnet-lite0")
    found = vitrail.duplicates(tmp_path)
    groups = {
        frozenset(one.picture.path.relative_to(tmp_path).as_posix() for one in group.pictures): group
        for group in found.groups
    }
    cats, coffees = {"cat.jpg", "again.jpg", "more/half.png"}, {"coffee.jpg", "more/coffee.jpg"}
    assert set(groups) == {frozenset(cats), frozenset(coffees)}
    assert groups[frozenset(coffees)].exact
    near = groups[frozenset(cats)]
    assert not near.exact
    assert near.pictures[0].picture.path == tmp_path / "cat.jpg"  # of the most pixels, the largest file
    assert near.pictures[-1].picture.path == tmp_path / "more" / "half.png"
    assert all(found.threshold <= one.score <= 1 for one in near.pictures)
    assert found.superfluous == 3
    exact = vitrail.duplicates(tmp_path, threshold=1)
    assert [group.exact for group in exact.groups] == [True]


def slow_groups(vectors, hashes, threshold) -> set[frozenset[int]]:
    """Connected pictures, by the definition."""
    groups = [{index} for index in range(len(vectors))]
    cosines = vectors @ vectors.T
    for one in range(len(vectors)):
        for other in range(one):
            if hashes[one] == hashes[other] or (threshold < 1 and cosines[one, other] >= threshold):
                first, second = (next(group for group in groups if index in group) for index in (one, other))
                if first is not second:
                    first |= second
                    groups.remove(second)
    return {frozenset(group) for group in groups if len(group) > 1}


@pytest.mark.parametrize("block", [1, 7, 64, 2048])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.97, 1])
def test_blocks_give_the_groups_of_the_definition(monkeypatch, block, threshold):
    monkeypatch.setattr(module, "_BLOCK", block)
    dice = np.random.default_rng(block)
    vectors = dice.normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = dice.integers(0, 50, 60)
    vectors, hashes = vectors[files], [str(number) for number in files]
    groups = grouped(vectors, hashes, threshold)
    assert {frozenset(group) for group in groups} == slow_groups(vectors, hashes, threshold)
    assert sum(map(len, groups)) == len({index for group in groups for index in group})


def test_thousands_of_alike_pictures_are_one_group():
    vectors = np.tile(np.eye(1, 8, dtype=np.float32), (3000, 1))
    vectors[:, 1] = np.linspace(0, 1e-3, 3000)
    (group,) = grouped(vectors, [str(number) for number in range(3000)], 0.9)
    assert sorted(group) == list(range(3000))


def test_nothing_and_one():
    assert grouped(np.zeros((0, 4), np.float32), [], 0.9) == []
    assert grouped(np.eye(1, 4, dtype=np.float32), ["a"], 0.9) == []


def test_wrong_thresholds_and_places(tmp_path):
    for wrong in (0, -1, 1.01, float("nan")):
        with pytest.raises(vitrail.UsageError, match="threshold"):
            vitrail.duplicates(tmp_path, threshold=wrong)
    with pytest.raises(vitrail.VitrailError, match="vitrail index"):
        vitrail.duplicates(tmp_path)


def test_result_is_readable_serialises_and_draws(tmp_path):
    folder = fill(tmp_path / "pictures", 3)
    blob(0, edge=80).save(folder / "large.png")
    shutil.copy(folder / "002.png", folder / "copy.png")
    vitrail.index(folder, model=tiny_vit())
    found = vitrail.duplicates(folder, threshold=1)
    (group,) = json.loads(json.dumps(found.to_dict()))["groups"]
    assert group["exact"]
    assert {one["path"] for one in group["pictures"]} == {str(folder / "002.png"), str(folder / "copy.png")}
    assert list(group["pictures"][0]) == ["path", "score", "exact", "size", "modified", "width", "height"]
    heading, first, second = str(found).splitlines()
    assert heading == "1. exact copies"
    assert "keep" in first
    assert "copy  " in second
    assert str(folder) in second
    assert found.draw(cell=40).mode == "RGB"
    (folder / "copy.png").unlink()
    vitrail.index(folder, model=tiny_vit())
    none = vitrail.duplicates(folder, threshold=1)
    assert (str(none), none.groups) == ("no duplicates", ())
    with pytest.raises(vitrail.VitrailError, match="no contact sheet"):
        none.draw()
