"""`vitrail.caption`, and what the verbs that talk have in common."""

import json

import numpy as np
import pytest
import torch

import vitrail
from tests.parrot import Parrot, parrot, plain
from tests.pictures import EXAMPLES, odd_pictures
from tests.reading import tiny_clip
from tests.talkers import tiny_talker
from tests.tiny import tiny_vit
from vitrail.models.gpt2 import GPT2, GPT2Config
from vitrail.models.language_model import Turn
from vitrail.tasks import talk
from vitrail.tasks.batches import Failure
from vitrail.tasks.caption import Caption
from vitrail.tasks.talk import _trimmed, get_talker, language_of
from vitrail.text.decoding import Decoding
from vitrail.text.pieces import stream_text

CAT = EXAMPLES / "cat.jpg"


def test_a_picture_in_words():
    red = vitrail.caption(plain("red"), model=parrot())
    assert red == Caption("<image>", "parrot", "eager float32", "red 1", "en", red.source)
    assert vitrail.caption(plain("blue"), model=parrot(), language="zh").text == "蓝 1"
    assert str(red) == "<image>\n  red 1"
    said = json.loads(json.dumps(red.to_dict()))
    assert list(said) == ["input", "model", "engine", "language", "text"]
    assert (said["text"], said["language"]) == ("red 1", "en")


def test_the_drawing_is_the_picture_over_its_words():
    red = vitrail.caption(plain("red", (48, 48)), model=parrot())
    drawn = np.asarray(red.draw())
    is_red = (drawn == (255, 0, 0)).all(-1)
    assert is_red.sum() == 480 * 480
    below = drawn[np.flatnonzero(is_red.any(1)).max() + 1 :]
    assert below.min() < 100  # ink


def test_many_share_batches_and_a_broken_one_stays_in_its_place(tmp_path):
    model = parrot()
    pictures = [plain(colour) for colour in ("red", "lime", "blue", "red", "lime")]
    said = vitrail.caption([*pictures, tmp_path / "none.png"], model=model, batch_size=2)
    assert [one.text for one in said[:5]] == ["red 1", "green 1", "blue 1", "red 1", "green 1"]
    assert isinstance(said[5], Failure)
    assert model.rows_at_once == [2, 2, 1]
    with pytest.raises(vitrail.ImageError, match="no such file"):
        vitrail.caption(tmp_path / "none.png", model=model)


def test_it_is_what_the_network_generates():
    model = tiny_talker()
    texts = []
    for colour in ("red", "blue", "yellow"):
        prompt = model.prompt([Turn("", 1)], [vitrail.imaging.open.open_picture(plain(colour))])
        ids = model.generate(prompt.pixels, prompt.ids, max_new_tokens=12)[0, prompt.ids.shape[1] :].tolist()
        ids = ids[: ids.index(model.ends[0])] if model.ends[0] in ids else ids
        texts.append("".join(stream_text(ids, model.tokenizer)).strip())
    pictures = [plain(colour) for colour in ("red", "blue", "yellow")]
    together = vitrail.caption(pictures, model=model, max_new_tokens=12)
    assert [one.text for one in together] == texts
    assert len(set(texts)) > 1


def test_decoding_is_passed_on():
    model, red = tiny_talker(), plain("red")
    greedy = vitrail.caption(red, model=model, max_new_tokens=10)
    drawn = [
        vitrail.caption(red, model=model, max_new_tokens=10, temperature=3.0, seed=seed).text for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    beams = vitrail.caption(red, model=model, max_new_tokens=10, num_beams=4).text
    assert len({greedy.text, drawn[0], beams}) > 1
    assert len(vitrail.caption(red, model=model, max_new_tokens=2).text) < len(greedy.text)


@pytest.mark.parametrize("kind", odd_pictures())
def test_every_picture_can_be_captioned(kind):
    assert vitrail.caption(odd_pictures()[kind], model=parrot()).text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"language": "fr"}, "no language 'fr' here: en or zh"),
        ({"max_new_tokens": 0}, "at least one token"),
        ({"num_beams": 0}, "at least one beam"),
        ({"num_beams": 2, "temperature": 1.0}, "give one of them"),
        ({"temperature": -1.0}, "0 or above"),
        ({"batch_size": 0}, "batch size"),
    ],
)
def test_wrong_usage(wrong, said):
    with pytest.raises(vitrail.UsageError, match=said):
        vitrail.caption(CAT, model=parrot(), **wrong)


@pytest.mark.parametrize(
    ("model", "can"), [(tiny_vit(), r"\(classify, embed\)"), (tiny_clip(), r"\(classify --labels\)")]
)
def test_networks_that_see_do_not_write(model, can):
    for verb in (vitrail.caption, lambda image, model: vitrail.ask(image, "what?", model=model), vitrail.chat):
        with pytest.raises(vitrail.UsageError, match=rf"'{model.family}' .*{can} and writes nothing"):
            verb(CAT, model=model)


def test_networks_that_write_give_no_labels_and_no_vectors(tmp_path):
    plain("red").save(tmp_path / "red.png")
    for verb in (vitrail.classify, vitrail.embed):
        with pytest.raises(vitrail.UsageError, match=r"'parrot' writes texts.*caption, ask or chat"):
            verb(CAT, model=parrot())
    with pytest.raises(vitrail.UsageError, match="'parrot' writes texts"):
        vitrail.classify(CAT, labels=["a", "b"], model=parrot())
    with pytest.raises(vitrail.UsageError, match="'parrot' writes texts"):
        vitrail.index(tmp_path, model=parrot())


def test_what_cannot_caption_says_so():
    text_alone = GPT2(GPT2Config(300, 16, width=16, depth=1, heads=2, mlp_width=16, end=2)).eval()
    with pytest.raises(vitrail.UsageError, match=r"has no preprocess|came without a tokenizer"):
        vitrail.caption(CAT, model=text_alone)
    text_alone.preprocess, text_alone.tokenizer = parrot().preprocess, parrot().tokenizer
    with pytest.raises(vitrail.UsageError, match="'gpt2' reads no pictures, and not 1"):
        vitrail.caption(CAT, model=text_alone)

    class Silent(Parrot):
        def prompt(self, turns, pictures, language="en"):
            raise NotImplementedError

    silent = Silent(parrot().config).eval()
    silent.preprocess, silent.tokenizer = parrot().preprocess, parrot().tokenizer
    with pytest.raises(vitrail.UsageError, match="no form for questions"):
        vitrail.caption(CAT, model=silent)


def test_a_network_that_fails_on_a_picture_fails_on_that_one():
    class Choosy(Parrot):
        def start(self, pixels, rows=1):
            if pixels is not None and (pixels[..., 0, 0, 0] == 1).any():  # red in the corner
                raise RuntimeError("too red\nfor me")
            return super().start(pixels, rows)

    model = Choosy(parrot().config).eval()
    model.preprocess, model.tokenizer = parrot().preprocess, parrot().tokenizer
    red, blue = vitrail.caption([plain("red"), plain("blue")], model=model, batch_size=1)
    assert str(red) == "<image>: the network cannot run on it (too red)."
    assert blue.text == "blue 1"


def test_without_a_name_it_is_the_one_in_the_box(monkeypatch):
    monkeypatch.setattr(talk, "box_names", lambda: ("efficientnet-lite0",))
    with pytest.raises(vitrail.UsageError, match="name a network that writes"):
        get_talker()
    monkeypatch.undo()
    assert get_talker().origin.name == "emoji/talk-nano"


def test_text_is_trimmed_and_holds_no_terminal_codes():
    assert "".join(_trimmed(["  ", " a", " ", "\n b ", "\x1b[31m", "c\t", " \n"])) == "a \n b [31mc"
    assert list(_trimmed([" ", "\n"])) == []
    assert list(_trimmed(["a", " ", "b"])) == ["a", " b"]


@pytest.mark.parametrize(("text", "language"), [("what?", "en"), ("这是什么？", "zh"), ("a 猫", "zh"), ("é", "en")])
def test_the_language_of_a_question(text, language):
    assert language_of(text) == language


def test_stop_strings_of_the_network_end_a_text():
    model = parrot()
    model.stop = ("1",)
    assert vitrail.caption(plain("red"), model=model).text == "red"
    with torch.no_grad():
        prompts = [model.prompt([Turn("shout")], [])]
        assert talk.written(model, prompts, Decoding()) == ["nothing"]
