"""`vitrail.ask`: questions, and examples to go by."""

import json

import pytest

import vitrail
from tests.parrot import parrot, plain
from tests.pictures import EXAMPLES
from tests.talkers import tiny_talker
from vitrail.tasks.ask import Answer, read_examples
from vitrail.tasks.batches import Failure

CAT = EXAMPLES / "cat.jpg"


def test_an_answer():
    answer = vitrail.ask(plain("lime"), "  what is it ? ", model=parrot())
    assert answer == Answer("<image>", "parrot", "eager float32", "what is it ?", "green 1", "en", answer.source)
    assert str(answer) == "<image>\n  green 1"
    said = json.loads(json.dumps(answer.to_dict()))
    assert list(said) == ["input", "model", "engine", "language", "question", "text"]
    assert answer.draw().height > answer.draw().width * 0.8


def test_a_chinese_question_is_answered_in_chinese_unless_said():
    assert vitrail.ask(plain("lime"), "什么颜色？", model=parrot()).text == "绿 1"
    assert vitrail.ask(plain("lime"), "什么颜色？", model=parrot(), language="en").text == "green 1"


def test_each_picture_gets_the_question(tmp_path):
    plain("red").save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    plain("blue").save(tmp_path / "3.png")
    red, broken, blue = vitrail.ask(tmp_path, "what?", model=parrot())
    assert (red.text, blue.text) == ("red 1", "blue 1")
    assert isinstance(broken, Failure)


def test_examples_come_before_the_question():
    shouting = [(plain("red"), "shout", "red !"), (plain("blue"), "shout", "blue !")]
    assert vitrail.ask(plain("lime"), "what?", model=parrot(), examples=shouting).text == "green 3 !"
    many = vitrail.ask([plain("lime"), plain("red")], "what?", model=parrot(), examples=shouting)
    assert [one.text for one in many] == ["green 3 !", "red 3 !"]


def test_examples_are_for_networks_that_read_several_pictures():
    with pytest.raises(vitrail.UsageError, match=r"'vit-gpt' reads one picture .*idefics"):
        vitrail.ask(plain("red"), "what?", model=tiny_talker(), examples=[(plain("red"), "what?", "red")])


def test_a_question_without_a_picture():
    answer = vitrail.ask(None, "what?", model=parrot())
    assert (answer.input, answer.text, str(answer)) == ("", "nothing 1", "nothing 1")
    with pytest.raises(vitrail.VitrailError, match="no picture to draw"):
        answer.draw()
    with pytest.raises(vitrail.UsageError, match="one picture, and not 0"):
        vitrail.ask(None, "what?", model=tiny_talker())


@pytest.mark.parametrize(
    ("question", "more", "said"),
    [
        ("", {}, "the question is empty"),
        (" \n", {}, "the question is empty"),
        ("what? " * 100, {}, "leave no room"),
        ("what?", {"language": "fr"}, "no language 'fr'"),
        ("what?", {"examples": [(CAT, "what?")]}, "a picture, a question and an answer"),
        ("what?", {"examples": ["cat"]}, "a picture, a question and an answer"),
        ("what?", {"examples": [(CAT, "what?", " ")]}, "is empty"),
        ("what?", {"examples": [(CAT, "what? " * 30, "a")] * 2}, "leave no room"),
    ],
)
def test_wrong_usage(question, more, said):
    with pytest.raises(vitrail.UsageError, match=said):
        vitrail.ask([CAT], question, model=parrot(), **more)


def test_an_example_whose_picture_is_broken_stops_all(tmp_path):
    with pytest.raises(vitrail.ImageError, match="no such file"):
        vitrail.ask([CAT], "what?", model=parrot(), examples=[(tmp_path / "none.png", "what?", "a cat")])


def test_examples_from_files(tmp_path):
    (tmp_path / "examples.csv").write_text('picture,question,answer\na.png,"how many,\nthen?",2\n', encoding="utf-8")
    row = {"picture": "https://example.org/a.png", "question": "几个？", "answer": "2", "more": 1}
    (tmp_path / "examples.JSONL").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8-sig")
    assert read_examples(tmp_path / "examples.csv") == [(tmp_path / "a.png", "how many,\nthen?", "2")]
    assert read_examples(tmp_path / "examples.JSONL") == [("https://example.org/a.png", "几个？", "2")]


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("e.txt", b"", vitrail.UsageError, r"\.csv or \.jsonl"),
        ("e.csv", b"", vitrail.UsageError, "there are no examples"),
        ("e.csv", b"picture,question\na.png,what?\n", vitrail.UsageError, "example 1 in .* lacks one of"),
        ("e.csv", b"picture,question,answer\na.png,what?\n", vitrail.UsageError, "example 1 in .* lacks one of"),
        ("e.jsonl", b"[1]\n", vitrail.UsageError, "example 1 in .* lacks one of"),
        ("e.jsonl", b'{"picture": 1, "question": "a", "answer": "b"}', vitrail.UsageError, "lacks one of"),
        ("e.jsonl", b"{", vitrail.VitrailError, "cannot be read"),
        ("e.jsonl", b"\xff", vitrail.VitrailError, "UTF-8"),
        ("none.jsonl", None, vitrail.VitrailError, "No such file"),
    ],
)
def test_example_files_that_cannot_be_read(tmp_path, name, content, error, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        read_examples(tmp_path / name)
