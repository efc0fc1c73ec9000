"""Labels in words."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.pictures import noise
from tests.reading import Colours, saved_tiny_clip, tiny_clip
from tests.tiny import tiny_vit
from vitrail.tasks import zero_shot
from vitrail.tasks.classify import Classification
from vitrail.tasks.zero_shot import Words, classifier, get_image_text, read_labels

RED = Image.new("RGB", (20, 10), (255, 0, 0))
PURPLE = Image.new("RGB", (10, 20), (255, 0, 255))


def scores(found: Classification) -> dict[str, float]:
    return {label.label: label.score for label in found.labels}


def test_a_red_picture_is_red():
    found = vitrail.classify(RED, labels=["green", "red", "blue"], model=Colours())
    best, *others = found.labels
    assert (best.label, best.index) == ("red", 1)
    assert best.score == pytest.approx(math.exp(5) / (math.exp(5) + 2))  # cosines 1, 0, 0, times 5
    assert [label.score for label in others] == pytest.approx([1 / (math.exp(5) + 2)] * 2)
    assert found.scoring == "softmax"


def test_a_network_with_a_bias_judges_each_label_by_itself():
    found = vitrail.classify(PURPLE, labels=["red", "green", "blue"], model=Colours(bias=-2.0))
    cosine = 2**-0.5
    expected = {"red": 5 * cosine - 2, "blue": 5 * cosine - 2, "green": -2}
    assert scores(found) == pytest.approx({label: 1 / (1 + math.exp(-logit)) for label, logit in expected.items()})
    assert found.scoring == "sigmoid"
    assert scores(vitrail.classify(PURPLE, labels=["red"], model=Colours(bias=-2.0))).keys() == {"red"}


def test_scores_are_those_of_the_networks_own_logits():
    model, labels = tiny_clip(), ["cat", "dog", "red dog", "a photo of"]
    pictures = [noise(40, 40, seed=seed) for seed in range(5)]
    with torch.no_grad():
        logits = model(model.preprocess(pictures), labels)
    found = vitrail.classify(pictures, labels=labels, model=model, batch_size=3)
    for picture, expected in zip(found, logits.softmax(1), strict=True):
        assert scores(picture) == pytest.approx(dict(zip(labels, expected.tolist(), strict=True)), rel=1e-4)
    assert len({picture.labels[0].score for picture in found}) == len(pictures)


def test_a_template_is_put_around_every_label():
    model = tiny_clip()
    one = vitrail.classify(RED, labels=["cat", "dog"], templates=["a photo of {}"], model=model)
    other = vitrail.classify(RED, labels=["a photo of cat", "a photo of dog"], model=model)
    assert [label.score for label in one.labels] == pytest.approx([label.score for label in other.labels])
    assert {label.label for label in one.labels} == {"cat", "dog"}
    assert scores(one) != pytest.approx(scores(vitrail.classify(RED, labels=["cat", "dog"], model=model)))


def test_templates_are_averaged_as_directions():
    # "{} dark" of red is (½, 0.2, 0.1), and of grey (½, 1.2, 1.1): of other lengths than red and grey alone
    model = Colours()
    vectors = classifier(model, Words(("red", "grey"), ("{}", "{} dark"))).vectors
    alone = np.array([(1, 0, 0), (1, 1, 1)], dtype=np.float64)
    dark = np.array([(0.5, 0.2, 0.1), (0.5, 1.2, 1.1)])
    mean = sum(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (alone, dark)) / 2
    np.testing.assert_allclose(vectors, mean / np.linalg.norm(mean, axis=1, keepdims=True), rtol=1e-5)


def test_braces_in_a_label_are_its_own():
    assert Words(("{x}", "{0.__class__}"), ("see {} {y}",)).sentences("see {} {y}") == [
        "see {x} {y}",
        "see {0.__class__} {y}",
    ]


def test_every_label_is_read_once_and_in_batches():
    model, labels = Colours(), [f"label {number}" for number in range(150)]
    vitrail.classify([RED] * 20, labels=labels, templates=["{}", "a {}"], model=model, batch_size=4)
    assert sum(model.texts_read) == 2 * len(labels)
    assert max(model.texts_read) < len(labels)


def test_bfloat16_does_not_blur_the_scores():
    """Logits of 100 have steps of ½ in bfloat16: a share of 0.6 could not be told from 0.5."""
    model = Colours().bfloat16()
    model.logit_scale = torch.tensor(math.log(100.0))
    nearly = Image.new("RGB", (16, 16), (255, 254, 0))
    found = scores(vitrail.classify(nearly, labels=["red", "green"], model=model))
    assert found["red"] == pytest.approx(1 / (1 + math.exp(-100 * (255 - 254) / math.hypot(255, 254))), abs=0.08)


def test_the_result_says_how_it_was_scored():
    found = vitrail.classify(RED, labels=["red", "green"], model=Colours())
    assert list(found.to_dict()) == ["input", "model", "engine", "scoring", "labels"]
    assert json.loads(json.dumps(found.to_dict()))["scoring"] == "softmax"
    assert "shares of the labels given" in str(found)
    assert "each label by itself" in str(vitrail.classify(RED, labels=["red"], model=Colours(bias=0.0)))
    assert found.draw().size[0] > 480


def test_top_and_many_pictures():
    pictures = [RED, b"nothing", PURPLE]
    red, broken, purple = vitrail.classify(pictures, labels=["red", "green", "blue"], top=2, model=Colours())
    assert len(red.labels) == len(purple.labels) == 2
    assert "error" in broken.to_dict()


@pytest.mark.parametrize(
    ("labels", "templates", "said"),
    [
        ([], None, "there are no labels"),
        (["a cat", " "], None, "a label is empty"),
        (["a cat", "a dog", "a cat "], None, "'a cat' is given twice"),
        (["a cat", "a dog"], ["a photo"], r"'a photo' has no \{\} where"),
        ("a cat", None, "not one text"),
        (["a cat", "a dog"], "a {}", "not one text"),
        (None, ["a {}"], "--labels"),
        (["a cat"], None, "'a cat' alone is always 100 %"),
    ],
)
def test_labels_that_make_no_sense(labels, templates, said):
    with pytest.raises(vitrail.UsageError, match=said):
        vitrail.classify(RED, labels=labels, templates=templates, model=Colours())


def test_a_network_that_reads_no_words_is_named():
    with pytest.raises(vitrail.UsageError, match=r"'vit' has no text tower .*--labels"):
        vitrail.classify(RED, labels=["a cat", "a dog"], model=tiny_vit())


def test_a_network_without_classes_asks_for_labels():
    with pytest.raises(vitrail.UsageError, match=r"'colours' has no classes of its own: .*--labels"):
        vitrail.classify(RED, model=Colours())


def test_a_network_without_a_tokenizer_says_so():
    model = Colours()
    model.tokenizer = None
    with pytest.raises(vitrail.UsageError, match="no tokenizer"):
        vitrail.classify(RED, labels=["red", "green"], model=model)


def test_without_a_name_it_is_the_one_in_the_box(monkeypatch, tmp_path):
    monkeypatch.setattr(zero_shot, "box_names", lambda: ("efficientnet-lite0",))
    with pytest.raises(vitrail.UsageError, match="--model openai/clip-vit-base-patch32"):
        get_image_text()
    name = saved_tiny_clip(tmp_path)
    monkeypatch.setattr(zero_shot, "DEFAULT_MODEL", name)
    monkeypatch.setattr(zero_shot, "box_names", lambda: (name,))
    assert vitrail.classify(RED, labels=["cat", "dog"]).model == name


def test_labels_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffa cat\r\n\n  青蛙 \n\t\na dog".encode())
    assert read_labels(path) == ("a cat", "青蛙", "a dog")
    path.write_text("\n \n")
    with pytest.raises(vitrail.UsageError, match=r"there are no labels in .*labels\.txt"):
        read_labels(path)
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(vitrail.VitrailError, match=r"labels\.txt cannot be read: it is no text in UTF-8"):
        read_labels(path)
    with pytest.raises(vitrail.VitrailError, match=r"cannot be read \(No such file"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(vitrail.VitrailError, match="cannot be read"):
        read_labels(tmp_path)
