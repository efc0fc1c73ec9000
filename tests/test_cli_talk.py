"""The command line of caption, ask and chat."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vitrail
from tests import parrot as parrots
from tests.parrot import Parrot, parrot, plain, saved_parrot
from tests.tiny import saved_tiny_vit
from vitrail import registry
from vitrail.cli import app, talk
from vitrail.tasks.chat import Chat


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    parrots.register()
    yield saved_parrot(tmp_path_factory.mktemp("model"))
    del registry.FAMILIES["parrot"]


@pytest.fixture
def pictures(tmp_path) -> Path:
    for name, colour in (("1.png", "red"), ("2.png", "lime"), ("3.png", "blue")):
        plain(colour).save(tmp_path / name)
    return tmp_path


def run(*arguments: object, said: str | bytes | None = None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=said)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_caption(model, pictures):
    red = pictures / "1.png"
    done = run("caption", red, "-m", model)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{red}\n  red 1\n", "")
    assert run("caption", red, "-m", model, "--language", "zh").stdout == f"{red}\n  红 1\n"
    done = run("caption", pictures, pictures / "none.png", "-m", model, "--json")
    assert done.exit_code == 1
    assert done.stderr == f"Error: {pictures / 'none.png'}: there is no such file.\n"
    *said, failed = lines(done.stdout)
    assert said == [result.to_dict() for result in vitrail.caption(pictures, model=model)]
    assert set(failed) == {"input", "error"}
    piped = run("caption", "-", "-m", model, said=red.read_bytes())
    assert piped.stdout == "-\n  red 1\n"


def test_decoding_options_reach_the_network(model, pictures):
    arguments = ["caption", pictures / "1.png", "-m", model]
    assert run(*arguments, "--max-new-tokens", 1).stdout.endswith("  red\n")
    assert run(*arguments, "--num-beams", 3).stdout.endswith("  red 1\n")
    drawn = {run(*arguments, "--temperature", 50, "--seed", seed).stdout for seed in (1, 2)}
    assert len(drawn) == 2
    assert run(*arguments, "--temperature", 50, "--seed", 1).stdout in drawn


def test_ask(model, pictures):
    done = run("ask", pictures / "1.png", pictures / "2.png", "what?", "-m", model)
    assert done.exit_code == 0
    assert done.stdout == f"{pictures / '1.png'}\n  red 1\n{pictures / '2.png'}\n  green 1\n"
    (result,) = lines(run("ask", pictures / "2.png", "什么？", "-m", model, "--json").stdout)
    assert (result["question"], result["text"], result["language"]) == ("什么？", "绿 1", "zh")
    assert run("ask", "what?", "-m", model).stdout == "nothing 1\n"
    assert lines(run("ask", "what?", "-m", model, "--json").stdout)[0]["input"] == ""


def test_ask_with_examples(model, pictures):
    red, green, blue = (str(pictures / f"{number}.png") for number in (1, 2, 3))
    one = ["--example", red, "shout", "red !"]
    done = run("ask", *one, "--example", green, "how many?", "-1", blue, "what?", "-m", model)
    assert done.stdout == f"{blue}\n  blue 3 !\n"
    (pictures / "e.csv").write_text("picture,question,answer\n1.png,what?,red\n", encoding="utf-8")
    assert run("ask", blue, "what?", "-m", model, "--examples", pictures / "e.csv").stdout == f"{blue}\n  blue 2\n"
    both = run("ask", blue, "what?", "-m", model, "--examples", pictures / "e.csv", *one)
    assert both.stdout == f"{blue}\n  blue 3 !\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["caption"], 2, "Missing argument"),
        (["caption", "1.png", "--language", "fr"], 2, "no language 'fr'"),
        (["caption", "1.png", "--num-beams", "0"], 2, "at least one beam"),
        (["caption", "none.png"], 1, "no such file"),
        (["caption", "1.png", "-m", "efficientnet-lite0"], 2, "(classify, embed) and writes nothing"),
        (["classify", "1.png", "-m", "{model}"], 2, "use caption, ask or chat"),
        (["embed", "1.png", "-m", "{model}"], 2, "use caption, ask or chat"),
        (["index", ".", "-m", "{model}"], 2, "use caption, ask or chat"),
        (["ask"], 2, "the question is empty"),
        (["ask", "1.png"], 2, "no question about 1.png"),
        (["ask", "1.png", ""], 2, "the question is empty"),
        (["ask", "1.png", "what? " * 60], 2, "leave no room"),
        (["ask", "none.png", "what?"], 1, "no such file"),
        (["ask", "broken.png", "what?"], 1, "broken.png"),
        (["ask", "1.png", "what?", "--example", "1.png", "what?"], 2, "three things behind it"),
        (["ask", "1.png", "what?", "--example", "none.png", "what?", "red"], 1, "no such file"),
        (["ask", "1.png", "what?", "--examples", "1.png"], 2, ".csv or .jsonl"),
        (["chat", "-"], 2, "standard input is what is said"),
        (["chat", "none.png"], 1, "no such file"),
        (["chat", "--language", "fr"], 2, "no language 'fr'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(model, pictures, monkeypatch, arguments, code, said):
    monkeypatch.chdir(pictures)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    arguments = [argument.format(model=model) for argument in arguments]
    done = run(*arguments, *(() if "-m" in arguments else ("-m", model)))
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    if said != "Missing argument":
        assert len(done.stderr.splitlines()) == 1


def test_chat_from_a_script(model, pictures):
    script = f"what?\n\nand now?\n/picture {pictures / '3.png'}\nwhat?\n/reset\nwhat?\n/quit\nnever said\n"
    done = run("chat", pictures / "1.png", "-m", model, said=script)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "red 1\nred 2\nblue 3\nnothing 1\n"
    said = lines(run("chat", pictures / "1.png", "-m", model, "--json", said="what?\nand now?").stdout)
    assert [(turn["question"], turn["text"]) for turn in said] == [("what?", "red 1"), ("and now?", "red 2")]
    assert said[0]["input"] == str(pictures / "1.png")


def test_a_turn_that_fails_is_said_and_the_chat_goes_on(model, pictures):
    script = f"what?\n/picture {pictures / 'none.png'}\n/dance\n{'what? ' * 60}\nwhat?\n"
    done = run("chat", pictures / "1.png", "-m", model, said=script)
    assert done.exit_code == 1
    assert done.stdout == "red 1\nred 2\n"
    missing, unknown, long = done.stderr.splitlines()
    assert "none.png: there is no such file" in missing
    assert unknown == "Error: there is no /dance here: /picture PATH, /reset or /quit"
    assert "leave no room" in long
    said = lines(run("chat", pictures / "1.png", "-m", model, "--json", said=script).stdout)
    assert [set(turn) >= {"question", "error"} for turn in said] == [False, True, True, True, False]


def test_what_is_forgotten_is_said_once(tmp_path, pictures, model):
    small = saved_parrot(tmp_path, context=20)
    for more in ([], ["--json"]):
        done = run("chat", pictures / "1.png", "-m", small, *more, said="a b c\n" * 3)
        assert done.exit_code == 0
        assert done.stderr.splitlines() == [
            "Note: the network cannot read all of the conversation: its oldest 2 turns are forgotten"
        ]
        assert len(done.stdout.splitlines()) == 3


def test_standard_input_that_is_no_text(model):
    done = run("chat", "-m", model, said=b"what?\n\xff\xfe\n")
    assert done.exit_code == 1
    assert "no text in UTF-8" in done.stderr


def test_ctrl_c_stops_an_answer_and_not_the_chat(monkeypatch, capsys):
    """As it comes: while the network reads its second token, and later while a line is typed."""

    class Interrupted(Parrot):
        reads_made = 0

        def read(self, ids, cache, mask=None):
            self.reads_made += 1
            if self.reads_made == 2:
                raise KeyboardInterrupt
            return super().read(ids, cache, mask)

    network = Interrupted(parrot().config).eval()
    network.preprocess, network.tokenizer = parrot().preprocess, parrot().tokenizer
    typed = iter(["what?", KeyboardInterrupt, "what?", EOFError, "never said"])

    def typing(prompt: str) -> str:
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", typing)
    chat = Chat(network)
    chat.show(plain("red"))
    assert talk.Talking(chat, as_json=False, on_terminal=True).go_on() == 0
    assert capsys.readouterr().out == "red …\n\nred 2\n\n"
    assert next(typed) == "never said"


def test_on_a_terminal(model, pictures, tmp_path):
    """Through a pseudo-terminal: a greeting, a prompt, an answer, a wrong turn that does not count, and Ctrl-D."""
    start = "import sys; from tests.parrot import register; register(); from vitrail.cli import main; main()"
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", start, "chat", str(pictures / "1.png"), "-m", model],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(end)
    shown = b""

    def until(wanted: bytes) -> None:
        nonlocal shown
        patience = time.monotonic() + 60
        while wanted not in shown and time.monotonic() < patience:
            shown += os.read(terminal, 4096)
        assert wanted in shown
        shown = shown.partition(wanted)[2]

    until(b"/picture PATH shows a picture")
    until(b"> ")
    os.write(terminal, b"what?\n")
    until(b"red 1")
    until(b"> ")
    os.write(terminal, b"/nonsense\n")
    until(b"there is no /nonsense here")
    until(b"> ")
    os.write(terminal, b"\x1b[A\x1b[A\n")  # two lines up in the history: "what?"
    until(b"red 2")
    until(b"> ")
    os.write(terminal, b"\x04")
    assert process.wait(60) == 0
    os.close(terminal)


def test_help_has_examples():
    for verb in ("caption", "ask", "chat"):
        done = run(verb, "--help")
        assert done.exit_code == 0
        assert f"vitrail {verb}" in done.stdout.partition("Examples:\n")[2]
    assert re.search(r"caption .*\n +ask .*\n +chat ", run("--help").stdout)


def test_analyze_gains_words(model, pictures, tmp_path):
    red = pictures / "1.png"
    seer = saved_tiny_vit(tmp_path)
    arguments = ["analyze", red, "-o", tmp_path / "red.html", "--json"]
    (plain_one,) = lines(run(*arguments, "-m", seer).stdout)
    assert not {"caption", "answers"} & set(plain_one)
    (result,) = lines(
        run(*arguments, "-m", seer, "--talker", model, "--ask", "what?", "--ask", "什么？", "--language", "en").stdout
    )
    assert result["caption"]["text"] == "red 1"
    assert [answer["question"] for answer in result["answers"]] == ["what?", "什么？"]
    assert "In words" in (tmp_path / "red.html").read_text(encoding="utf-8")
    (itself,) = lines(run(*arguments, "-m", model).stdout)
    assert (itself["model"], itself["caption"]["text"]) == ("efficientnet-lite0", "red 1")
    done = run(*arguments, "-m", seer, "--talker", seer)
    assert done.exit_code == 2
    assert "writes nothing" in done.stderr
    assert run(*arguments, "-m", seer, "--talker", model, "--ask", " ").exit_code == 2
