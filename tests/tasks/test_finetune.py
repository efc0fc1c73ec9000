"""`vitrail.finetune`: class folders in, a network and a report out."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.tiny import tiny_vit
from vitrail.data.generated import generate_glyphs
from vitrail.errors import UsageError, VitrailError
from vitrail.imaging.preprocess import standard
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig, Stage
from vitrail.models.vit import ViT, ViTConfig
from vitrail.tasks.finetune import finetune

SHAPES = ("heart", "house", "square", "star")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four classes of glyphs in many colours, patterns and manners, each laid on two random colours: 192 pictures."""
    root = tmp_path_factory.mktemp("glyphs")
    table = generate_glyphs(72, size=28)
    random = np.random.default_rng(0)
    for number, (code, style) in enumerate(zip(table.concept, table.style, strict=True)):
        shape = table.concepts[code].keywords_en[-1]
        if shape not in SHAPES:
            continue
        (root / shape).mkdir(exist_ok=True)
        glyph = Image.fromarray(table.pictures[number])
        for copy in range(2):
            paper = Image.new("RGB", (32, 32), tuple(random.integers(0, 256, 3).tolist()))
            paper.paste(glyph, (2, 2), glyph)
            paper.save(root / shape / f"{code}-{style}-{copy}.png")
    return root


def small_vit() -> ViT:
    torch.manual_seed(0)
    model = ViT(ViTConfig(image_size=32, patch_size=8, width=64, depth=2, heads=4, mlp_width=128, classes=7)).eval()
    model.preprocess = standard(32, crop_fraction=1.0)
    return model


def small_efficientnet() -> EfficientNet:
    torch.manual_seed(0)
    stages = (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 32, 2), Stage(3, 2, 6, 64, 2))
    model = EfficientNet(EfficientNetConfig(image_size=32, stages=stages, classes=7)).eval()
    model.preprocess = standard(32, crop_fraction=1.0)
    return model


@pytest.mark.parametrize("network", [small_vit, small_efficientnet])
def test_a_probe_of_a_random_network_beats_chance(folder, tmp_path, network):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = vitrail.finetune(folder, model=model, output=tmp_path / "out", validation=0.3)
    assert tuned.labels == SHAPES
    assert tuned.trained + tuned.tested == 192
    assert tuned.guessing == pytest.approx(0.25, abs=0.02)
    assert tuned.accuracy.value > tuned.guessing + 0.2
    assert tuned.top_5 is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_exported_classifies_as_it_was_scored(folder, tmp_path):
    tuned = finetune(folder, model=small_efficientnet(), output=tmp_path / "out", batch_size=16)
    network = vitrail.load(str(tmp_path / "out"))
    assert network.labels == SHAPES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.safetensors", "report.html"]
    for mistake in tuned.mistakes:
        found = vitrail.classify(mistake.input, model=str(tmp_path / "out"), top=1)
        assert found.labels[0].label == mistake.said
        assert found.labels[0].score == pytest.approx(mistake.score, abs=1e-4)
    assert tuned.confusion.sum() == tuned.tested
    assert tuned.confusion.trace() / tuned.tested == pytest.approx(tuned.accuracy.value)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_lora_and_full_go_on_from_the_probe(folder, tmp_path, method):
    model = tiny_vit(preprocess=standard(32, crop_fraction=1.0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told = []
    tuned = finetune(
        folder,
        model=model,
        method=method,
        epochs=1,
        output=tmp_path / "out",
        progress=lambda *step: told.append(step),
    )
    assert tuned.probe_accuracy is not None
    steps = [done for what, done, _ in told if what == "training"]
    assert steps == list(range(1, len(steps) + 1))
    assert told[-1][1] == told[-1][2] == tuned.tested
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    after = vitrail.load(str(tuned.output)).state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if name.startswith("head") or not torch.equal(after[name], before[name])}
    assert ("positions" in changed) == (method == "full")
    assert "blocks.0.attention.qkv.weight" in changed


def test_a_test_folder_is_what_is_scored(folder, tmp_path):
    apart = tmp_path / "apart"
    for shape in SHAPES[:2]:
        (apart / shape).mkdir(parents=True)
        for path in sorted((folder / shape).iterdir())[:5]:
            (apart / shape / path.name).write_bytes(path.read_bytes())
    tuned = finetune(folder, model=tiny_vit(), output=tmp_path / "out", test_folder=apart)
    assert (tuned.trained, tuned.tested) == (192, 10)
    assert [score.pictures for score in tuned.classes] == [5, 5, 0, 0]
    assert tuned.classes[2].recall is None
    assert str(apart) in tuned.split
    parted = tmp_path / "parted"
    parted.mkdir()
    (parted / "train").symlink_to(folder)
    (parted / "val").symlink_to(apart)
    assert finetune(parted, model=tiny_vit(), output=tmp_path / "again").accuracy == tuned.accuracy


def test_the_seed_decides_the_split(folder, tmp_path):
    first, same, other = (
        finetune(folder, model=tiny_vit(), output=tmp_path / str(number), seed=seed)
        for number, seed in enumerate((0, 0, 1))
    )
    names = [[mistake.input for mistake in tuned.mistakes] for tuned in (first, same, other)]
    assert names[0] == names[1] != names[2]


def test_broken_pictures_are_reported_and_left_out(folder, tmp_path):
    root = copied(folder, tmp_path / "broken", 6)
    (root / "star" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (root / "notes.txt").write_text("not a class")
    (root / ".hidden").mkdir()
    tuned = finetune(root, model=tiny_vit(), output=tmp_path / "out")
    assert [Path(failure.input).name for failure in tuned.left_out] == ["broken.png"]
    assert tuned.trained + tuned.tested == 24
    assert "broken.png" in tuned.report.read_text(encoding="utf-8")


def test_the_report_stands_alone_and_says_what_was_found(folder, tmp_path):
    tuned = finetune(folder, model=tiny_vit(), output=tmp_path / "out")
    page = tuned.report.read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count("data:image/jpeg") == len(tuned.mistakes)
    assert page.count("data:image/png") == 1
    for said in (*SHAPES, f"{100 * tuned.accuracy.value:.1f}", f"{tuned.macro_f1:.3f}", tuned.engine):
        assert said in page
    drawn = tuned.draw()
    assert drawn.mode == "RGB"
    assert min(drawn.size) > 300


def test_names_of_classes_are_text_on_the_page(folder, tmp_path):
    root = copied(folder, tmp_path / "odd", 4)
    (root / "star").rename(root / "<b>星 & co")
    tuned = finetune(root, model=tiny_vit(), output=tmp_path / "out")
    assert "<b>星 & co" in tuned.labels
    page = tuned.report.read_text(encoding="utf-8")
    assert "&lt;b&gt;星 &amp; co" in page
    assert "<b>星" not in page


def test_the_dictionary_is_json(folder, tmp_path):
    tuned = finetune(folder, model=tiny_vit(), output=tmp_path / "out")
    content = json.loads(json.dumps(tuned.to_dict()))
    assert content["accuracy"]["low"] < content["accuracy"]["value"] < content["accuracy"]["high"]
    assert [score["label"] for score in content["classes"]] == list(SHAPES)
    assert np.array(content["confusion"]).shape == (4, 4)
    assert str(tmp_path / "out" / "model.safetensors") in str(tuned)


def copied(folder: Path, root: Path, count: int) -> Path:
    """The first pictures of each class."""
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for path in sorted((folder / shape).iterdir())[:count]:
            (root / shape / path.name).write_bytes(path.read_bytes())
    return root


def emptied(folder: Path, keep: int, classes: int = 1) -> None:
    """Leave `keep` pictures in the last classes."""
    for shape in SHAPES[-classes:]:
        for path in sorted((folder / shape).iterdir())[keep:]:
            path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: emptied(root, 0), "'star' has no pictures"),
        (lambda root: emptied(root, 1), "'star' of .* has one picture that can be opened: there must be two"),
        (
            lambda root: [path.write_bytes(b"") for path in (root / "star").iterdir()],
            "'star' of .* has no picture that",
        ),
        (lambda root: [(root / shape).rename(root / f".{shape}") for shape in SHAPES[1:]], "one class only, 'heart'"),
        (lambda root: [(root / shape).rename(root / f".{shape}") for shape in SHAPES], "holds no folders of pictures"),
    ],
)
def test_folders_that_teach_nothing_are_one_sentence(folder, tmp_path, spoil, said):
    root = copied(folder, tmp_path / "folder", 3)
    spoil(root)
    with pytest.raises(UsageError, match=said):
        finetune(root, model=tiny_vit(), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_folders_that_teach_nothing(folder, tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        finetune(tmp_path / "nowhere", model=tiny_vit(), output=tmp_path / "out")
    with pytest.raises(UsageError, match="holds pictures but no folders"):
        finetune(folder / "star", model=tiny_vit(), output=tmp_path / "out")
    (tmp_path / "test" / "boat").mkdir(parents=True)
    with pytest.raises(UsageError, match="has the class 'boat'"):
        finetune(folder, model=tiny_vit(), output=tmp_path / "out", test_folder=tmp_path / "test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "magic"}, "probe, lora or full, not 'magic'"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"validation": 0.5, "test_folder": "there"}, "no pictures are held out"),
        ({"epochs": 3}, "a probe has neither epochs"),
        ({"method": "full", "epochs": 0}, "at least 1 epoch"),
        ({"method": "full", "lr": -1.0}, "learning rate"),
        ({"batch_size": 0}, "batch size"),
    ],
)
def test_options_that_make_no_sense(folder, tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        finetune(folder, model=tiny_vit(), output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_lora_wants_a_transformer(folder, tmp_path):
    with pytest.raises(UsageError, match="use probe or full"):
        finetune(folder, model=small_efficientnet(), method="lora", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        finetune(folder, model="no-such-model", output=tmp_path / "out")
    with pytest.raises(UsageError, match="would be a class folder"):
        finetune(folder, model="no-such-model", output=folder / "out")
    with pytest.raises(VitrailError, match="cannot be written"):
        finetune(folder, model="no-such-model", output=tmp_path / "out" / "mine.txt" / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_an_empty_output_is_taken(folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert finetune(folder, model=tiny_vit(), output=tmp_path / "out").network.is_file()


def test_a_report_that_fails_leaves_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.tasks.finetune.REPORT", "no/such/folder.html")
    with pytest.raises(VitrailError, match="cannot be written"):
        finetune(folder, model=tiny_vit(), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_the_middle_leaves_no_half_output(folder, tmp_path):
    path = vitrail.save(tiny_vit(), tmp_path / "tiny.safetensors")
    code = f"""
from vitrail.models.vit import ViT, ViTConfig
from vitrail.tasks.finetune import finetune
def told(what, done, total):
    print(what, flush=True)
output, model = {str(tmp_path / "out")!r}, {str(path)!r}
finetune({str(folder)!r}, model=model, method="full", epochs=10000, output=output, progress=told)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        for line in running.stdout:
            if line.startswith("training"):
                break
        else:
            pytest.fail("it ended before it was killed")
        running.send_signal(signal.SIGKILL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.safetensors"]
