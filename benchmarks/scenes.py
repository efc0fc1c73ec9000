"""How many scenes a second one core makes, part by part: `OMP_NUM_THREADS=1 python benchmarks/scenes.py`.

The glyphs are generated, so that anyone gets a number at once; `--glyphs FOLDER` takes a built Emoji World. Each
part is timed by itself on the same scenes; "all but questions" is what detection, segmentation and captioning train on.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from machine import describe

from vitrail.data.emoji.load import load_glyphs
from vitrail.data.generated import generate_glyphs
from vitrail.data.scenes import Scene, Scenes

PARTS: dict[str, Callable[[Scene], object]] = {
    "picture": lambda scene: scene.picture,
    "boxes": lambda scene: scene.boxes,
    "masks": lambda scene: scene.masks,
    "label map": lambda scene: scene.label_map,
    "captions": lambda scene: scene.captions,
    "questions": lambda scene: scene.questions,
}


def each(part: Callable[[Scene], object], scenes: list[Scene]) -> None:
    for scene in scenes:
        part(scene)


def seconds(make: Callable[[], object]) -> float:
    start = time.process_time()
    make()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glyphs", type=Path, help="a built Emoji World; generated glyphs without it")
    parser.add_argument("--size", type=int, default=64, help="pixels on a side")
    parser.add_argument("--scenes", type=int, default=1000, help="how many are made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="any")
    options = parser.parse_args()
    glyphs = load_glyphs(options.glyphs) if options.glyphs else generate_glyphs(200, size=64)
    scenes = Scenes(glyphs, size=options.size, seed=options.seed, split=options.split, length=options.scenes)
    print(f"{describe()}, numpy {np.__version__}, Pillow {PIL.__version__}")
    source = options.glyphs.name if options.glyphs else "generated"
    print(f"{len(scenes)} scenes of {options.size} pixels, seed {options.seed}, split {options.split}, {source} glyphs")
    made: list[Scene] = []
    taken = {"what and where": seconds(lambda: made.extend(scenes))}
    for name, part in PARTS.items():
        taken[name] = seconds(partial(each, part, made))
    taken["all but questions"] = sum(taken.values()) - taken["questions"]
    taken["everything"] = taken["all but questions"] + taken["questions"]
    videos = max(1, options.scenes // 10)
    taken["videos of 8 frames"] = (
        seconds(lambda: [scenes.video(index) for index in range(videos)]) * len(scenes) / videos
    )
    for name, spent in taken.items():
        print(f"{name:>20}  {len(scenes) / spent:10,.0f} a second a core  {spent / len(scenes) * 1e3:7.3f} ms")


if __name__ == "__main__":
    main()
