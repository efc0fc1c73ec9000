"""Every benchmark, at a tiny size through the code that measures the published one: all run, and say the same."""

import threading
from dataclasses import replace

import pytest

from vitrail.bench import clip, efficientnet_lite, git, imagine, start, train, unet, vit
from vitrail.bench.contest import Contest
from vitrail.models.clip import CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.ddpm import DDPMConfig
from vitrail.models.git import GITConfig
from vitrail.models.unet import UNetConfig
from vitrail.models.vit import ViTConfig

ENGINES = ("eager", "packed")
VIT = ViTConfig(image_size=32, patch_size=8, width=64, depth=2, heads=2, mlp_width=128, classes=7)
TOWER = CLIPImageConfig(image_size=32, patch_size=8, width=64, depth=2, heads=2, mlp_width=128, antialias=True)
CLIP = CLIPConfig(TOWER, CLIPTextConfig(vocabulary=64, context=8, width=32, depth=1, heads=2, mlp_width=64), width=16)
GIT = GITConfig(replace(TOWER, antialias=False), vocabulary=128, context=64, width=64, depth=2, heads=2, mlp_width=128)
UNET = UNetConfig(
    widths=(32, 64),
    depths=(1, 1),
    transformer_depths=(1, 0),
    heads=(2, 2),
    context_width=16,
    groups=8,
)
DDPM = DDPMConfig(image_size=16, widths=(32, 64), depth=1, attention=(False, True), groups=8)

FAMILIES = {
    "vit": lambda folder: vit.works(folder, ENGINES, VIT, (2,)),
    "efficientnet-lite": lambda folder: efficientnet_lite.works(folder, ENGINES, ((64, 48),)),
    "clip": lambda folder: clip.works(folder, ENGINES, CLIP, ((40, 30),), 3),
    "git": lambda folder: git.works(folder, ENGINES, GIT, 3),
    "unet": lambda folder: unet.works(folder, ENGINES, UNET, 8),
    "imagine": lambda folder: imagine.works(folder, ENGINES, 1),
    "train": lambda folder: train.works(folder, ENGINES, VIT, DDPM, (2, 2)),
}


def contest(work, **how):
    """Run in threads: what another process would do, without the time it takes to start."""
    running = Contest(work, "this machine", rounds=1, start=threading.Thread, **how)
    running.run()
    return running.result()


@pytest.mark.parametrize("family", FAMILIES)
def test_all_run_and_give_the_same_numbers(family, tmp_path):
    works = FAMILIES[family](tmp_path)
    assert works
    for work in works:
        result = contest(work)
        names = [contender.name for contender in (*work.references, *work.ours)]
        assert sorted(row.contender for row in result.rows) == sorted(names)
        for row in result.rows:
            assert row.error is None
            assert row.seconds > 0
            first = row.contender == result.rows[0].contender
            assert (row.difference is None) == first
            if row.contender.startswith("vitrail") and not first:
                assert result.rows[0].contender in row.ratios
                assert all(ratio > 0 for ratio in row.ratios.values())
            assert (row.fraction is None) == (work.amount is None)


def test_a_start(tmp_path):
    """Once each, for they take long."""
    [work, box] = start.works(tmp_path, ("packed",), VIT)
    [theirs], [ours] = work.references, work.ours
    ready = ours.make()
    assert ready.engine == "packed float32"
    assert ready.call() == pytest.approx(theirs.make().call(), rel=1e-4)
    assert box.references == ()
