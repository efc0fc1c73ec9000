"""Draw scenes with what is known of them, to be looked at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.motion import Video
from vitrail.data.scenes.scene import Scene
from vitrail.imaging.draw import sheet

_COLOURS = ((205, 24, 93), (20, 90, 200), (0, 120, 60), (150, 60, 200), (200, 90, 0), (40, 40, 40))


def draw_scene(scene: Scene, edge: int = 192) -> Image.Image:
    """A scene enlarged: on the left with boxes, numbered as in `scene.objects`, on the right its masks.

    Args:
        scene: what to draw.
        edge: the height of the result in pixels.

    Returns:
        RGB of (2 * edge, edge).
    """
    picture = _boxed(scene.picture, scene.boxes, edge, numbered=True)
    colours = np.array([(236, 236, 240), *(_colour(number) for number in range(len(scene.objects)))], np.uint8)
    masks = Image.fromarray(colours[scene.owner]).resize((edge, edge), Image.Resampling.NEAREST)
    drawn = Image.new("RGB", (2 * edge, edge))
    drawn.paste(picture, (0, 0))
    drawn.paste(masks, (edge, 0))
    return drawn


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]


def _boxed(picture: np.ndarray, boxes: np.ndarray, edge: int, numbered: bool) -> Image.Image:
    """A picture of (S, S, 3) enlarged to `edge`, with its (n, 4) boxes."""
    factor = edge / picture.shape[0]
    drawn = Image.fromarray(picture).resize((edge, edge), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(drawn)
    for number, box in enumerate(boxes.tolist()):
        left, top, right, bottom = (round(side * factor) for side in box)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_colour(number), width=1 + numbered)
        if numbered:
            pen.rectangle((left, top, left + 10, top + 13), fill=_colour(number))
            pen.text((left + 6, top + 7), str(number), fill=(255, 255, 255), anchor="mm")
    return drawn


def tell_scene(scene: Scene, language: str = "en") -> str:
    """A scene in words, a line each: its objects, one of its captions, and a question with the steps to its answer."""
    dice = Dice(0, scene.index, 0)
    lines = [
        f"{number}: {one.concept.name_zh if language == 'zh' else one.concept.name_en}, {one.style}"
        for number, one in enumerate(scene.objects)
    ]
    caption = dice.pick(scene.captions)
    lines.append(f"“{caption.zh if language == 'zh' else caption.en}”")
    if scene.questions:
        question = dice.pick(scene.questions)
        wording = question.zh if language == "zh" else question.en
        lines += [f"{wording.question} {wording.answer}", " ".join(wording.steps)]
    return "\n".join(lines)


def scene_sheet(scenes: Sequence[Scene], *, edge: int = 192, title: str = "") -> Image.Image:
    """Scenes side by side, each with its words in English below.

    Args:
        scenes: at least one.
        edge: the height of each picture in pixels.
        title: a line above all.
    """
    pictures = [draw_scene(scene, edge) for scene in scenes]
    return sheet(pictures, [tell_scene(scene) for scene in scenes], text_size=12, title=title)


def video_strip(video: Video, edge: int = 128) -> Image.Image:
    """The frames of a video in a row, boxes and all, over the captions of its motions.

    Args:
        video: what to draw.
        edge: the side of each frame in pixels.
    """
    frames = [
        _boxed(picture, boxes, edge, numbered=False) for picture, boxes in zip(video.frames, video.boxes, strict=True)
    ]
    return sheet(frames, columns=len(frames), title=video.captions_en[-1])
