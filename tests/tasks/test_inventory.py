"""What `vitrail models` and `vitrail info` know."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vitrail
from tests.pictures import noise
from tests.reading import saved_tiny_clip, tiny_clip
from tests.tiny import saved_tiny_vit, tiny_vit
from vitrail import registry
from vitrail.checkpoints import files
from vitrail.tasks.inventory import count_flops, info, models


def test_everything_in_the_registry_is_listed_after_the_box():
    listed = models()
    assert listed[0].name == "efficientnet-lite0"
    assert listed[0].in_the_box
    published = {(layout.library, name) for layout in registry.layouts() for name in layout.published}
    assert {(entry.layout, entry.name) for entry in listed if not entry.in_the_box} == published
    json.dumps([entry.to_dict() for entry in listed])


def names() -> list[str]:
    """One published name of each layout, the last one."""
    return [list(layout.published)[-1] for layout in registry.layouts() if layout.published]


@pytest.mark.parametrize("name", names())
def test_published_names_need_no_network(name, monkeypatch):
    monkeypatch.setattr(files, "_fetch", lambda *_: pytest.fail("nothing may be fetched"))
    layout, entry = registry.published(name)
    about = info(name)
    assert (about.family, about.layout, about.licence, about.hub) == (
        layout.family,
        layout.library,
        entry.licence,
        entry.hub,
    )
    assert about.parameters > 1e6
    assert about.flops > about.parameters
    assert json.loads(json.dumps(about.to_dict()))["config"].keys() == asdict(entry.config).keys()
    assert str(about.parameters // 10**9 or "") in str(about)


@pytest.mark.parametrize(
    ("name", "parameters", "flops"),
    [
        # Touvron 2020, Table 5: 22M and 86M; timm's results table: 4.61 and 17.58 billion multiply-adds
        ("deit_small_patch16_224", 22.05e6, 2 * 4.61e9),
        ("google/vit-base-patch16-224", 86.57e6, 2 * 17.58e9),
    ],
)
def test_numbers_agree_with_what_is_published(name, parameters, flops):
    about = info(name)
    assert about.parameters == pytest.approx(parameters, rel=1e-3)
    assert about.flops == pytest.approx(flops, rel=0.01)
    assert about.picture_size == (224, 224)


def test_flops_by_hand():
    """32×32 pixels are 16 patches of 8×8, and with the class token 17 tokens of width 32, in two blocks."""
    tokens, width, hidden = 17, 32, 64
    patches = 16 * width * 3 * 8 * 8
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    with torch.device("meta"):
        model = tiny_vit()
    assert count_flops(model, (32, 32)) == 2 * (patches + 2 * block + width * 10)


def test_a_local_checkpoint_and_one_in_the_box(tmp_path):
    about = info(saved_tiny_vit(tmp_path))
    model = tiny_vit()
    assert about.config == model.config
    assert about.preprocess == model.preprocess
    assert about.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (about.layout, about.hub, about.picture_size) == ("vitrail", None, (32, 32))
    default = info("efficientnet-lite0")
    assert (default.family, default.licence, default.hub) == ("efficientnet", "Apache-2.0", None)
    assert default.parameters == sum(parameter.numel() for parameter in vitrail.load("efficientnet-lite0").parameters())


def test_a_file_of_a_published_name_is_meant_when_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vitrail.save(tiny_vit(), tmp_path / "vit_base_patch16_224", layout="timm")
    assert info("vit_base_patch16_224").config.width == 32


def test_an_unknown_name_is_a_sentence(tmp_path):
    noise(4, 4).save(tmp_path / "x.png")
    for name in ("nothing-of-the-kind", str(tmp_path)):
        with pytest.raises(vitrail.CheckpointError):
            info(name)


def test_a_network_that_reads_texts(tmp_path):
    about = info(saved_tiny_clip(tmp_path))
    network = tiny_clip()
    assert about.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert about.picture_size == (32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta").encode_image(torch.zeros(1, 3, 32, 32, device="meta"))
    assert about.flops == counter.get_total_flops()
    assert about.to_dict()["config"]["text"]["context"] == 12
    assert "\n  text.context " in str(about)
