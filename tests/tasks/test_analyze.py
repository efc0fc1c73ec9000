import base64
import io
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.parrot import Parrot, parrot
from tests.pictures import EXAMPLES, noise, odd_pictures, photograph, turned
from tests.reading import Colours, tiny_clip
from vitrail.errors import ImageError, UsageError, VitrailError
from vitrail.explain import explain
from vitrail.imaging.inputs import find_inputs
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import Crop, Preprocess, Resize, standard
from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.vit import ViT, ViTConfig
from vitrail.tasks.analyze import Analysis, Question, _seen_box, analyze, analyze_each, report_path
from vitrail.tasks.batches import Failure
from vitrail.tasks.classify import classify
from vitrail.tasks.models import get_model
from vitrail.tasks.zero_shot import Words, classifier

CAT = EXAMPLES / "cat.jpg"


def transformer(classes: int = 7, preprocess: Preprocess | None = None) -> ViT:
    model = ViT(
        ViTConfig(image_size=64, patch_size=16, width=24, depth=2, heads=3, mlp_width=48, classes=classes)
    ).eval()
    model.preprocess = preprocess or standard(64)
    return model


@pytest.fixture(scope="module")
def cat() -> Analysis:
    """The cat, seen by the network that is taken when none is named."""
    return analyze(CAT)


class Page(HTMLParser):
    """What a page shows, and what it would fetch or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside.append(tag)
        for name, value in attributes:
            self.attributes.append(name)
            if name in ("src", "href", "srcset", "data", "action"):
                self.sources.append(value)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.inside:
            self.words.append(data)

    def pictures(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))) for source in self.sources]


def test_the_cat_is_called_a_cat(cat):
    assert cat.labels[0].label in ("tabby", "tiger cat", "Egyptian cat")
    assert sum(label.score for label in cat.labels if label.index in range(281, 286)) > 0.8
    assert [label.score for label in cat.labels] == sorted((label.score for label in cat.labels), reverse=True)
    assert cat.method == "class activation"
    assert cat.explained == cat.labels[0].label


def test_the_dictionary_is_json_and_says_what_classify_says(cat):
    said = json.loads(json.dumps(cat.to_dict()))
    assert said["input"] == str(CAT)
    assert said["model"] == "efficientnet-lite0"
    assert said["engine"] == get_model().origin.engine
    assert said["labels"] == [{"label": one.label, "index": one.index, "score": one.score} for one in cat.labels]
    assert said["heat_map"] == {"method": "class activation", "label": cat.labels[0].label}
    assert said["picture"] == {
        "width": 451,
        "height": 300,
        "format": "JPEG",
        "mode": "RGB",
        "orientation": 1,
        "file_size": CAT.stat().st_size,
    }
    assert said["network"]["parameters"] == 4_652_008  # EfficientNet-Lite0's published 4.7 million
    assert said["network"]["licence"] == "Apache-2.0"
    assert said["network"]["classes"] == 1000
    assert said["network"]["input_size"] == [224, 224]
    assert set(said["seconds"]) == {"preprocessing", "network", "explanation"}
    assert all(seconds > 0 for seconds in said["seconds"].values())


def test_the_text_has_a_bar_a_label(cat):
    lines = str(cat).splitlines()
    assert "451 × 300 pixels, JPEG" in lines[0]
    for label, line in zip(cat.labels, lines[1:6], strict=True):
        assert label.label in line
        assert f"{100 * label.score:.2f} %" in line
    assert lines[1].count("█") == int(cat.labels[0].score * 24)
    assert "efficientnet-lite0" in lines[-1]


def test_the_page_stands_alone(cat):
    html = cat.to_html()
    page = Page(html)
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html
    photo, seen, heat, components = page.pictures()
    assert photo.size == (451, 300)
    assert seen.size == heat.size == components.size == (720, 720)


def test_the_page_says_everything_in_words(cat):
    page = Page(cat.to_html())
    best = cat.labels[0]
    for words in (
        "cat.jpg",
        *(label.label for label in cat.labels),
        f"{100 * best.score:.1f} %",
        f"spoke most for “{best.label}”",
        "7 × 7",
        "The frame marks what the network was shown",
        "224 × 224",
        "451 × 300",
        "upright",
        "JPEG",
        "efficientnet-lite0",
        "EfficientNet",
        "4.65 million",
        "Apache-2.0",
        cat.engine,
    ):
        assert words in page.text


def test_a_transformers_map_is_said_to_belong_to_no_label():
    analysis = analyze(CAT, model=transformer())
    assert analysis.method == "attention rollout"
    assert analysis.explained is None
    assert analysis.to_dict()["heat_map"] == {"method": "attention rollout", "label": None}
    page = Page(analysis.to_html())
    assert "attention rollout" in page.text
    assert "belongs to no label" in page.text
    assert "spoke most for" not in page.text
    assert "class 3" in page.text  # one of seven nameless classes; five of them are shown


def test_a_network_without_a_head_has_no_labels_and_all_the_rest():
    model = DINOv2(DINOv2Config(56, 14, width=24, depth=2, heads=3, mlp_width=48)).eval()
    model.preprocess = Preprocess(Resize((56, 84)))
    analysis = analyze(CAT, model=model)
    assert analysis.labels == ()
    assert analysis.network.classes == 0
    assert analysis.views.grid == (4, 6)
    page = Page(analysis.to_html())
    assert "What it takes it for" not in page.text
    assert "names nothing" in page.text
    assert "The frame" not in page.text  # it was shown all of it
    assert len(page.pictures()) == 4
    assert str(analysis)
    assert analysis.draw().width > analysis.draw().height


def test_the_sheet_shows_the_picture_the_labels_the_map_and_the_features(cat):
    drawn = cat.draw()
    assert drawn.mode == "RGB"
    pixels = np.asarray(drawn).astype(int)
    for view in (cat.views.heat, cat.views.components):
        shown = np.asarray(view.resize((480, 480), Image.Resampling.LANCZOS)).astype(int)
        middle = shown[200:280, 200:280]
        offsets = [
            (y, x)
            for y in range(pixels.shape[0] - 280)
            for x in (15, 510)
            if (pixels[y + 200, x + 200 : x + 280] == middle[0]).all()
        ]
        assert any((pixels[y + 200 : y + 280, x + 200 : x + 280] == middle).all() for y, x in offsets)


@pytest.mark.parametrize("name", ["<b onmouseover=x>.jpg", "a&amp;b'\".jpg", "{{ 7 * 7 }}.jpg", "new\nline.jpg"])
def test_a_pictures_name_is_only_ever_text(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CAT.read_bytes())
    analysis = analyze(path, model=transformer())
    page = Page(analysis.to_html())
    assert "onmouseover" not in page.attributes
    assert (name if name.isprintable() else r"new\nline.jpg") in page.text
    assert report_path(analysis.input) == path.with_name(f"{path.stem}.report.html")
    assert analysis.save(report_path(analysis.input)).is_file()


def test_a_label_is_only_ever_text():
    model = transformer()
    model.labels = tuple("<script>alert(1)</script>" for _ in range(7))
    page = Page(analyze(CAT, model=model).to_html())
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(CAT.read_bytes())
    analysis = analyze(os.fsdecode(path), model=transformer())
    assert r"caf\udce9.jpg" in Page(analysis.to_html()).text
    assert analysis.save(tmp_path / "report.html").stat().st_size > 10_000


def test_the_network_runs_no_more_than_twice():
    class Counted(ViT):
        runs = 0

        def features(self, images):
            type(self).runs += 1
            return super().features(images)

    model = Counted(transformer().config).eval()
    model.preprocess = standard(64)
    analyze(CAT, model=model)
    assert Counted.runs == 2


def test_labels_are_those_of_the_logits():
    model = transformer()
    model.labels = tuple("abcdefg")
    with torch.no_grad():
        scores = model(model.preprocess(CAT))[0].softmax(0)
    analysis = analyze(CAT, model=model, top=3)
    assert [label.label for label in analysis.labels] == ["abcdefg"[i] for i in scores.topk(3).indices]
    assert [label.score for label in analysis.labels] == pytest.approx(scores.topk(3).values.tolist(), rel=1e-5)
    assert len(analyze(CAT, model=model, top=50).labels) == 7


def test_it_takes_what_the_other_verbs_take():
    model = transformer()
    expected = analyze(CAT, model=model).labels
    for same in (str(CAT), CAT.read_bytes(), Image.open(CAT), np.asarray(photograph()), open_picture(CAT)):
        assert analyze(same, model=model).labels == expected
    assert analyze(find_inputs(CAT)[0], model=model).input == str(CAT)


def test_a_picture_stored_on_its_side_is_shown_upright():
    analysis = analyze(turned(), model=transformer())
    assert (analysis.picture.width, analysis.picture.height) == (300, 451)
    assert analysis.picture.orientation == 6
    assert analysis.views.photo.size == (300, 451)
    assert "stored on its side, turned upright" in Page(analysis.to_html()).text


@pytest.mark.parametrize("kind", odd_pictures())
def test_every_picture_can_be_analysed(kind):
    analysis = analyze(odd_pictures()[kind], model=transformer())
    assert len(Page(analysis.to_html()).pictures()) == 4
    assert analysis.draw().mode == "RGB"


def test_a_grey_network_is_illustrated_in_colour():
    config = ViTConfig(image_size=32, patch_size=8, channels=1, width=24, depth=1, heads=3, mlp_width=48, classes=3)
    model = ViT(config).eval()
    model.preprocess = standard(32, channels=1)
    views = analyze(CAT, model=model).views
    assert {views.photo.mode, views.seen.mode, views.heat.mode, views.components.mode} == {"RGB"}


@pytest.mark.parametrize(
    "preprocess",
    [
        standard(64),
        standard((64, 96)),
        Preprocess(Resize((80, 100)), Crop((64, 64), "floor")),
        Preprocess(Resize(70, "shortest"), Crop((64, 48))),
        Preprocess(None, Crop((64, 64))),
        Preprocess(Resize((64, 64))),
    ],
    ids=["timm's", "oblong", "exact, then crop", "shortest, then crop", "crop", "exact"],
)
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (96, 96)])
def test_the_frame_holds_what_the_network_is_shown(preprocess, size):
    width, height = size
    left, top, right, bottom = _seen_box(preprocess, height, width)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = 255
    seen = np.asarray(preprocess.picture(picture))
    assert (seen[4:-4, 4:-4] > 250).all()  # all that is shown lies inside the frame,
    inset = np.zeros_like(picture)
    margin = 8
    inset[round(top) + margin : round(bottom) - margin, round(left) + margin : round(right) - margin] = 255
    edges = np.asarray(preprocess.picture(inset))
    assert (edges[0] < 128).all()  # and the frame is no larger than that
    assert (edges[:, -1] < 128).all()


def test_the_crop_that_goes_beyond_a_small_picture_frames_nothing():
    analysis = analyze(noise(20, 20), model=transformer(preprocess=Preprocess(None, Crop((64, 64)))))
    assert not analysis.views.cropped
    assert analysis.views.photo.size == (20, 20)


def test_a_report_appears_whole_or_not_at_all(tmp_path, cat, monkeypatch):
    path = cat.save(tmp_path / "deep" / "cat.html")
    assert path.read_text(encoding="utf-8") == cat.to_html()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(VitrailError, match=r"other\.html cannot be written \(No space left on device\)"):
        cat.save(tmp_path / "deep" / "other.html")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["cat.html"]


def test_a_report_that_cannot_be_written_is_said_to(tmp_path, cat):
    (tmp_path / "file").touch()
    with pytest.raises(VitrailError, match=r"cat\.html cannot be written"):
        cat.save(tmp_path / "file" / "cat.html")
    with pytest.raises(VitrailError, match="cannot be written"):
        cat.save(tmp_path)


def test_faults_are_sentences(tmp_path):
    with pytest.raises(UsageError, match="at least 1 label"):
        analyze(CAT, top=0)
    with pytest.raises(ImageError, match="there is no such file"):
        analyze(tmp_path / "none.jpg", model=transformer())
    with pytest.raises(ImageError, match=r"cat\.jpg: the network cannot run on its 60×60 pixels .*16×16 patches"):
        analyze(CAT, model=transformer(preprocess=standard(60)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat.jpg", "cat.report.html"),
        ("photos/old cat.tar.jpg", "photos/old cat.tar.report.html"),
        ("/photos/cat", "/photos/cat.report.html"),
        ("https://example.org/pictures/cat.jpg?size=3#top", "cat.report.html"),
        ("https://example.org/%2e%2e%2f%2e%2e%2fetc%2fcron.jpg", "cron.report.html"),
        ("https://example.org/", "example.org.report.html"),
        ("https://example.org/" + "a" * 500 + ".jpg", "a" * 80 + ".report.html"),
        ("-", "stdin.report.html"),
        ("<bytes>", "bytes.report.html"),
        ("<image>", "image.report.html"),
        ("<array>", "array.report.html"),
    ],
)
def test_where_a_report_goes(name, expected):
    assert report_path(name) == Path(expected)


def flags(width: int = 64, height: int = 64) -> Image.Image:
    """Blue, with a red field at the top right."""
    picture = Image.new("RGB", (width, height), (0, 0, 255))
    picture.paste((255, 0, 0), (width // 2, 0, width, height // 2))
    return picture


def test_labels_in_words_are_those_of_classify():
    labels, model = ["red", "green", "blue"], Colours()
    analysis = analyze(flags(), labels=labels, model=model)
    assert analysis.labels == classify(flags(), labels=labels, model=model).labels
    assert analysis.scoring == "softmax"
    assert analysis.network.classes == 0
    said = json.loads(json.dumps(analysis.to_dict()))
    assert said["scoring"] == "softmax"
    assert [label["label"] for label in said["labels"]] == ["blue", "red", "green"]
    page = Page(analysis.to_html())
    assert "finds closest: blue" in page.text
    assert "share of 100 % among the labels it was given" in page.text
    assert "confidence" not in page.text
    assert "shares of the labels given" in str(analysis)
    assert "judged by itself" in Page(analyze(flags(), labels=["red"], model=Colours(bias=-1.0)).to_html()).text


def test_the_map_of_a_convolutional_network_explains_the_closest_label():
    red = flags().resize((64, 64), box=(16, 0, 64, 48))  # more of it red
    analysis = analyze(red, labels=["red", "green"], model=Colours())
    assert analysis.explained == "red"
    model = Colours()
    judge = classifier(model, Words(("red", "green")))
    features = model.features(model.preprocess(red)).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(model.pool(features))[0, 0], features)
    expected = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu().detach()
    heat = explain(model, model.preprocess(red), 0, head=judge).heat
    torch.testing.assert_close(heat, expected / expected.max())
    assert heat[0, 0, 3] == 1  # the red corner
    assert heat[0, 3, 0] == 0  # the blue one


def test_phrases_are_found_where_they_are():
    analysis = analyze(flags(32, 32), phrases=["red", "blue"], model=Colours())
    assert [phrase.phrase for phrase in analysis.phrases] == ["red", "blue"]
    red, blue = (phrase.cosines for phrase in analysis.phrases)
    corner = np.zeros((4, 4), np.float32)
    corner[:2, 2:] = 1
    np.testing.assert_allclose(red, corner, atol=1e-6)
    np.testing.assert_allclose(blue, 1 - corner, atol=1e-6)
    said = json.loads(json.dumps(analysis.to_dict()))
    assert said["phrases"][0] == {"phrase": "red", "cosines": red.tolist()}
    assert "scoring" not in said
    page = Page(analysis.to_html())
    assert len(page.pictures()) == 6
    assert "“red” Cosines from 0.00, darkest, to 1.00, brightest" in page.text
    assert "asked for no names" in page.text
    bright, dark = (np.asarray(page.pictures()[4])[y, x].astype(int).sum() for y, x in ((90, 630), (630, 90)))
    assert bright > dark + 200
    assert "“red”: cosines of its patches from 0.00 to 1.00" in str(analysis)
    assert analysis.draw().height > analyze(flags(), model=Colours()).draw().height


def test_where_all_patches_are_as_near_the_map_is_dark():
    (phrase,) = analyze(Image.new("RGB", (32, 32), (255, 0, 0)), phrases=["red"], model=Colours()).phrases
    assert (phrase.scaled() == 0).all()


def test_a_clip_is_analysed_without_labels_and_with():
    model = tiny_clip()
    plain = analyze(CAT, model=model)
    assert plain.labels == plain.phrases == ()
    assert plain.method == "attention rollout"
    assert plain.views.grid == (4, 4)
    assert plain.network.reads
    assert "asked for no names" in Page(plain.to_html()).text
    assert not {"scoring", "phrases"} & plain.to_dict().keys()
    asked = analyze(CAT, model=model, labels=["cat", "dog"], phrases=["a cat"])
    assert asked.labels == classify(CAT, model=model, labels=["cat", "dog"]).labels
    assert asked.phrases[0].cosines.shape == (4, 4)
    assert asked.explained is None


def test_a_word_is_only_ever_text():
    words = ["<script>alert(1)</script>", "{{ 7 * 7 }}"]
    page = Page(analyze(CAT, model=tiny_clip(), labels=words, phrases=words).to_html())
    assert "script" not in page.tags
    assert all(page.text.count(word) >= 2 for word in words)


def test_questions_that_make_no_sense():
    with pytest.raises(UsageError, match="'vit' has no text tower"):
        analyze(CAT, model=transformer(), labels=["a cat", "a dog"])
    with pytest.raises(UsageError, match=r"'vit' has no text tower .*--phrase"):
        analyze(CAT, model=transformer(), phrases=["a cat"])
    for phrases in ([""], ["cat", "cat "]):
        with pytest.raises(UsageError, match="each phrase must say something"):
            analyze(CAT, model=tiny_clip(), phrases=phrases)
    with pytest.raises(UsageError, match="a list of texts"):
        analyze(CAT, model=tiny_clip(), phrases="cat")


def test_labels_are_read_once_for_many_pictures():
    model, question = Colours(), Question(words=Words(("red", "green")))
    inputs = find_inputs([flags(), b"nothing", flags()])
    first, broken, second = analyze_each(inputs, model, question)
    assert isinstance(broken, Failure)
    assert first.labels == second.labels
    assert sum(model.texts_read) == 2


def test_a_network_that_writes_adds_a_description_and_answers():
    red = Image.new("RGB", (64, 48), "red")
    analysis = analyze(red, model=transformer(), talker=parrot(), questions=["what?", "shout", "什么？"])
    assert analysis.caption is not None
    assert (analysis.caption.text, analysis.caption.model) == ("red 1", "parrot")
    assert [answer.text for answer in analysis.answers] == ["red 1", "red 1 !", "红 1"]
    assert analysis.model == "vit"
    said = json.loads(json.dumps(analysis.to_dict()))
    assert said["caption"]["text"] == "red 1"
    assert [answer["question"] for answer in said["answers"]] == ["what?", "shout", "什么？"]
    page = Page(analysis.to_html())
    assert "In words red 1 what? red 1 shout red 1 !" in page.text
    assert "Written by parrot" in page.text
    assert "“red 1” (parrot)" in str(analysis)
    assert "shout red 1 !" in str(analysis)
    plain = analyze(red, model=transformer())
    assert "In words" not in Page(plain.to_html()).text
    assert not {"caption", "answers"} & plain.to_dict().keys()
    assert analysis.draw().height > plain.draw().height
    assert analysis.caption.draw().size[0] > 480


def test_a_network_that_writes_may_be_named_as_the_model():
    analysis = analyze(CAT, model=parrot(), language="zh")
    assert analysis.model == "efficientnet-lite0"
    assert analysis.caption is not None
    assert analysis.caption.language == "zh"
    assert analyze(flags(), model=parrot(), labels=["a cat", "a dog"]).model == "emoji/clip-nano"
    with pytest.raises(UsageError, match="'parrot' writes, and so does the talker"):
        analyze(CAT, model=parrot(), talker=parrot())


def test_talking_that_makes_no_sense():
    for more, said in (
        ({"talker": transformer()}, "writes nothing"),
        ({"talker": parrot(), "questions": [""]}, "the question is empty"),
        ({"talker": parrot(), "questions": "what?"}, "a list of texts"),
        ({"talker": parrot(), "questions": ["what? " * 60]}, "leave no room"),
        ({"talker": parrot(), "language": "fr"}, "no language 'fr'"),
    ):
        with pytest.raises(UsageError, match=said):
            analyze(CAT, model=transformer(), **more)


def test_what_a_network_wrote_is_only_ever_text():
    talker = parrot()
    question = "<script>alert(1)</script> {{ 7 * 7 }}"
    page = Page(analyze(CAT, model=transformer(), talker=talker, questions=[question]).to_html())
    assert "script" not in page.tags
    assert question in page.text


def test_a_talker_that_fails_on_a_picture_fails_on_that_one():
    class Broken(Parrot):
        def start(self, pixels, rows=1):
            raise RuntimeError("too much")

    talker = Broken(parrot().config).eval()
    talker.preprocess, talker.tokenizer = parrot().preprocess, parrot().tokenizer
    with pytest.raises(ImageError, match=r"cat\.jpg: 'parrot' cannot run on it \(too much\)"):
        analyze(CAT, model=transformer(), talker=talker)
