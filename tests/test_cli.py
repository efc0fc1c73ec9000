"""The command line: what is printed where, and the exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vitrail
from tests.pictures import EXAMPLES, noise
from tests.reading import saved_tiny_clip
from tests.tiny import saved_tiny_vit, tiny_vit
from vitrail.cli import app

CAT = str(EXAMPLES / "cat.jpg")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return saved_tiny_vit(tmp_path_factory.mktemp("model"))


def run(*arguments: object, standard_input: bytes | None = None):
    """The application in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=standard_input)


def start(*arguments: object, **more) -> subprocess.Popen:
    """The application in a process of its own."""
    command = [sys.executable, "-m", "vitrail", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_classify_prints_labels(model):
    done = run("classify", CAT, "-m", model, "-k", 3)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == CAT
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr == ""


def test_json_is_the_dictionary_and_nothing_else(model):
    done = run("classify", CAT, EXAMPLES / "rocket.jpg", "-m", model, "--top", 2, "--json")
    assert done.exit_code == 0
    expected = vitrail.classify([CAT, str(EXAMPLES / "rocket.jpg")], model=model, top=2)
    assert lines(done.stdout) == [result.to_dict() for result in expected]
    assert done.stderr == ""


def test_what_is_missing_is_reported_and_the_rest_is_done(model, tmp_path):
    missing = tmp_path / "missing.jpg"
    done = run("classify", missing, CAT, "-m", model)
    assert done.exit_code == 1
    assert done.stderr == f"Error: {missing}: there is no such file.\n"
    assert done.stdout.startswith(CAT)
    failed, fine = lines(run("classify", missing, CAT, "-m", model, "--json").stdout)
    assert failed == {"input": str(missing), "error": f"{missing}: there is no such file."}
    assert fine["input"] == CAT


def test_one_broken_among_a_thousand(model, tmp_path):
    for number in range(1000):
        noise(8, 8, seed=number).save(tmp_path / f"{number:04}.png", compress_level=0)
    (tmp_path / "0500.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    done = run("classify", tmp_path, "-m", model, "--json", "-k", 1, "--batch-size", 32)
    assert done.exit_code == 1
    results = lines(done.stdout)
    assert [Path(result["input"]).name for result in results] == [f"{number:04}.png" for number in range(1000)]
    assert [number for number, result in enumerate(results) if "error" in result] == [500]
    assert len(done.stderr.splitlines()) == 1
    assert "0500.png" in done.stderr

    done = run("embed", tmp_path / "05*.png", "-m", model, "-o", tmp_path / "v.npy")
    assert done.exit_code == 1
    assert done.stdout == f"{tmp_path / 'v.npy'}: 99 vectors\n"
    names = json.loads((tmp_path / "v.names.json").read_text())["inputs"]
    assert np.load(tmp_path / "v.npy").shape == (len(names), 32) == (99, 32)
    assert not any("0500" in name for name in names)


def test_standard_input(model):
    done = run("classify", "-", "-m", model, "--json", standard_input=Path(CAT).read_bytes())
    assert done.exit_code == 0
    (result,) = lines(done.stdout)
    assert result["input"] == "-"
    assert result["labels"] == vitrail.classify(CAT, model=model).to_dict()["labels"]
    assert run("classify", "-", "-", "-m", model).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["classify"],
        ["clasify", CAT],
        ["classify", CAT, "--frobnicate"],
        ["classify", CAT, "--top", "many"],
        ["classify", CAT, "--top", "0"],
        ["classify", CAT, "--batch-size", "0"],
        ["classify", CAT, "--engine", "warp"],
        ["classify", CAT, "--device", "nowhere"],
        ["embed", CAT, "-o", "vectors.csv"],
        ["analyze", CAT, "--top", "0"],
        ["analyze", CAT, CAT, "-o", "one.html"],
        ["info"],
        ["convert", "a", "b"],
        ["convert", "a", "b", "--layout", "keras"],
    ],
)
def test_wrong_usage_is_2(arguments, model):
    if CAT in arguments and "-m" not in arguments:
        arguments = [*arguments, "-m", model]
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", CAT, "-m", "effcientnet-lite0"], "did you mean 'efficientnet-lite0'?"),
        (["classify", CAT, "-m", "nobody/nothing"], "the hub cannot be reached"),
        (["classify", "http://127.0.0.1:9/cat.jpg"], "--allow-private"),
        (["classify", "http://127.0.0.1:9/cat.jpg", "--allow-private"], "refused the connection"),
        (["classify", "no-such-folder/*.png"], "No file matches"),
        (["info", "nothing-of-the-kind"], "there is no model"),
        (["embed", CAT, "-o", "no-such-folder/v.npy"], "there is no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_1(arguments, said, model):
    if arguments[0] != "info" and "-m" not in arguments:
        arguments = [*arguments, "-m", model]
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert said in sentence


def test_a_network_without_a_head_says_use_embed(tmp_path):
    headless = saved_tiny_vit(tmp_path, classes=0)
    done = run("classify", CAT, "-m", headless)
    assert done.exit_code == 2
    assert "use embed" in done.stderr
    assert run("embed", CAT, "-m", headless).exit_code == 0


def test_embed_prints_or_writes(model, tmp_path):
    assert "32 numbers" in run("embed", CAT, "-m", model).stdout
    (result,) = lines(run("embed", CAT, "-m", model, "--json").stdout)
    np.testing.assert_allclose(result["vector"], vitrail.embed(CAT, model=model).vector, rtol=1e-5)
    done = run("embed", CAT, "-m", model, "-o", tmp_path / "v.parquet")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'v.parquet'}: 1 vector\n")
    both = run("embed", CAT, "-m", model, "-o", tmp_path / "v.npy", "--json")
    assert lines(both.stdout) == [result]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[0], result["vector"])


def test_analyze_writes_beside_the_picture_or_where_it_is_told(model, tmp_path):
    for name in ("cat.jpg", "cat.png", "more/cat.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        noise(40, 30).save(path)
    done = run("analyze", tmp_path / "cat.jpg", "-m", model)
    assert done.exit_code == 0
    report = tmp_path / "cat.report.html"
    assert str(report) in done.stdout
    assert report.read_text().lstrip().lower().startswith("<!doctype html>")

    done = run("analyze", tmp_path, tmp_path / "missing.png", "-m", model, "-o", tmp_path / "reports", "--json")
    assert done.exit_code == 1
    *results, failed = lines(done.stdout)
    assert "error" in failed
    assert {"input", "labels", "report"} <= results[0].keys()
    written = {Path(result["report"]) for result in results}
    assert len(written) == 3
    assert written == set((tmp_path / "reports").iterdir())

    one = run("analyze", tmp_path / "cat.png", "-m", model, "-o", tmp_path / "mine.html")
    assert one.exit_code == 0
    assert (tmp_path / "mine.html").is_file()


def test_a_report_that_cannot_be_written_fails_alone(model, tmp_path):
    for name in ("cat.png", "dog.png"):
        noise(40, 30).save(tmp_path / name)
    (tmp_path / "cat.report.html").mkdir()
    done = run("analyze", tmp_path / "cat.png", tmp_path / "dog.png", "-m", model)
    assert done.exit_code == 1
    (sentence,) = done.stderr.splitlines()
    assert "cat.report.html cannot be written" in sentence
    assert (tmp_path / "dog.report.html").is_file()


def test_models_is_a_table_and_lines_of_json():
    table = run("models").stdout.splitlines()
    assert table[0].split() == ["name", "family", "layout", "licence", "weights"]
    assert table[1].startswith("efficientnet-lite0 ")
    listed = lines(run("models", "--json").stdout)
    assert len(listed) == len(table) - 1
    assert {"vit_base_patch16_224", "facebook/dinov2-small"} <= {entry["name"] for entry in listed}


def test_info(model):
    assert "86,567,656" in run("info", "google/vit-base-patch16-224").stdout
    (about,) = lines(run("info", model, "--json").stdout)
    assert (about["family"], about["config"]["width"]) == ("vit", 32)


def test_convert_there_and_back(model, tmp_path):
    done = run("convert", model, tmp_path / "timm", "--layout", "timm")
    assert done.exit_code == 0
    assert str(tmp_path / "timm") in done.stdout
    assert "antialias" in done.stdout
    there = vitrail.classify(CAT, model=str(tmp_path / "timm"))
    assert there.labels == vitrail.classify(CAT, model=model).labels
    assert run("convert", model, tmp_path / "timm", "--layout", "timm").exit_code == 1


def test_names_that_cannot_be_printed_are_escaped(model, tmp_path):
    odd = tmp_path / "猫 \x1b[31m.png"
    noise(8, 8).save(odd)
    assert "\x1b" not in run("classify", odd, "-m", model).stdout
    (result,) = lines(run("classify", odd, "-m", model, "--json").stdout)
    assert result["input"] == str(odd)
    with start("classify", odd, "-m", model, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"}) as process:
        assert lines(process.communicate()[0].decode("ascii")) == [result]


def test_from_a_shell(model, tmp_path):
    with start("classify", CAT, tmp_path / "missing.jpg", "-m", model, "--json") as process:
        output, errors = process.communicate()
    assert process.returncode == 1
    assert [line.keys() for line in lines(output.decode())] == [
        {"input": 0, "model": 0, "engine": 0, "labels": 0}.keys(),
        {"input": 0, "error": 0}.keys(),
    ]
    assert errors.decode().splitlines() == [f"Error: {tmp_path / 'missing.jpg'}: there is no such file."]


def test_a_reader_that_leaves_is_no_error(model):
    with start("classify", *[CAT] * 300, "-m", model, "--json", "--batch-size", 1) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert errors == b""


def test_results_stream_and_interrupting_is_quick(model):
    with start("classify", *[CAT] * 3000, "-m", model, "--json", "--batch-size", 1) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.decode().splitlines() == ["Error: interrupted"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_a_sentence(model):
    command = [sys.executable, "-m", "vitrail", "classify", CAT, "-m", model, "--json"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["Error: No space left on device"]


def test_a_defect_is_told_apart_from_bad_input(monkeypatch, capsys):
    import vitrail.tasks.models as tasks_models
    from vitrail.cli import main

    monkeypatch.setattr(tasks_models, "get_model", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["vitrail", "classify", CAT])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.setenv("VITRAIL_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main()


def test_the_progress_bar_keeps_to_standard_error(model):
    """On a terminal, with the results going to a file."""
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "vitrail", "classify", *[CAT] * 30, "-m", model, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    output, shown = process.stdout.read(), b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    process.wait()
    process.stdout.close()
    assert len(lines(output.decode())) == 30
    assert b"30/30" in shown


def test_help_has_examples_for_every_verb():
    for verb in ("classify", "embed", "analyze", "models", "info", "convert"):
        done = run(verb, "--help")
        assert done.exit_code == 0
        assert f"vitrail {verb}" in done.stdout.partition("Examples:\n")[2]


def test_loaded_networks_and_the_command_line_agree_on_labels(tmp_path):
    named = tiny_vit(classes=2)
    named.labels = ("chat", "chien")
    saved = vitrail.save(named, tmp_path / "named.safetensors")
    (result,) = lines(run("classify", CAT, "-m", saved, "--json").stdout)
    assert {label["label"] for label in result["labels"]} == {"chat", "chien"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> str:
    """A network that reads words."""
    return saved_tiny_clip(tmp_path_factory.mktemp("reader"))


def test_labels_may_all_follow_one_option(reader):
    expected = vitrail.classify(CAT, labels=["a cat", "a dog"], model=reader).to_dict()
    for arguments in (
        [CAT, "--labels", "a cat", "a dog", "--model", reader, "--json"],
        [CAT, "-m", reader, "--json", "--labels", "a cat", "a dog"],
        [CAT, "--labels", "a cat", "--labels", "a dog", "-m", reader, "--json"],
        [CAT, "--labels=a cat", "--labels=a dog", "-m", reader, "--json"],
        ["-m", reader, "--json", "--labels", "a cat", "a dog", "--", CAT],
    ):
        (result,) = lines(run("classify", *arguments).stdout)
        assert result == expected
    piped = run(
        "classify", "-m", reader, "--json", "--labels", "a cat", "a dog", "-", standard_input=Path(CAT).read_bytes()
    )
    assert lines(piped.stdout) == [{**expected, "input": "-"}]


def test_labels_from_a_file_templates_and_odd_labels(reader, tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("cat\n\n-dog\n", encoding="utf-8")
    arguments = ["classify", CAT, "-m", reader, "--json", "--template", "a photo of {}", "--template", "{}"]
    (both,) = lines(run(*arguments, "--labels", "red", "--labels=-1", "--labels-file", file).stdout)
    expected = vitrail.classify(
        CAT, labels=["red", "-1", "cat", "-dog"], templates=["a photo of {}", "{}"], model=reader
    )
    assert both == expected.to_dict()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([CAT, "--labels"], "--labels needs something behind it"),
        ([CAT, "--labels", "--json"], "--labels needs something behind it"),
        (["--labels", "a cat", "a dog", CAT], "and is no label: name pictures before --labels"),
        ([CAT, "--labels", "a cat", "https://example.org/dog.jpg"], "is no label"),
        (["--labels", "a cat", "a dog"], "Missing argument"),
        ([CAT, "--labels", "a cat", "a cat"], "'a cat' is given twice"),
        ([CAT, "--labels", "a cat", ""], "a label is empty"),
        ([CAT, "--labels", "a cat"], "alone is always 100 %"),
        ([CAT, "--labels", "a cat", "a dog", "--template", "a photo"], "has no {}"),
        ([CAT, "--template", "a {}"], "--labels"),
        ([CAT], "no classes of its own: say which to tell apart with --labels"),
    ],
)
def test_labels_that_make_no_sense_are_2(arguments, said, reader):
    done = run("classify", "-m", reader, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in " ".join(done.stderr.split())


def test_labels_are_for_networks_that_read(model, tmp_path):
    for arguments in (
        ["classify", "--labels", "a", "b"],
        ["analyze", "--labels", "a", "b"],
        ["analyze", "--phrase", "a"],
    ):
        done = run(arguments[0], CAT, "-m", model, *arguments[1:])
        assert done.exit_code == 2
        assert "has no text tower" in done.stderr
    done = run("classify", CAT, "-m", model, "--labels-file", tmp_path / "none.txt")
    assert done.exit_code == 1
    assert "none.txt cannot be read" in done.stderr


def test_analyze_takes_labels_and_phrases(reader, tmp_path):
    arguments = ["--labels", "a cat", "a dog", "--phrase", "the cat", "--phrase", "red", "-o", tmp_path, "--json"]
    (result,) = lines(run("analyze", CAT, "-m", reader, *arguments).stdout)
    assert {label["label"] for label in result["labels"]} == {"a cat", "a dog"}
    assert [phrase["phrase"] for phrase in result["phrases"]] == ["the cat", "red"]
    assert "“the cat”" in Path(result["report"]).read_text(encoding="utf-8")
    assert run("analyze", CAT, "-m", reader, "-o", tmp_path / "plain.html").exit_code == 0
