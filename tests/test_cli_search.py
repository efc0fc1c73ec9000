"""The command line of index, search and duplicates."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import vitrail
from tests.folders import blob, fill
from tests.reading import saved_tiny_clip
from vitrail.cli import app
from vitrail.cli.search import parse_size


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return saved_tiny_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path, model) -> Path:
    folder = fill(tmp_path / "pictures", 5)
    vitrail.index(folder, model=model)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_index_says_what_it_did(tmp_path, model):
    folder = fill(tmp_path / "pictures", 3)
    done = run("index", folder, "--model", model)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{folder}: 3 pictures (3 added), by {model}\n"
    (folder / "bad.png").write_bytes(b"no")
    done = run("index", folder, "--json")
    assert done.exit_code == 1
    (indexed,) = lines(done.stdout)
    assert (indexed["unchanged"], indexed["failed"]) == (3, 1)
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"Error: {folder / 'bad.png'} ")
    done = run("index", folder, "--model", "efficientnet-lite0")
    assert done.exit_code == 1
    assert "--rebuild" in done.stderr


def test_search_by_words_and_pictures(folder, monkeypatch):
    done = run("search", "a red cat", folder, "--json", "-k", 3)
    assert (done.exit_code, done.stderr) == (0, "")
    expected = vitrail.search("a red cat", folder, count=3)
    assert lines(done.stdout) == [hit.to_dict() for hit in expected.hits]
    assert run("search", "a red cat", folder, "-k", 3).stdout == f"{expected}\n"

    for arguments in (["", folder], [folder]):  # pictures only
        done = run("search", *arguments, "--image", folder / "002.png", "--json", "-k", 1)
        assert [hit["path"] for hit in lines(done.stdout)] == [str(folder / "002.png")]
    done = run("search", "a red cat", folder, "-i", folder / "002.png", "-i", folder / "003.png", "--json")
    both = vitrail.search("a red cat", folder, images=[folder / "002.png", folder / "003.png"])
    assert lines(done.stdout) == [hit.to_dict() for hit in both.hits]
    monkeypatch.chdir(folder)
    assert [hit["path"] for hit in lines(run("search", "-i", "004.png", "-k", 1, "--json").stdout)] == ["004.png"]


def test_search_filters(folder):
    os.utime(folder / "001.png", (10**9, 10**9))
    vitrail.index(folder)
    done = run("search", "cat", folder, "--before", "2001-09-10", "--max-size", "1M", "--min-size", "0.1k", "--json")
    assert [hit["path"] for hit in lines(done.stdout)] == [str(folder / "001.png")]
    done = run("search", "cat", folder, "--after", "2001-09-10", "--path", "00[2].png", "--json")
    assert (done.exit_code, done.stdout) == (0, "")
    assert run("search", "cat", folder, "--min-size", "1G").stdout == "nothing found\n"


def test_an_outdated_index_is_noted(folder):
    blob(20).save(folder / "new.png")
    done = run("search", "cat", folder, "--json")
    assert done.exit_code == 0
    assert len(lines(done.stdout)) == 5
    assert done.stderr == f"Note: 1 picture has changed since the folder was indexed: vitrail index {folder}\n"


def test_contact_sheets(folder, tmp_path):
    shutil.copy(folder / "000.png", folder / "copy.png")
    vitrail.index(folder)
    for command in (["search", "cat", folder], ["duplicates", folder]):
        assert run(*command, "-o", tmp_path / "sheet.png").exit_code == 0
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert min(sheet.size) > 240
        (tmp_path / "sheet.png").unlink()
        assert run(*command, "-o", tmp_path / "sheet.tiff").exit_code == 2
        assert not (tmp_path / "sheet.tiff").exists()
    done = run("search", "cat", folder, "--path", "none", "-o", tmp_path / "sheet.png")
    assert done.exit_code == 1
    assert "no contact sheet" in done.stderr


def test_duplicates(folder):
    shutil.copy(folder / "000.png", folder / "copy.png")
    vitrail.index(folder)
    done = run("duplicates", folder, "--threshold", 1, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    (group,) = lines(done.stdout)
    assert {one["path"] for one in group["pictures"]} == {str(folder / "000.png"), str(folder / "copy.png")}
    assert run("duplicates", folder, "--threshold", 1).stdout == f"{vitrail.duplicates(folder, threshold=1)}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["search", "cat", "nowhere"], 1, "cannot be read"),
        (["search", "cat", "."], 1, "vitrail index ."),
        (["duplicates", "."], 1, "vitrail index ."),
        (["index", "nowhere"], 1, "cannot be read"),
        (["index", "."], 1, "no pictures"),
        (["search"], 2, "nothing to search by"),
        (["search", "cat", ".", "--min-size", "big"], 2, "is no size"),
        (["search", "cat", ".", "--after", "soon"], 2, "is no date"),
        (["search", "cat", ".", "--count", "0"], 2, "at least 1"),
        (["duplicates", ".", "--threshold", "2"], 2, "threshold"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert said in sentence


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1500", 1500),
        ("100k", 100_000),
        ("2M", 2_000_000),
        ("1.5G", 1_500_000_000),
        ("3kB", 3000),
        ("1m", 10**6),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1 k", "1e3", "٣", "2X"])
def test_what_is_no_size(text):
    with pytest.raises(vitrail.UsageError):
        parse_size(text)


def test_tables_on_a_terminal(folder):
    """With standard output a terminal, and nothing of LanceDB's on it or on standard error."""
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "vitrail", "search", "cat", folder, "-k", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=end, stderr=subprocess.PIPE, env=environment)
    os.close(end)
    errors, shown = process.communicate()[1], b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    assert (process.returncode, errors) == (0, b"")
    assert b"rank" in shown
    assert b"pictures/00" in shown
