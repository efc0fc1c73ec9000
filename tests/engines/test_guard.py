"""What counts as the same answer, and from where on an engine is kept out."""

import pytest
import torch

from tests.engines.small import small_vit
from tests.pictures import noise
from tests.reading import tiny_clip
from tests.talkers import tiny_talker
from vitrail.engines.guard import LIMITS, answer, compare, kind_of, questions
from vitrail.engines.pictures import sample
from vitrail.errors import ImageError, UsageError
from vitrail.imaging.open import open_picture
from vitrail.models.ddpm import DDPM
from vitrail.registry import FAMILIES


def test_the_same_class_is_agreement():
    plain = torch.eye(4)
    tried = plain.clone()
    tried[0] = torch.tensor([0.4, 0.6, 0.0, 0.0])
    found = compare("classes", [plain[:2], plain[2:]], [tried[:2], tried[2:]])
    assert found.agreement == 0.75
    assert found.error == pytest.approx((2 * 0.6**2) ** 0.5 / 2)
    assert found.objection("bfloat16") == "top-1 agreement 75.00%, below 98.00%"
    assert compare("classes", [plain], [plain]).objection("float32") is None


def test_vectors_are_compared_by_cosine():
    plain = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert compare("vectors", [plain], [plain]).agreement == 1
    assert compare("vectors", [plain], [plain.flip(1)]).agreement == 0
    longer = compare("vectors", [plain], [2 * plain])
    assert longer.agreement == 1
    assert longer.objection("float32") == "error 1, above 0.001"


def test_texts_are_compared_token_by_token():
    plain = [torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5]])]
    assert compare("texts", plain, plain).agreement == 1
    assert compare("texts", plain, [torch.tensor([[1, 2, 9, 9, 9]]), torch.tensor([[5]])]).agreement == 3 / 6


@pytest.mark.parametrize("kind", LIMITS)
def test_what_is_no_number_is_kept_out(kind):
    plain = torch.ones(2, 3)
    wrong = plain * float("nan") if kind != "texts" else torch.zeros(2, 3)
    for precision in LIMITS[kind]:
        assert compare(kind, [plain], [wrong]).objection(precision)
        assert compare(kind, [plain], [plain]).objection(precision) is None


def test_int8_must_agree_in_995_of_1000():
    for kind in ("classes", "vectors"):
        assert LIMITS[kind]["int8"].agreement == 0.995


def test_what_networks_are_asked():
    pictures = sample(None, 3)
    assert [kind_of(model) for model in (small_vit(), small_vit(classes=0), tiny_clip(), tiny_talker())] == [
        "classes",
        "vectors",
        "vectors",
        "texts",
    ]
    (asked,) = questions(small_vit(), pictures, 2)
    assert answer(small_vit(), asked).shape == (2, 5)
    assert len(questions(small_vit(), pictures, 1)) == 3
    assert answer(tiny_clip(), questions(tiny_clip(), pictures, 1)[0]).shape == (1, tiny_clip().config.width)
    with pytest.raises(UsageError, match="batches of 4, and there are 3 pictures of one size"):
        questions(small_vit(), pictures, 4)
    with torch.device("meta"):
        part = DDPM(FAMILIES["ddpm"].load_config()())
    with pytest.raises(UsageError, match="ddpm is none"):
        kind_of(part)


def test_a_talker_is_asked_for_captions():
    talker = tiny_talker()
    asked = questions(talker, sample(None, 2), 2)
    assert answer(talker, asked[0]).shape[0] == 2


def test_pictures_that_are_tried_are_not_those_that_are_calibrated_on(tmp_path):
    ours, others = sample(None, 2), sample(None, 2, compare=True)
    assert [picture.image.size for picture in ours] == [(256, 256)] * 2
    assert ours[0].image.tobytes() != ours[1].image.tobytes()
    assert ours[0].image.tobytes() == sample(None, 1)[0].image.tobytes()
    assert not {picture.image.tobytes() for picture in ours} & {picture.image.tobytes() for picture in others}
    for number in range(5):
        noise(8, 8, seed=number).save(tmp_path / f"{number}.png")
    assert [picture.name[-5:] for picture in sample(str(tmp_path), 2)] == ["0.png", "1.png"]
    assert [picture.name[-5:] for picture in sample(str(tmp_path), 2, compare=True)] == ["3.png", "4.png"]
    assert open_picture(tmp_path / "0.png").image.tobytes() == sample(str(tmp_path), 1)[0].image.tobytes()
    with pytest.raises(ImageError, match="No file matches"):
        list(sample(str(tmp_path / "none*.png"), 2))
