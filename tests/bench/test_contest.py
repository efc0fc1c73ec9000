"""Contenders side by side: what becomes of one that fails, dies, differs or is interrupted."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from vitrail.bench.contender import Contender, Ready
from vitrail.bench.contest import Contest, Result, Row, Work
from vitrail.bench.measure import bench
from vitrail.bench.ours import every_engine
from vitrail.errors import UsageError, VitrailError


@pytest.fixture(autouse=True)
def a_turn_is_one_call(monkeypatch):
    """Of those in a thread of ours: a process has its own mind."""
    monkeypatch.setattr("vitrail.engines.timing.LEAST", 0.0)


def right() -> Ready:
    return Ready(lambda: sum(range(20_000)) * 0 + 1.0)


def ours() -> Ready:
    return Ready(lambda: [1.0002][0], engine="packed float32")


def rounded() -> Ready:
    return Ready(lambda: 1.1, engine="packed bfloat16")


def wrong() -> Ready:
    return Ready(lambda: 2.0)


def misshapen() -> Ready:
    return Ready(lambda: [1.0, 1.0])


def dying() -> Ready:
    os._exit(3)


def missing() -> Ready:
    import a_library_nobody_has  # noqa: F401


def refusing() -> Ready:
    raise VitrailError("it takes no pictures")


def breaking() -> Ready:
    raise RuntimeError("a long story\nof many lines")


def failing_later() -> Ready:
    calls = iter([1.0, 1.0])
    return Ready(lambda: next(calls))


def run(work: Work, **how) -> Result:
    contest = Contest(work, "this machine", **{"rounds": 3, "start": threading.Thread, **how})
    contest.run()
    return contest.result()


def work(*makes, references=(right,), **how) -> Work:
    return Work(
        "adding",
        tuple(Contender(make.__name__, make) for make in makes),
        tuple(Contender(make.__name__, make) for make in references),
        **how,
    )


def test_ratios_differences_and_fractions():
    result = run(work(ours, rounded, amount=1e6))
    reference, exact, rough = result.rows
    assert [row.contender for row in result.rows] == ["right", "ours", "rounded"]
    assert reference.ratios == {}
    assert exact.ratios["right"] > 1  # it adds nothing up
    assert reference.seconds > exact.seconds
    assert exact.difference == pytest.approx(2e-4, rel=1e-3)
    assert rough.difference == pytest.approx(0.1, rel=1e-3)  # too much for float32, not for bfloat16
    assert rough.error is None
    assert all(row.fraction > 0 for row in result.rows)


def test_one_that_fails_is_a_row_that_says_why():
    result = run(work(missing, refusing, breaking, wrong, misshapen, failing_later, ours))
    errors = {row.contender: row.error for row in result.rows}
    assert errors["missing"] == "a_library_nobody_has is not installed: pip install a_library_nobody_has"
    assert errors["refusing"] == "it takes no pictures"
    assert errors["breaking"] == "RuntimeError: a long story"
    assert errors["wrong"].startswith("its numbers differ from those of right by 1 of the largest")
    assert "shape (2,)" in errors["misshapen"]
    assert "StopIteration" in errors["failing_later"]
    assert errors["ours"] is None
    assert errors["right"] is None
    assert all(text in str(result) for text in ("refusing: it takes no pictures", "× right"))


def test_without_another_library_ours_are_compared_with_the_first_of_ours():
    result = run(work(refusing, right, ours, references=(missing,)))
    assert [row.contender for row in result.rows] == ["right", "missing", "refusing", "ours"]
    assert set(result.rows[-1].ratios) == {"right"}


def test_one_alone():
    for makes, references in (((ours,), ()), ((refusing,), (ours,))):
        row = run(work(*makes, references=references)).rows[0]
        assert row.contender == "ours"
        assert row.seconds > 0
        assert row.ratios == {}


def test_none_at_all():
    result = run(work(refusing, references=(missing,)))
    assert [row.seconds for row in result.rows] == [None, None]
    assert "not installed" in str(result)


def test_what_was_done_before_an_interruption_is_kept():
    def progress(what: str, done: int, total: int) -> None:
        assert total == 6
        if done == 5:
            raise KeyboardInterrupt

    contest = Contest(work(ours, rounded), "this machine", rounds=3, start=threading.Thread, progress=progress)
    with pytest.raises(KeyboardInterrupt):
        contest.run()
    rows = {row.contender: row for row in contest.result().rows}
    assert set(rows) == {"right", "ours", "rounded"}
    assert rows["rounded"].ratios["right"] > 0


def test_processes_die_alone_and_say_how_much_they_held():
    result = run(work(dying, ours), rounds=1, start=None)
    reference, dead, alive = result.rows
    assert dead.error == "its process ended (exit code 3)"
    assert alive.error is None
    assert min(reference.peak, alive.peak) > 50 * 2**20  # torch alone is more
    assert "MiB" in str(result)


def test_one_that_is_interrupted_in_its_turn_is_not_waited_for():
    calls, finished, go_on = [], [], threading.Event()

    def call() -> float:
        calls.append(1)
        if len(calls) == 3:
            time.sleep(1)  # until its turn is waited for: a signal just before that is seen when the turn is over
            os.kill(os.getpid(), signal.SIGINT)
            go_on.wait(60)
            finished.append(1)
        return 1.0

    contest = Contest(Work("x", (Contender("x", lambda: Ready(call)),)), "m", rounds=9, start=threading.Thread)
    with pytest.raises(KeyboardInterrupt):
        contest.run()
    assert not finished
    go_on.set()
    [row] = contest.result().rows
    assert row.seconds > 0


def test_what_is_subtracted_and_divided():
    turns = []
    ready = Ready(lambda: turns.append("call") or 1.0, less=lambda: turns.append("less"), parts=4)
    run(Work("x", (Contender("x", lambda: ready),)), rounds=2)
    assert turns.count("call") == turns.count("less") > 0


def test_a_result_in_json():
    row = Row("vitrail auto", "packed bfloat16", 0.25, {"timm": 2.0}, 0.01, 0.9, 2**20)
    result = Result("a picture", "this machine", "wall", 3, "products", (row,))
    said = result.to_dict()
    assert said["rows"][0]["ratios"] == {"timm": 2.0}
    assert said["clock"] == "wall"
    assert "vitrail auto (packed bfloat16)" in str(result)
    assert np.isfinite(said["rows"][0]["seconds"])


@pytest.mark.parametrize(
    ("families", "how", "sentence"),
    [
        (["nonsense"], {}, "nothing called 'nonsense'.*vit, efficientnet-lite"),
        (["vit"], {"engines": ["warp"]}, "no engine 'warp'"),
        (["vit"], {"engines": ["packed:int8"]}, "not in 'int8'"),
        (["vit"], {"clock": "cuckoo"}, "no clock 'cuckoo'"),
        (["vit"], {"rounds": 0}, "at least 1 round"),
        (["vit"], {"threads": 0}, "at least 1 round and 1 thread"),
    ],
)
def test_what_cannot_be_measured(families, how, sentence):
    with pytest.raises(UsageError, match=sentence):
        bench(families, **how)


def test_every_engine_is_compared_and_eager_first():
    engines = every_engine()
    assert engines[0] == "eager"
    assert engines[-1] == "auto"
    assert {"packed", "packed:bfloat16", "openvino"} <= set(engines)
    assert {"compile", "openvino:int8"}.isdisjoint(engines)  # they take minutes
    assert set(every_engine(["packed"])) == {"packed", "packed:bfloat16", "auto"}
