"""One Perceiver for pictures, films and sounds."""

from pathlib import Path

import pytest
import torch

import vitrail
from vitrail.data.source import scaling
from vitrail.errors import UsageError
from vitrail.models.perceiver import LatentsConfig
from vitrail.models.perceiver_senses import PerceiverSenses, PerceiverSensesConfig


def network(**changes) -> PerceiverSenses:
    torch.manual_seed(0)
    latents = LatentsConfig(count=6, width=16, depth=1, repeats=1, heads=2, attend_in="queries")
    small = {
        "image_size": 12,
        "frames": 4,
        "patch_frames": 2,
        "samples": 64,
        "samples_per_patch": 16,
        "bands": 3,
        "sound_bands": 4,
        "element_width": 12,
    }
    return PerceiverSenses(PerceiverSensesConfig(**{**small, "latents": latents, "classes": 5, **changes})).eval()


IMAGES, VIDEOS, SOUNDS = torch.randn(2, 3, 12, 12), torch.randn(2, 3, 4, 12, 12), torch.randn(2, 64).clamp(-1, 1)


@torch.no_grad()
def test_it_takes_each_sense_and_several_at_once():
    model = network()
    every = [model(IMAGES), model(videos=VIDEOS), model(sounds=SOUNDS), model(IMAGES, videos=VIDEOS, sounds=SOUNDS)]
    assert all(logits.shape == (2, 5) and logits.isfinite().all() for logits in every)
    assert all(not torch.allclose(one, every[3]) for one in every[:3])
    assert model.features(sounds=SOUNDS).shape == (2, 6, 16)
    assert network(classes=0)(IMAGES).shape == (2, 16)


@torch.no_grad()
def test_a_batch_is_what_its_items_are_one_by_one():
    model = network()
    torch.testing.assert_close(model(videos=VIDEOS)[1:], model(videos=VIDEOS[1:]))
    torch.testing.assert_close(model(sounds=SOUNDS)[1:], model(sounds=SOUNDS[1:]))


@torch.no_grad()
def test_patches_are_cut_in_rows_and_in_time():
    model = network()
    model.see = torch.nn.Identity()  # type: ignore[assignment]
    model.hear = torch.nn.Identity()  # type: ignore[assignment]
    patches = model._see(VIDEOS)
    assert patches.shape == (2, 3 * 2 * 16, 2, 3, 3)
    assert torch.equal(patches[1, :, 1, 0, 2], VIDEOS[1, :, 2:4, 0:4, 8:12].flatten())
    assert torch.equal(model._hear(SOUNDS)[1, :, 2], SOUNDS[1, 32:48])


@torch.no_grad()
def test_it_tells_when_from_when_and_a_picture_from_a_film_of_it():
    model = network()
    assert not torch.allclose(model(videos=VIDEOS), model(videos=VIDEOS.flip(2)))
    assert not torch.allclose(model(sounds=SOUNDS), model(sounds=SOUNDS.flip(1)))
    assert not torch.allclose(model(IMAGES), model(videos=IMAGES[:, :, None].expand(-1, -1, 2, -1, -1)))


@torch.no_grad()
def test_other_sizes_and_lengths_are_taken():
    model = network()
    assert model(torch.randn(1, 3, 16, 20)).shape == (1, 5)
    assert model(videos=torch.randn(1, 3, 8, 12, 12)).shape == (1, 5)
    assert model(sounds=torch.randn(1, 160)).shape == (1, 5)


@torch.no_grad()
def test_it_is_saved_and_loaded(tmp_path: Path):
    model = network()
    model.preprocess, model.labels = scaling((12, 12)), ("a", "b", "c", "d", "e")
    vitrail.save(model, tmp_path / "model.safetensors", layout="vitrail")
    again = vitrail.load(str(tmp_path / "model.safetensors"))
    assert again.config == model.config
    assert again.labels == model.labels
    torch.testing.assert_close(again(IMAGES), model(IMAGES))
    torch.testing.assert_close(again(videos=VIDEOS), model(videos=VIDEOS))
    torch.testing.assert_close(again(sounds=SOUNDS), model(sounds=SOUNDS))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "takes pictures, films or sounds"),
        ({"images": IMAGES, "sounds": SOUNDS[:1]}, "as many of each"),
        ({"videos": VIDEOS[:, :, :3]}, "3 frames"),
        ({"images": torch.zeros(1, 1, 12, 12)}, "1 channels"),
        ({"sounds": SOUNDS[:, :50]}, "a multiple of 16 samples"),
        ({"sounds": SOUNDS[:, None]}, "a multiple of 16 samples"),
    ],
)
def test_what_it_cannot_take_is_refused(given: dict, said: str):
    with pytest.raises(UsageError, match=said):
        network()(**given)
