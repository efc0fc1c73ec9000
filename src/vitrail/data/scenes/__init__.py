"""Scenes: an endless, deterministic, annotated world of pictures, made of glyphs as it is looked at."""

from vitrail.data.scenes.captions import Caption
from vitrail.data.scenes.dataset import Scenes
from vitrail.data.scenes.draw import draw_scene, scene_sheet, video_strip
from vitrail.data.scenes.motion import Motion, Video
from vitrail.data.scenes.objects import SceneObject
from vitrail.data.scenes.programs import Step, run, trace
from vitrail.data.scenes.questions import Question, Wording
from vitrail.data.scenes.scene import Scene

__all__ = [
    "Caption",
    "Motion",
    "Question",
    "Scene",
    "SceneObject",
    "Scenes",
    "Step",
    "Video",
    "Wording",
    "draw_scene",
    "run",
    "scene_sheet",
    "trace",
    "video_strip",
]
