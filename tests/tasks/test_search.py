"""`vitrail.search`: what is found by words, by pictures and by both, and which filters hold."""

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import vitrail
from tests.folders import blob, fill
from tests.reading import Colours
from tests.tiny import tiny_vit
from vitrail.tasks.maker import maker_of
from vitrail.tasks.search import condition
from vitrail.tasks.store import NAME, Row, Seen, Store

SHADES = {
    "red": (255, 0, 0),
    "orange": (255, 100, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "violet": (180, 0, 255),
}


@pytest.fixture(scope="module")
def network() -> Colours:
    return Colours()


@pytest.fixture(scope="module")
def colours(tmp_path_factory, network) -> Path:
    """A folder of plain colours, one each day from 1 May 2024 on (UTC), and larger ones in "large"."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "large").mkdir()
    for day, (name, colour) in enumerate(SHADES.items(), start=1):
        for where, edge in (("", 8), ("large/", 400)):
            path = folder / f"{where}{name}.bmp"
            Image.new("RGB", (edge, edge), colour).save(path)
            os.utime(path, (datetime(2024, 5, day, 12, tzinfo=UTC).timestamp(),) * 2)
    vitrail.index(folder, model=network)
    return folder


def names(found: vitrail.tasks.search.Found) -> list[str]:
    return [hit.picture.path.stem for hit in found.hits]


def test_words_find_what_they_mean(colours, network):
    found = vitrail.search("red", colours, model=network, path="large/*")
    assert names(found)[:2] == ["red", "orange"]
    assert set(names(found)[3:]) == {"green", "blue"}
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5]
    expected = [1.0, 255 / np.hypot(255, 100), 180 / np.hypot(180, 255), 0, 0]
    np.testing.assert_allclose([hit.score for hit in found.hits], expected, atol=1e-3)


def test_pictures_find_their_like_and_are_added_to_words(colours, network):
    assert names(vitrail.search(None, colours, images=colours / "blue.bmp", model=network, count=2)) == ["blue"] * 2
    both = vitrail.search("red", colours, images=colours / "blue.bmp", model=network, count=2)
    assert names(both) == ["violet"] * 2
    three = vitrail.search(
        "red", colours, images=[colours / "blue.bmp", Image.new("RGB", (9, 9), (0, 200, 0))], model=network
    )
    black = np.ones(3) / 3**0.5
    for hit in three.hits:
        colour = np.array(SHADES[hit.picture.path.stem]) / 255
        assert hit.score == pytest.approx(black @ colour / np.linalg.norm(colour), abs=1e-3)


def test_a_picture_of_the_folder_finds_itself_first_by_any_network(tmp_path):
    folder, network = fill(tmp_path / "pictures", 20), tiny_vit()
    vitrail.index(folder, model=network)
    found = vitrail.search(folder=folder, images=folder / "007.png", model=network, count=3)
    assert found.hits[0].picture.path == folder / "007.png"
    assert found.hits[0].score == pytest.approx(1, abs=1e-5)
    vectors = {p: vitrail.embed(p, model=network).vector for p in folder.glob("*.png")}
    mine = vectors[folder / "007.png"]
    cosines = {p: v @ mine / np.linalg.norm(v) / np.linalg.norm(mine) for p, v in vectors.items()}
    expected = sorted(cosines, key=cosines.get, reverse=True)[:3]
    assert [hit.picture.path for hit in found.hits] == expected
    np.testing.assert_allclose([hit.score for hit in found.hits], [cosines[p] for p in expected], atol=1e-4)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"path": "large/*"}, {"large/" + name for name in SHADES}),
        ({"path": "*/red.bmp"}, {"large/red"}),
        ({"path": "re?.bmp"}, {"red"}),
        ({"path": "*re*"}, {"red", "green", "large/red", "large/green"}),
        ({"path": "RED.bmp"}, set()),
        ({"min_size": 1000, "path": "*r*d.bmp"}, {"large/red"}),
        ({"max_size": 1000}, set(SHADES)),
        ({"after": "2024-05-04T00:00Z", "max_size": 1000}, {"blue", "violet"}),
        ({"before": "2024-05-02T12:00+00:00", "max_size": 1000}, {"red"}),
        ({"before": "2024-05-02T12:00:00.000001+00:00", "max_size": 1000}, {"red", "orange"}),
        ({"after": "2024-05-02T14:00+02:00", "before": "2024-05-03T12:00Z", "max_size": 1000}, {"orange"}),
        ({"after": date(2024, 5, 1), "before": date(2024, 5, 20), "max_size": 1000}, set(SHADES)),
        ({"after": datetime(2024, 5, 5, tzinfo=UTC), "max_size": 1000}, {"violet"}),
        ({"after": "0001-01-01", "before": "9999-12-31", "min_size": 0, "max_size": 10**15, "path": "r*"}, {"red"}),
    ],
)
def test_filters(colours, network, filters, expected):
    found = vitrail.search("grey", colours, model=network, count=50, **filters)
    paths = {hit.picture.path.relative_to(colours).with_suffix("").as_posix() for hit in found.hits}
    assert paths == expected


def test_a_date_without_a_zone_is_here(colours, network):
    here = datetime(2024, 5, 3, 12, tzinfo=UTC).astimezone()
    naive = here.replace(tzinfo=None)
    found = vitrail.search("grey", colours, model=network, after=naive.isoformat(), before=naive + timedelta(seconds=1))
    assert set(names(found)) == {"green"}


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / NAME).mkdir()
    Store.create(folder, maker_of(tiny_vit()))
    return folder


signs = st.text(st.sampled_from("ab/%_\\'\"*?[]^$.;-\n 猫🐸\x7f"), min_size=1, max_size=6)


def like(pattern: str, path: str) -> bool:
    """What * and ? mean, spelled out."""
    if not pattern:
        return not path
    if pattern[0] == "*":
        return any(like(pattern[1:], path[start:]) for start in range(len(path) + 1))
    return bool(path) and pattern[0] in ("?", path[0]) and like(pattern[1:], path[1:])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(signs, min_size=1, max_size=12), pattern=signs)
def test_any_path_and_any_pattern(oddly_named, paths, pattern):
    store = Store.open(oddly_named)
    store.remove(list(store.seen()))
    vector = np.eye(1, 32, dtype=np.float32)[0]
    store.put([Row(path, Seen(1, 1), "", 1, 1, vector) for path in sorted(paths)], new=True)
    found = {near.path for near in store.nearest(vector, 100, condition(path=pattern))}
    assert found == {path for path in paths if like(pattern, path)}
    assert set(store.rows([*paths, "another"])) == paths
    gone = sorted(paths)[::2]
    store.remove(gone)
    assert set(store.seen()) == paths - set(gone)


@pytest.mark.parametrize("wrong", ["yesterday", "2024-13-01", "", "' OR 1=1"])
def test_what_is_no_date(colours, network, wrong):
    with pytest.raises(vitrail.UsageError, match="no date"):
        vitrail.search("red", colours, model=network, after=wrong)


def test_what_makes_no_sense(colours, network, tmp_path):
    with pytest.raises(vitrail.UsageError, match="nothing to search by"):
        vitrail.search(None, colours, model=network)
    with pytest.raises(vitrail.UsageError, match="at least 1"):
        vitrail.search("red", colours, model=network, count=0)
    with pytest.raises(vitrail.VitrailError, match=rf"not indexed yet: vitrail index {tmp_path}"):
        vitrail.search("red", tmp_path)
    with pytest.raises(vitrail.ImageError, match="there is no such file"):
        vitrail.search("red", colours, images="missing.png", model=network)
    with pytest.raises(vitrail.VitrailError, match="--rebuild"):
        vitrail.search("red", colours, model=tiny_vit())


def test_words_for_a_network_without_words(tmp_path):
    folder, network = fill(tmp_path / "pictures", 2), tiny_vit()
    vitrail.index(folder, model=network)
    with pytest.raises(vitrail.UsageError, match="does not understand words"):
        vitrail.search("red", folder, model=network)


def test_what_has_changed_since_is_counted(tmp_path, network, monkeypatch):
    folder = fill(tmp_path / "pictures", 4)
    vitrail.index(folder, model=network)
    assert vitrail.search("red", folder, model=network).outdated == 0
    blob(50).save(folder / "new.png")
    (folder / "001.png").unlink()
    blob(51).save(folder / "002.png")
    found = vitrail.search("red", folder, model=network)
    assert (found.outdated, len(found.hits)) == (3, 4)
    monkeypatch.setattr("vitrail.tasks.search.COMPARED", 3)
    assert vitrail.search("red", folder, model=network).outdated is None


def test_half_precision_finds_the_same(colours):
    found = vitrail.search("red", colours, model=Colours().to(torch.bfloat16), count=2)
    assert names(found) == ["red", "red"]


def test_result_is_readable_and_serialises(colours, network):
    found = vitrail.search("blue", colours, images=colours / "blue.bmp", model=network, count=2)
    first = str(found).splitlines()[0]
    assert first.split() == ["1", "1.000", str(found.hits[0].picture.path)]
    described = json.loads(json.dumps(found.to_dict()))
    assert described["query"] == "blue"
    assert described["images"] == [str(colours / "blue.bmp")]
    hit = described["hits"][0]
    assert list(hit) == ["rank", "score", "path", "size", "modified", "width", "height"]
    assert hit["size"] == os.path.getsize(hit["path"])
    assert hit["modified"] == "2024-05-04T12:00:00+00:00"
    none = vitrail.search("blue", colours, model=network, path="nowhere/*")
    assert (str(none), none.hits) == ("nothing found", ())
    with pytest.raises(vitrail.VitrailError, match="no contact sheet"):
        none.draw()


def test_the_contact_sheet_shows_the_hits_and_a_gap_for_what_is_gone(tmp_path, network):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in SHADES.items():
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
    vitrail.index(folder, model=network)
    found = vitrail.search("red", folder, model=network, count=2)
    (folder / "orange.png").unlink()
    drawn = found.draw(cell=50)
    colours = {colour for _, colour in drawn.getcolors(10**6)}
    assert SHADES["red"] in colours
    assert SHADES["orange"] not in colours
    assert SHADES["blue"] not in colours


def test_a_contact_sheet_writes_no_letters_that_its_font_lacks(tmp_path, network, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("猫", "cat"):
        Image.new("RGB", (8, 8), SHADES["red"]).save(folder / f"{name}.png")
    vitrail.index(folder, model=network)
    found = vitrail.search("red 青蛙", folder, model=network)
    drawn = found.draw(cell=50)
    monkeypatch.setattr("vitrail.tasks.hits.MOST_DRAWN", 1)
    assert found.draw(cell=50).width < drawn.width
    latin = vitrail.search("red", folder, model=network, path="cat.png").draw(cell=50)
    assert latin.height > vitrail.search("red 青蛙", folder, model=network, path="cat.png").draw(cell=50).height
