"""`vitrail bench` as it is typed."""

import json

import pytest
from typer.testing import CliRunner

from tests.bench.test_contest import ours, work
from vitrail.bench import imagine
from vitrail.cli import app


@pytest.fixture(autouse=True)
def _something_small(monkeypatch):
    monkeypatch.setattr(imagine, "works", lambda folder, engines: [work(ours)])


def typed(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_a_table_and_a_file(tmp_path):
    done = typed("imagine", "--rounds", 2, "--threads", 1, "-o", tmp_path / "results.json")
    assert done.exit_code == 0, done.output
    machine, _, title, header, reference, mine = done.stdout.splitlines()
    assert "1 thread, Python" in machine
    assert title == "adding, wall time"
    assert header.split() == ["time", "×", "right", "difference", "memory"]
    assert reference.startswith("right")
    assert mine.startswith("ours")
    [line] = (tmp_path / "results.json").read_text().splitlines()
    assert [row["contender"] for row in json.loads(line)["rows"]] == ["right", "ours"]


def test_json_and_nothing_else():
    done = typed("imagine", "--rounds", 1, "--json")
    [line] = done.stdout.splitlines()
    assert json.loads(line)["rows"][1]["ratios"]["right"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "nothing called 'nonsense'"),
        (["imagine", "--engine", "warp"], "no engine 'warp'"),
        (["imagine", "--clock", "cuckoo"], "no clock 'cuckoo'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_measured(arguments, sentence):
    done = typed(*arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert done.stdout == ""


def test_a_file_that_cannot_be_written(tmp_path):
    done = typed("imagine", "-o", tmp_path / "nowhere" / "results.json")
    assert done.exit_code == 1
    assert "nowhere" in done.stderr
