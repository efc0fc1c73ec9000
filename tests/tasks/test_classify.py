"""`vitrail.classify`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.pictures import EXAMPLES, noise, photograph
from tests.tiny import saved_tiny_vit, tiny_vit
from vitrail.tasks.batches import Failure
from vitrail.tasks.classify import Classification, Label, top_labels
from vitrail.tasks.models import get_model

CAT = EXAMPLES / "cat.jpg"


def test_top_labels_are_the_softmax_best_first():
    logits = torch.tensor([0.0, 2.0, 1.0])
    scores = torch.softmax(logits, 0).tolist()
    first, second = top_labels(logits, ("a", "b", "c"), 2)
    assert (first.label, first.index, second.label, second.index) == ("b", 1, "c", 2)
    assert (first.score, second.score) == pytest.approx((scores[1], scores[2]))


def test_top_labels_without_names_and_more_than_there_are():
    found = top_labels(torch.tensor([3.0, 1.0], dtype=torch.bfloat16), None, 9)
    assert [label.label for label in found] == ["class 0", "class 1"]
    assert sum(label.score for label in found) == pytest.approx(1)


def test_the_default_network_calls_the_cat_a_cat():
    result = vitrail.classify(CAT)
    assert isinstance(result, Classification)
    assert result.model == "efficientnet-lite0"
    assert {label.label for label in result.labels[:3]} == {"tabby", "tiger cat", "Egyptian cat"}


def test_every_kind_of_input_gives_the_same():
    model, image = tiny_vit(), photograph()
    expected = vitrail.classify(CAT, model=model).labels
    for source in (str(CAT), CAT.read_bytes(), image, np.asarray(image), np.asarray(image, dtype=np.float32) / 255):
        assert vitrail.classify(source, model=model).labels == expected


def test_the_scores_are_the_networks_own():
    model = tiny_vit()
    with torch.no_grad():
        logits = model(model.preprocess(photograph()))[0]
    labels = vitrail.classify(photograph(), model=model, top=10).labels
    torch.testing.assert_close(
        torch.tensor([label.score for label in labels]), logits.softmax(0).sort(descending=True)[0]
    )
    assert [label.index for label in labels] == logits.argsort(descending=True).tolist()


def test_batches_say_what_one_by_one_says():
    model, pictures = tiny_vit(), [noise(40, 30, seed=seed) for seed in range(11)]
    alone = [vitrail.classify(picture, model=model) for picture in pictures]
    together = vitrail.classify(pictures, model=model, batch_size=4)
    for one, other in zip(alone, together, strict=True):
        assert [label.index for label in one.labels] == [label.index for label in other.labels]
        assert [label.score for label in one.labels] == pytest.approx([label.score for label in other.labels], rel=1e-4)
    assert len({result.labels for result in together}) > 1


def test_dictionary_has_exactly_the_promised_keys():
    found = vitrail.classify(CAT, model=tiny_vit(), top=2).to_dict()
    assert list(found) == ["input", "model", "engine", "labels"]
    assert [list(label) for label in found["labels"]] == [["label", "index", "score"]] * 2
    assert found["input"] == str(CAT)
    assert json.loads(json.dumps(found)) == found


def test_text_and_drawing():
    result = vitrail.classify(CAT, model=tiny_vit())
    assert str(result).splitlines()[0] == str(CAT)
    assert len(str(result).splitlines()) == 6
    drawn = result.draw()
    assert isinstance(drawn, Image.Image)
    assert drawn.getextrema() != ((255, 255),) * 3


def test_many_with_a_broken_one_in_its_place(tmp_path):
    missing = tmp_path / "missing.jpg"
    results = vitrail.classify([CAT, missing, b"nothing", CAT], model=tiny_vit())
    assert [type(result) for result in results] == [Classification, Failure, Failure, Classification]
    assert results[1].to_dict() == {"input": str(missing), "error": f"{missing}: there is no such file."}


def test_one_that_is_broken_raises(tmp_path):
    with pytest.raises(vitrail.ImageError, match=r"there is no such file"):
        vitrail.classify(tmp_path / "missing.jpg", model=tiny_vit())


def test_a_folder_and_a_pattern_give_lists():
    model = tiny_vit()
    names = [str(EXAMPLES / name) for name in ("cat.jpg", "coffee.jpg", "rocket.jpg", "scene.png")]
    assert [result.input for result in vitrail.classify(EXAMPLES, model=model)] == names
    assert [result.input for result in vitrail.classify(str(EXAMPLES / "c*.jpg"), model=model)] == names[:2]


def test_a_network_without_a_head_is_for_embed():
    with pytest.raises(vitrail.UsageError, match="embed"):
        vitrail.classify(CAT, model=tiny_vit(classes=0))


@pytest.mark.parametrize("wrong", [{"top": 0}, {"batch_size": 0}, {"engine": "warp"}, {"device": "nowhere"}])
def test_wrong_usage(wrong, tmp_path):
    with pytest.raises(vitrail.UsageError):
        vitrail.classify(CAT, model=saved_tiny_vit(tmp_path), **wrong)


def test_a_network_is_loaded_once_and_again_when_its_file_changed(tmp_path):
    name = saved_tiny_vit(tmp_path)
    first = get_model(name)
    assert get_model(name) is first
    assert get_model(name, device="cpu") is not first
    vitrail.save(tiny_vit(seed=1), name)
    again = get_model(name)
    assert not torch.equal(again.head.weight, first.head.weight)


def test_a_loaded_network_is_used_as_it_is():
    model = tiny_vit()
    assert get_model(model) is model
    assert vitrail.classify(CAT, model=model).model == "vit"
    with pytest.raises(vitrail.UsageError, match="already"):
        get_model(model, engine="eager")
    with pytest.raises(vitrail.UsageError, match="eval"):
        get_model(tiny_vit().train())


def test_labels_are_the_checkpoints_own(tmp_path):
    model = tiny_vit(classes=2)
    model.labels = ("cat", "dog")
    saved = vitrail.save(model, tmp_path / "named.safetensors")
    found = vitrail.classify(CAT, model=str(saved)).labels
    assert {(label.index, label.label) for label in found} == {(0, "cat"), (1, "dog")}
    assert all(isinstance(label, Label) for label in found)
