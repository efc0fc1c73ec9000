"""Scores from what was taken for what, and the picture of it."""

import numpy as np
import pytest

from vitrail.tasks.confusion import (
    MOST_DRAWN,
    Share,
    class_scores,
    count_confusions,
    draw_confusion,
    most_mistaken,
)


def test_wilsons_interval():
    share = Share.of(8, 10)  # by hand: (0.8 + 0.19207) / 1.38415 ± 1.95996 √(0.016 + 0.0096037) / 1.38415
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.49016, 0.94331), abs=1e-4)
    assert Share.of(0, 5).low == 0
    assert Share.of(5, 5).high == 1
    assert Share.of(5, 5).low > 0.5


def test_scores_follow_their_definitions():
    random = np.random.default_rng(0)
    targets, said = random.integers(0, 4, 200), random.integers(0, 4, 200)
    scores = class_scores(count_confusions(targets, said, 4), "abcd")
    for number, score in enumerate(scores):
        hits = ((targets == number) & (said == number)).sum()
        assert score.pictures == (targets == number).sum()
        assert score.precision == pytest.approx(hits / (said == number).sum())
        assert score.recall == pytest.approx(hits / (targets == number).sum())
        assert score.f1 == pytest.approx(2 / (1 / score.precision + 1 / score.recall))


def test_classes_that_never_occur():
    absent, missed, right = class_scores(count_confusions(np.array([1, 1, 2]), np.array([2, 2, 2]), 3), "abc")
    assert (absent.pictures, absent.precision, absent.recall, absent.f1) == (0, None, None, None)
    assert (missed.precision, missed.recall, missed.f1) == (None, 0, 0)
    assert (right.precision, right.recall, right.f1) == pytest.approx((1 / 3, 1, 0.5))


@pytest.mark.parametrize("classes", [2, 7, 30, 100])
def test_a_matrix_is_drawn_with_right_and_wrong_apart(classes):
    confusion = np.eye(classes, dtype=int) * 3
    confusion[0, 1] = 3
    drawn = draw_confusion(confusion, [f"class {number}" for number in range(classes)])
    cell = max(12, min(96, 1400 // classes))
    top = drawn.width - 8 - classes * cell
    corner = [drawn.getpixel((top + column * cell + 1, top + 1)) for column in (0, 1, classes - 1)]
    assert drawn.mode == "RGB"
    assert drawn.width == drawn.height < 2000
    assert corner[0][2] > corner[0][1] + 40  # violet
    assert corner[1][0] > corner[1][2] + 20  # red
    assert len(set(corner)) == min(3, classes)


def test_of_very_many_classes_the_worst_are_drawn():
    confusion = np.eye(300, dtype=int) * 5
    confusion[250, 260] = 2
    assert {250, 260} <= set(most_mistaken(confusion))
    assert len(most_mistaken(confusion)) == MOST_DRAWN
    assert draw_confusion(confusion, [str(number) for number in range(300)]).width < 2000


def test_names_in_any_script_and_of_any_length():
    drawn = draw_confusion(np.eye(3, dtype=int), ["苹果", "a" * 500, ""])
    assert drawn.width < 1000
