"""Videos: what the captions say of a motion is what the boxes do."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.data.scenes import Scenes, Video
from vitrail.data.scenes.motion import MOTIONS, Motion
from vitrail.errors import UsageError


@pytest.fixture(scope="module")
def videos(glyphs) -> list[Video]:
    scenes = Scenes(glyphs, length=200, seed=4, overlap=0.0)
    return [scenes.video(index, 9) for index in range(len(scenes))]


def tracks(videos, kind):
    """The boxes (9, 4) of every object of a kind of motion; nothing hides any of it."""
    return [
        video.boxes[:, number].astype(float)
        for video in videos
        for number, motion in enumerate(video.motions)
        if motion.kind == kind
    ]


def middles(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_every_motion_is_seen(videos):
    assert {motion.kind for video in videos for motion in video.motions} == set(MOTIONS)


@pytest.mark.parametrize(("kind", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("down", 1, 1), ("up", 1, -1)])
def test_moves_go_where_they_are_said_to(videos, kind, axis, sign):
    for boxes in tracks(videos, kind):
        steps = np.diff(middles(boxes), axis=0)
        assert (sign * steps[:, axis] > 0).all()
        assert np.abs(steps[:, 1 - axis]).max() <= 1
        assert 0.22 * 64 <= abs(steps[:, axis].sum()) <= 0.53 * 64


def test_a_bounce_goes_up_and_down_twice(videos):
    for boxes in tracks(videos, "bounce"):
        height = middles(boxes)[0, 1] - middles(boxes)[:, 1]
        assert height[[0, 4, 8]].tolist() == pytest.approx([0, 0, 0], abs=1)
        assert height[[2, 6]].min() > 0.18 * 64


def test_growth_and_shrinking(videos):
    for kind, ratio in (("grow", 1), ("shrink", -1)):
        for boxes in tracks(videos, kind):
            longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
            assert (ratio * np.diff(longer) >= -1).all()
            assert 1.2 < (longer[-1] / longer[0]) ** ratio < 2.5  # 1.5 to 2 as drawn, in whole pixels
            assert np.abs(middles(boxes) - middles(boxes)[0]).max() <= 2


def test_what_is_still_does_not_change(videos):
    for boxes in tracks(videos, "still"):
        assert (boxes == boxes[0]).all()


def test_what_turns_stays_and_changes_its_pixels(videos):
    found = 0
    for video in videos:
        kinds = [motion.kind for motion in video.motions]
        if len(kinds) == 1 and "clockwise" in kinds[0]:
            found += 1
            assert (video.frames[0] != video.frames[-1]).any(axis=-1).sum() > 20
            assert np.abs(middles(video.boxes[:, 0]) - middles(video.boxes[:, 0])[0]).max() <= 2
    assert found > 5


def test_clockwise_is_as_a_clock_turns():
    glyph = np.zeros((64, 64, 4), np.uint8)
    glyph[8:24, 8:56] = 255  # a bar along the top, with a foot at its left end
    glyph[24:56, 8:20] = 255
    turned = Motion("clockwise", 0.25).sprites(glyph, 64, 4)[-1].mask
    assert turned[:, -12:].mean() > 0.9  # the top is now on the right
    assert turned[:10].mean() > 0.9  # and what was on the left is at the top
    back = Motion("counter-clockwise", 0.25).sprites(glyph, 64, 4)[-1].mask
    assert back[:, :12].mean() > 0.9


def test_captions_name_each_object_and_its_motion(videos):
    verbs = {"right": "to the right", "bounce": "bounces", "grow": "grows", "still": "stays still", "up": "moves up"}
    for video in videos:
        assert len(video.captions_en) == len(video.captions_zh) == len(video.objects) + (len(video.objects) > 1)
        for one, motion, english, chinese in zip(
            video.objects, video.motions, video.captions_en, video.captions_zh, strict=False
        ):
            assert one.concept.name_en in english
            assert one.concept.name_zh in chinese
            assert verbs.get(motion.kind, "") in english
            assert english in video.captions_en[-1]


def test_a_video_is_a_function_of_its_number(glyphs):
    first, again = Scenes(glyphs, seed=9), Scenes(glyphs, seed=9)
    again.video(3), again[5].questions
    np.testing.assert_array_equal(first.video(5).frames, again.video(5).frames)
    assert first.video(5).captions_en == again.video(5).captions_en
    assert (first.video(4).frames != first.video(5).frames).any()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(24, 96), frames=st.integers(4, 20), index=st.integers(0, 99))
def test_boxes_stay_inside_for_any_size_and_length(glyphs, size, frames, index):
    video = Scenes(glyphs, length=100, size=size).video(index, frames)
    assert video.frames.shape == (frames, size, size, 3)
    assert video.frames.dtype == np.uint8
    assert video.boxes.shape == (frames, len(video.objects), 4)
    assert (video.boxes[..., :2] >= 0).all()
    assert (video.boxes[..., 2:] <= size).all()
    assert (video.boxes[..., :2] < video.boxes[..., 2:]).all()


def test_too_few_frames_are_refused(glyphs):
    with pytest.raises(UsageError, match="at least 4 frames"):
        Scenes(glyphs).video(0, 3)
