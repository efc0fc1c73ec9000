import numpy as np

from vitrail.data.scenes import Scenes, draw_scene, scene_sheet, video_strip
from vitrail.data.scenes.draw import tell_scene


def test_a_drawn_scene_has_its_boxes_and_masks(many):
    scene = many[0]
    drawn = np.asarray(draw_scene(scene, edge=128))
    assert drawn.shape == (128, 256, 3)
    masks = drawn[1::2, 129::2]  # each pixel of the scene is two by two here
    colours = {tuple(colour) for colour in masks.reshape(-1, 3).tolist()}
    assert len(colours) == len(scene.objects) + 1
    np.testing.assert_array_equal((masks == masks[0, 0]).all(axis=-1), scene.owner == scene.owner[0, 0])
    left, top, right, _ = scene.boxes[0] * 2
    assert len(np.unique(drawn[top + 1, left + 16 : right - 1].reshape(-1, 3), axis=0)) >= 1


def test_a_scene_told_names_its_objects_and_an_answer(many):
    for scene in many[:20]:
        told = tell_scene(scene)
        assert all(one.concept.name_en in told for one in scene.objects)
        assert any(question.en.question in told for question in scene.questions)
        assert any(caption.zh in tell_scene(scene, "zh") for caption in scene.captions)


def test_sheets_hold_every_scene_and_every_frame(glyphs, many):
    one, four = scene_sheet(many[:1], edge=96), scene_sheet(many[:4], edge=96)
    assert four.width > 2 * 192 > one.width > 192
    assert video_strip(Scenes(glyphs).video(0, 6), edge=64).width > 6 * 64
