"""LoRAs that pictures are made with: put in, said in the recipe, taken out again."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import vitrail
from tests.models.test_generator import texts
from tests.painter import painter
from vitrail.engines import prepare
from vitrail.tasks.generate import make_again
from vitrail.tasks.recipe import read_recipe

BLOCK = "unet.down_blocks.0.attentions.0.transformer_blocks.0"


@pytest.fixture
def files(tmp_path):
    """Two LoRAs of the UNet's attention, so strong that they show."""
    made = []
    for seed, name in enumerate(("ink", "oil")):
        torch.manual_seed(seed)
        path = tmp_path / f"{name}.safetensors"
        layers = [f"{BLOCK}.{attention}.to_{what}" for attention in ("attn1", "attn2") for what in ("q", "v")]
        down = {f"{layer}.lora_A.weight": torch.randn(2, 16) for layer in layers}
        save_file({**down, **{f"{layer}.lora_B.weight": torch.randn(16, 2) for layer in layers}}, path)
        made.append(path)
    return made


def by_hand(model, *added):
    """The picture of a network whose LoRAs were put in one by one, and are out again."""
    loras = [vitrail.apply_lora(model, file, strength) for file, strength in added]
    picture = model.generate("abc", seed=3, num_steps=3)[0]
    for lora in reversed(loras):
        lora.remove()
    return picture


def test_they_are_for_these_pictures_alone(files):
    model = texts()
    plain = vitrail.generate("abc", model=model, seed=3, num_steps=3)
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    ink = vitrail.generate("abc", model=model, seed=3, num_steps=3, lora=files[0])
    both = vitrail.generate("abc", model=model, seed=3, num_steps=3, lora={files[0]: 1, str(files[1]): -0.5})
    assert ink.image.tobytes() == by_hand(model, (files[0], 1)).tobytes() != plain.image.tobytes()
    assert both.image.tobytes() == by_hand(model, (files[0], 1), (files[1], -0.5)).tobytes() != ink.image.tobytes()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())
    assert [(lora.file, lora.strength) for lora in both.recipe.loras] == [(str(files[0]), 1.0), (str(files[1]), -0.5)]
    assert ink.recipe.weights == plain.recipe.weights
    assert "loras" not in plain.recipe.to_dict()
    assert json.loads(json.dumps(both.to_dict()))["pictures"][0]["loras"][1]["strength"] == -0.5


def test_one_after_the_other_on_packed_weights(files):
    """Memory that the first LoRA's weights had may be the second's: what was packed of it must not stand for it."""
    eager, packed = texts(), texts()
    packed.load_state_dict(eager.state_dict())
    prepare(packed, "packed")
    for _ in range(3):
        for file in files:
            expected = vitrail.generate("abc", model=eager, seed=3, num_steps=3, lora=file).image
            found = vitrail.generate("abc", model=packed, seed=3, num_steps=3, lora=file).image
            assert far(found, expected) <= 1


def far(one, other):
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


def test_the_recipe_brings_them_back(files, tmp_path):
    model = texts()
    made = vitrail.generate("abc", model=model, seed=3, num_steps=3, lora={files[1]: 0.7}).pictures[0]
    made.save(tmp_path / "made.png")
    recipe = read_recipe(tmp_path / "made.png")
    assert recipe == made.recipe
    assert recipe.differences(model) == []
    assert make_again(recipe, model).image.tobytes() == made.image.tobytes()
    files[1].write_bytes(files[0].read_bytes())
    assert recipe.differences(model) == [f"the LoRA {files[1]} is not the file it was made with"]
    files[1].unlink()
    assert recipe.differences(model) == [f"there is no LoRA file {files[1]}"]


def test_every_verb_takes_them(files):
    model, grey = texts(), Image.new("RGB", (16, 16), "grey")
    how = {"model": model, "seed": 3, "num_steps": 3, "lora": files[0]}
    made = vitrail.generate("abc", **how)
    assert vitrail.trace("abc", grid=2, levels=1, **how).made.image.tobytes() == made.image.tobytes()
    way = vitrail.morph("abc", "cba", frames=2, **how)
    assert way.frames[0].tobytes() == made.image.tobytes()
    assert way.recipe.loras == made.recipe.loras
    edited = vitrail.edit(grey, "abc", **how)
    assert edited.recipe.loras == made.recipe.loras
    del how["lora"]
    assert edited.image.tobytes() != vitrail.edit(grey, "abc", **how).image.tobytes()
    assert made.image.tobytes() != vitrail.generate("abc", **how).image.tobytes()


def test_what_cannot_be_added(files, tmp_path):
    with pytest.raises(vitrail.CheckpointError, match=r"there is no LoRA file none\.safetensors"):
        vitrail.generate("abc", model=texts(), lora="none.safetensors")
    with pytest.raises(vitrail.CheckpointError, match="is a folder: name the LoRA file in it"):
        vitrail.edit("none.jpg", "abc", model=texts(), lora=tmp_path)
    with pytest.raises(vitrail.UsageError, match="the strength of a LoRA is a number, not nan"):
        vitrail.morph("abc", "b", model=texts(), lora={files[0]: float("nan")})
    with pytest.raises(vitrail.UsageError, match="not to networks of the family painter"):
        vitrail.generate("disc", model=painter(), lora=files[0])
    files[0].write_bytes(b"nothing")
    model = texts()
    before = {name: tensor.clone() for name, tensor in model.weights().items()}
    with pytest.raises(vitrail.CheckpointError, match="is not a whole safetensors file"):
        vitrail.trace("abc", model=model, num_steps=2, lora={files[1]: 1.0, files[0]: 1.0})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())
