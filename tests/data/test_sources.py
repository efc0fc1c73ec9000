"""Every source gives the same pictures for the same numbers, and its classes are what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from vitrail.data.generated import generate_glyphs
from vitrail.data.source import Data, scaling
from vitrail.data.sources import DataSection
from vitrail.data.splits import unseen_combination
from vitrail.errors import UsageError

SIZE = (24, 24)


def opened(size: tuple[int, int] = SIZE, **keys: Any) -> Data:
    return TypeAdapter(DataSection).validate_python(keys).open(size)


def glyphs(**keys: Any) -> Data:
    return opened(source="glyphs", generated=12, **keys)


def test_a_held_out_style_is_tested_on_and_not_trained_on():
    data = glyphs(hold_out_style="shaded")
    table = generate_glyphs(12, size=24)
    assert (len(data.train), len(data.test), len(data.labels)) == (36, 12, 12)
    assert data.split == "unseen style shaded"
    test = data.test.batch(torch.arange(12), None)
    assert test["targets"].tolist() == list(range(12))
    for image, code in zip(test["images"], table.concepts, strict=True):
        glyph = Image.fromarray(table.pictures[table.of(code, "shaded")])
        on_white = Image.new("RGBA", glyph.size, "white")
        on_white.alpha_composite(glyph)
        # Pillow rounds otherwise
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(on_white.convert("RGB"))).max() <= 1


def test_a_held_out_combination_is_of_a_concept_and_a_style_that_are_trained_on():
    data = opened(source="glyphs", generated=96, hold_out_combinations=True, background="white")
    table = generate_glyphs(96, size=24)
    pairs = zip(table.concept, table.style, strict=True)
    unseen = [index for index, pair in enumerate(pairs) if unseen_combination(*pair, table.styles) == "test"]
    assert len(data.test) == len(unseen)
    assert len(data.train) + len(data.test) == 4 * 96
    assert data.split == "unseen combination of concept and style"
    numbers = {code: number for number, code in enumerate(table.concepts)}
    tested = data.test.batch(torch.arange(len(unseen)), None)
    trained = data.train.batch(torch.arange(len(data.train)), None)
    assert [data.labels[target] for target in tested["targets"]] == [
        table.concepts[table.concept[index]].name_en for index in unseen
    ]
    assert trained["targets"].unique().numel() == len(numbers)
    seen = {image.numpy().tobytes() for image in trained["images"]}
    assert not any(image.numpy().tobytes() in seen for image in tested["images"])
    with pytest.raises(UsageError, match="are two tests: keep one"):
        glyphs(hold_out_combinations=True, hold_out_style="flat")


def test_classes_may_be_of_many_concepts():
    table = generate_glyphs(12, size=24)
    for kind in ("subgroup", "group"):
        data = glyphs(classes=kind)
        targets = data.train.batch(torch.arange(48), None)["targets"].tolist()
        assert [data.labels[target] for target in targets] == [
            getattr(table.concepts[code], kind) for code in table.concept
        ]
        assert len(set(data.labels)) == len(data.labels) < 12


def test_styles_and_groups_choose_what_is_trained_on():
    assert len(glyphs(hold_out_style="shaded", styles=("flat",)).train) == 12
    data = glyphs(groups=("food-drink",))
    assert all("apple" in label or "ice cream" in label for label in data.labels)
    assert len(data.test) == len(data.train) == 4 * len(data.labels)


def test_training_sees_other_backgrounds_that_follow_the_generator():
    data, indices = glyphs(), torch.arange(12)
    looks = [data.train.batch(indices, torch.Generator().manual_seed(seed))["images"] for seed in (1, 1, 2)]
    assert torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[0], looks[2])
    corners = looks[0][:, :, 0, 0]
    assert 0 < (corners == 255).all(1).sum() < 12  # some on white, some not
    white = glyphs(background="white").train.batch(indices, torch.Generator())["images"]
    assert torch.equal(white, data.train.batch(indices, None)["images"])


def test_glyphs_come_in_the_size_that_is_asked_for():
    images = glyphs().test.batch(torch.tensor([3]), None)["images"]
    assert (images.shape, images.dtype) == ((1, 3, 24, 24), torch.uint8)
    assert opened((20, 30), source="glyphs", generated=12).test.batch(torch.tensor([3]), None)["images"].shape[2:] == (
        20,
        30,
    )


def test_scenes_say_which_concepts_they_hold():
    data = opened(source="scenes", generated=12, length=20, test_length=5, count=(1, 3))
    assert data.many
    assert (len(data.train), len(data.test)) == (20, 5)
    batch = data.train.batch(torch.tensor([4, 7]), None)
    assert batch["images"].shape == (2, 3, 24, 24)
    for row, index in zip(batch["targets"], (4, 7), strict=True):
        shown = {thing.concept.name_en for thing in data.train.scenes[index].objects}
        assert {data.labels[number] for number in row.nonzero().flatten().tolist()} == shown
    assert not torch.equal(batch["images"], data.test.batch(torch.tensor([4, 4]), None)["images"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = generate_glyphs(3, size=30)
    for index, (code, style) in enumerate(zip(table.concept, table.style, strict=True)):
        name = table.concepts[code].name_en
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(table.pictures[index]).save(tmp_path / name / f"{style}.png")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_a_folder_of_class_folders_is_parted_class_by_class(folder):
    data = opened(source="folder", path=str(folder), test_fraction=0.25)
    assert data.labels == tuple(sorted(data.labels))
    assert torch.bincount(data.test.batch(torch.arange(3), None)["targets"]).tolist() == [1, 1, 1]
    assert len(data.train) == 9
    assert not set(data.train.paths) & set(data.test.paths)
    first = scaling(SIZE).picture(data.train.paths[0])
    assert np.array_equal(data.train.batch(torch.tensor([0]), None)["images"][0].permute(1, 2, 0), first)


def test_a_folder_with_parts_of_its_own(folder, tmp_path):
    data = opened(source="folder", path=str(folder))
    for part, source in (("train", data.train), ("val", data.test)):
        for number, path in enumerate(source.paths):
            target = tmp_path / "parts" / part / Path(path).parent.name / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(path).read_bytes())
    again = opened(source="folder", path=str(tmp_path / "parts"))
    assert (len(again.train), len(again.test), again.labels) == (len(data.train), len(data.test), data.labels)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    table = generate_glyphs(4, size=30)
    rows = {
        "picture": [Image.fromarray(picture) for picture in table.pictures],
        "thing": [table.concepts[code].name_en for code in table.concept],
    }
    rows = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    rows.to_parquet(tmp_path / "some.parquet")
    rows.class_encode_column("thing").save_to_disk(tmp_path / "saved")
    return tmp_path / "some.parquet"


@pytest.mark.parametrize("name", ["some.parquet", "saved"])
def test_data_sets_by_their_columns(parquet, name):
    keys = {"source": "dataset", "path": str(parquet.with_name(name)), "image": "picture", "label": "thing"}
    data = opened(**keys)
    assert len(data.labels) == 4
    assert len(data.train) + len(data.test) == 16
    batch = data.train.batch(torch.arange(len(data.train)), None)
    assert batch["images"].shape == (len(data.train), 3, 24, 24)
    table = generate_glyphs(4, size=30)
    expected: dict[str, list[bytes]] = {}
    for picture, code in zip(table.pictures, table.concept, strict=True):
        scaled = scaling(SIZE).picture(Image.fromarray(picture))
        expected.setdefault(table.concepts[code].name_en, []).append(scaled.tobytes())
    for image, target in zip(batch["images"], batch["targets"].tolist(), strict=True):
        assert image.permute(1, 2, 0).numpy().tobytes() in expected[data.labels[target]]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"source": "folder", "path": "nowhere"}, r"data\.path names nowhere, which is no folder"),
        ({"source": "folder", "path": "FOLDER/.hidden"}, "no folders of at least two classes"),
        ({"source": "scenes", "generated": 12, "styles": ("oil",)}, r"data\.styles names 'oil'"),
    ],
)
def test_what_is_not_there_is_named(folder, keys, sentence):
    keys = {
        key: value.replace("FOLDER", str(folder)) if isinstance(value, str) else value for key, value in keys.items()
    }
    with pytest.raises(UsageError, match=sentence):
        opened(**keys)


def test_columns_and_splits_that_are_not_there_are_named(parquet):
    keys = {"source": "dataset", "path": str(parquet), "image": "picture", "label": "thing"}
    with pytest.raises(UsageError, match=r"data\.label is 'class', and the columns .* are picture, thing"):
        opened(**{**keys, "label": "class"})
    with pytest.raises(UsageError, match=r"data\.path: the split 'train' of .*absent\.parquet' cannot be opened"):
        opened(**{**keys, "path": str(parquet.with_name("absent.parquet"))})
    with pytest.raises(UsageError, match="scenes are square"):
        opened((24, 30), source="scenes", generated=12)
