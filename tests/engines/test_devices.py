"""Every family runs where its weights are: none of its tensors is made on the CPU and met by one that is not there.

On a GPU that is pretended (`tests.pretend`), and compared with what the processor says.
"""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import vitrail
from tests import pipelines
from tests.engines.test_exported import NETWORKS as SEEING
from tests.models import test_flamingo as flamingo
from tests.models.test_git import SMALL as GIT_SMALL
from tests.models.test_git import VIDEO as GIT_VIDEO
from tests.models.test_git import network as git
from tests.models.test_gpt2 import small as gpt2
from tests.models.test_latent_diffusion import tiny as latent_diffusion
from tests.models.test_llama import small as llama
from tests.models.test_lsgm import lively as lsgm
from tests.models.test_perceiver import classifier as perceiver
from tests.models.test_perceiver import flow_network, multimodal
from tests.models.test_perceiver_senses import network as senses
from tests.models.test_unet import XL, unet
from tests.models.test_vqa import shaken as vqa
from tests.pictures import EXAMPLES
from tests.pretend import GPU, pretended_gpu
from tests.smol import smol
from tests.talkers import tiny_talker
from vitrail.diffusion.denoiser import rows
from vitrail.diffusion.samplers import SAMPLERS
from vitrail.diffusion.schedules import karras
from vitrail.engines import prepare
from vitrail.models.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoder, CLIPTextEncoderConfig
from vitrail.models.ddpm import DDPM, DDPMConfig
from vitrail.models.dit import DiT, DiTConfig
from vitrail.models.generator import Generator
from vitrail.models.image_text import ImageText
from vitrail.models.language_model import LanguageModel
from vitrail.models.model import Model
from vitrail.models.ncsnpp import NCSNpp, NCSNppConfig
from vitrail.models.vq_autoencoder import VQAutoencoder, VQAutoencoderConfig
from vitrail.nn.attention import Attention
from vitrail.registry import FAMILIES
from vitrail.tasks.edit import Edited
from vitrail.tasks.generate import Generated
from vitrail.text.decoding import left_pad

CPU = torch.device("cpu")
CODER = {"image_size": 32, "widths": (8, 12), "depth": 1, "groups": 4}
STAGES = {"widths": (16, 32), "depth": 1, "attention": (False, True)}

Call = Callable[[Any, torch.device], Any]
"""A network and where it is -> tensors, and what is no tensor."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small are no faster on several, which wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def counted(*shape: int, below: int) -> Tensor:
    return torch.arange(1, 1 + int(np.prod(shape))).reshape(shape) * 7 % (below - 1) + 1


def lively(network: nn.Module) -> nn.Module:
    """Every number random: a network that says nothing would hide what it lacks."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    return network.eval()


def moved(network: Any) -> Any:
    """A copy of a network on the pretended GPU."""
    return deepcopy(network).to(GPU)


def check(network: nn.Module, call: Call, tolerance: float = 1e-4) -> None:
    """What a call says of a network on the processor it says of one on the pretended GPU, in tensors that are there."""
    with torch.no_grad():
        expected = tree_leaves(call(network, CPU))
        with pretended_gpu():
            found = tree_leaves(call(moved(network), GPU))
            assert len(found) == len(expected)
            for there, here in zip(found, expected, strict=True):
                if isinstance(here, Tensor):
                    assert there.device == GPU
                    torch.testing.assert_close(there.cpu(), here, rtol=tolerance, atol=tolerance)
                else:
                    assert there == here


# Networks that see


@pytest.mark.parametrize("name", SEEING)
def test_networks_that_see(name):
    network = lively(SEEING[name]())
    side = 32 if "ResNet" in name else 16

    def seen(network: Model, place: torch.device) -> Any:
        images = drawn(2, 3, side, side).to(place)
        features = network.features(images)
        other = network.features(drawn(2, 3, 2 * side, side).to(place)) if name in ("vit", "dinov2") else None
        if not isinstance(network, ImageText):
            return features, network.pool(features), network(images), other
        ids = counted(3, 7, below=50)  # encode_text takes them to where it is, as a tokenizer gives them
        patches = network.patch_vectors(features) if name == "clip" else None
        return features, network.encode_image(images), network.encode_text(ids), network(images, ids), patches

    check(network, seen)


# Networks that write


def _git(config: Any) -> Callable[[], LanguageModel]:
    return lambda: git(config)


WRITING: dict[str, tuple[Callable[[], LanguageModel], tuple[int, ...] | None]] = {
    "gpt2": (gpt2, None),
    "llama": (llama, None),
    "git": (_git(GIT_SMALL), (2, 3, 20, 20)),
    "git, films": (_git(GIT_VIDEO), (2, 2, 3, 20, 20)),
    "vit-gpt": (tiny_talker, (2, 3, 16, 16)),
    "smolvlm": (smol, (2, 5, 3, 16, 16)),
    **{
        f"flamingo, {name}": (lambda config=config: flamingo.shaken(config), (2, 2, 3, 16, 16))
        for name, config in flamingo.CONFIGS.items()
    },
}
HOW = {
    "by the likeliest": {},
    "by beams": {"num_beams": 3},
    "drawn": {"temperature": 0.8, "top_k": 30, "top_p": 0.9, "seed": 3},
    "without repetition": {"repetition_penalty": 1.3},
}


def prompt_ids(network: LanguageModel, rows: int = 2, count: int = 6) -> Tensor:
    """Words, behind the pictures where a text says where those stand."""
    ids = counted(rows, count, below=30)
    picture = getattr(network.config, "picture", None)
    if picture is None:
        return ids
    signs = 5 * 4 if network.family == "smolvlm" else 2
    return torch.cat([torch.full((rows, signs), picture), ids], 1)


@pytest.mark.parametrize("name", WRITING)
def test_networks_that_write_read(name):
    make, shape = WRITING[name]

    def read(network: LanguageModel, place: torch.device) -> Any:
        pixels = None if shape is None else drawn(*shape).to(place)
        ids = prompt_ids(network)
        cache = network.start(pixels, 2)
        first = network.head(network.read(ids.to(place), cache))
        then = network.head(network.read(counted(2, 1, below=20).to(place), cache))
        mask = torch.ones_like(ids, dtype=torch.bool)
        mask[0, : 0 if pixels is not None else 2] = False
        return first, then, network(pixels, ids.to(place), mask.to(place))

    check(make(), read)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["llama", "git, films", "vit-gpt", "smolvlm", "flamingo, CLIP and LLaMA"])
def test_networks_that_write_write(name, how):
    make, shape = WRITING[name]

    def write(network: LanguageModel, place: torch.device) -> Tensor:
        pixels = None if shape is None else drawn(*shape).to(place)
        return network.generate(pixels, prompt_ids(network).to(place), max_new_tokens=5, **HOW[how])

    check(make(), write)


def test_what_stops_a_text_and_what_fills_it_up():
    def write(network: LanguageModel, place: torch.device) -> Any:
        ids, mask = (one.to(place) for one in left_pad([[3, 4, 5], [6]], 0))
        pixels = drawn(2, 3, 16, 16).to(place)
        whole = network.generate(pixels, ids, mask=mask, max_new_tokens=6, stop=("yes",))
        return whole, list(network.stream(pixels[:1], ids[:1], max_new_tokens=6, temperature=0.7, seed=1))

    check(tiny_talker(), write)


# Networks that make pictures


PROMPTS = {
    "stable-diffusion": "a cat",
    "stable-diffusion-xl": "a cat",
    "ddpm-pipeline": None,
    "score-sde-pipeline": None,
    "dit-pipeline": "thing 7",
    "latent-diffusion": "a red frog",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Generator]:
    """Networks that make pictures, by their families' names; diffusers' own pipelines are written once."""

    @cache
    def make(name: str) -> Generator:
        if name == "latent-diffusion":
            return latent_diffusion()
        folder = tmp_path_factory.mktemp(name)
        build = getattr(pipelines, name.removesuffix("-pipeline").replace("-", "_"))
        return vitrail.load(str(pipelines.save(build(folder), folder / "saved")), device="cpu", engine="eager")

    return make


@pytest.mark.parametrize("name", PROMPTS)
def test_networks_that_make_pictures(name, made):
    network = made(name)
    size = network.usual.size
    shape = network.latent_shape(size)

    def parts(network: Generator, place: torch.device) -> Any:
        cond = network.condition([PROMPTS[name]] * 2) if PROMPTS[name] else None
        sigma = network.sigmas(2, network.usual.sampler)[0].float().item()
        levels = torch.full((2,), sigma, device=place)
        clean = network.denoiser()(drawn(2, *shape).to(place) * sigma, levels, network.look_at(cond, size))
        picture = network.decode(drawn(1, *shape).to(place))
        return cond, clean, picture, network.encode(picture.clamp(-1, 1))

    check(network, parts, 1e-3)


@pytest.mark.parametrize("name", PROMPTS)
def test_pictures_are_those_that_the_processor_makes(name, made):
    network, prompt = made(name), PROMPTS[name]
    guidance = {"negative": "" if name == "dit-pipeline" else "on", "guidance_scale": 3.0} if prompt else {}
    same_pictures(network, prompt=prompt, num_steps=2, **guidance)
    hole = Image.new("L", network.usual.size, 0)
    hole.paste(255, (0, 0, 4, 8))
    same_pictures(network, prompt=prompt, num_steps=4, picture=picture(network.usual.size), mask=hole, strength=0.5)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "ode"])
@pytest.mark.parametrize("name", ["latent-diffusion", "dit-pipeline"])  # a flow, and a chain of steps
def test_every_sampler(name, sampler, made):
    same_pictures(made(name), prompt=PROMPTS[name], num_steps=3, sampler=sampler)


def test_a_sampler_that_chooses_its_own_steps():
    """Which an untrained network, not smooth, has take thousands: so the pictures are those of a Gaussian."""
    noise, levels = 10 * drawn(2, 3, 4, 4), karras(0.01, 10.0, 3)

    def run(place: torch.device) -> Tensor:
        return SAMPLERS["ode"](lambda x, sigma, cond: x / (1 + rows(sigma, x) ** 2), noise.to(place), levels)

    with pretended_gpu():
        found = run(GPU)
        assert found.device == GPU
        torch.testing.assert_close(found.cpu(), run(CPU))


def test_a_network_that_was_trained_to_inpaint(tmp_path):
    pipeline = pipelines.stable_diffusion(tmp_path, channels=9)
    network = vitrail.load(str(pipelines.save(pipeline, tmp_path / "saved")), device="cpu", engine="eager")
    hole = Image.new("L", network.usual.size, 255)
    same_pictures(network, prompt="a cat", num_steps=2, picture=picture(network.usual.size), mask=hole)
    same_pictures(network, prompt="a cat", num_steps=2)


def picture(size: tuple[int, int]) -> Image.Image:
    height, width = size
    return Image.fromarray((counted(height, width, 3, below=255)).to(torch.uint8).numpy())


def same_pictures(network: Generator, **how: Any) -> None:
    """The pictures of a seed are the same wherever they are made, to a level of 255."""
    expected = network.generate(seed=5, **how)
    previews: list[Tensor] = []
    with pretended_gpu():
        there = moved(network)
        found = there.generate(seed=5, preview=lambda step, latents: previews.append(latents), **how)
    assert previews
    assert all(latents.device == GPU for latents in previews)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1
    assert np.asarray(expected[0]).std() > 1


# The others


def _unet(network: Any, place: torch.device) -> Any:
    x, context = drawn(2, 4, 8, 8).to(place), drawn(2, 7, 12).to(place)
    added = (drawn(2, 15).to(place), torch.ones(2, 6, device=place))
    return network(x, 3, context, added), network(
        x, torch.tensor([3.0, 5.0]).to(place), network.look_at(context), added
    )


def _multimodal(network: Any, place: torch.device) -> Any:
    config = network.config
    videos = drawn(2, 3, config.frames, *config.image_size).to(place)
    sounds = drawn(2, config.samples, 1).clamp(-1, 1).to(place)
    given = network.autoencode(videos, sounds)
    return network(videos, sounds), network(videos), given.videos, given.audio, given.logits


def _senses(network: Any, place: torch.device) -> Any:
    images, videos, sounds = (one.to(place) for one in (drawn(2, 3, 12, 12), drawn(2, 3, 4, 12, 12), drawn(2, 64)))
    return network(images), network(images, videos=videos, sounds=sounds)


def _coder(network: Any, place: torch.device) -> Any:
    images = drawn(2, 3, 32, 32).clamp(-1, 1).to(place)
    latents = network.encode(images)
    return latents, network.decode(latents), network.encode(images, tile=16), network.decode(latents, tile=16)


def _flow(network: Any, place: torch.device) -> Any:
    frames = drawn(1, 2, 3, 30, 40).to(place)
    found = network.flow(picture((36, 50)), picture((36, 50)).rotate(90, expand=False))  # on the CPU, as it says
    return network(frames), found.mean().to(place)


def _vqa(network: Any, place: torch.device) -> Any:
    images, said = drawn(3, 3, 24, 24).to(place), ["Is there a boat?"] * 3
    ids = network.tokenizer(said).to(place)
    of = torch.tensor([0, 0, 2]).to(place)
    return (
        network(images, ids),
        network(images, ids, of),
        network.pool(network.features(images)),
        network.answer(images, said),
    )


def _bound(network: Any, place: torch.device) -> Any:
    images, time, noise = drawn(3, 3, 8, 8).clamp(-1, 1), torch.tensor([0.2, 0.5, 0.9]), drawn(2, 3, 2, 4, 4)
    images, time, noise = images.to(place), time.to(place), noise.to(place)
    bound = network.bound(images, time, *noise)
    bits = network.bits(images, looks=2, dice=torch.Generator().manual_seed(1))
    return bound.total(), bits, network.decode(network.encode(images))


def _text(network: Any, place: torch.device) -> Any:
    ids = counted(2, 7, below=50)
    return network(ids.to(place)), network.encode_text(ids)


OTHERS: dict[str, tuple[Callable[[], Model], Call]] = {
    "unet": (lambda: lively(unet(**XL)), _unet),
    "perceiver-flow": (flow_network, _flow),
    "perceiver-multimodal": (multimodal, _multimodal),
    "perceiver-senses": (senses, _senses),
    "autoencoder-kl": (lambda: lively(AutoencoderKL(AutoencoderKLConfig(**CODER))), _coder),
    "vq-autoencoder": (
        lambda: lively(VQAutoencoder(VQAutoencoderConfig(**CODER, codes=20, code_width=4, latent_channels=4))),
        lambda network, place: (*_coder(network, place), network.decode_ids(counted(1, 16, 16, below=20).to(place))),
    ),
    "ddpm": (
        lambda: lively(DDPM(DDPMConfig(**STAGES, groups=8))),
        lambda network, place: network(drawn(2, 3, 8, 8).to(place), torch.tensor([0.5, 3.0]).to(place)),
    ),
    "ncsnpp": (
        lambda: lively(NCSNpp(NCSNppConfig(image_size=32, **STAGES))),
        lambda network, place: network(drawn(2, 3, 8, 8).to(place), torch.tensor([0.5, 3.0]).to(place)),
    ),
    "dit": (
        lambda: lively(DiT(DiTConfig(image_size=8, width=24, depth=2, heads=3, classes=5))),
        lambda network, place: network(
            drawn(2, 4, 8, 12).to(place), torch.tensor([10, 999]).to(place), torch.tensor([0, 5]).to(place)
        ),
    ),
    "lsgm": (lambda: lsgm().eval(), _bound),
    "clip-text": (
        lambda: lively(CLIPTextEncoder(CLIPTextEncoderConfig(CLIPTextConfig(50, 7, 16, 1, 2, 24), width=12))),
        _text,
    ),
    **{
        f"perceiver, {pixels}": (
            lambda pixels=pixels: perceiver(pixels),
            lambda network, place: network(drawn(2, 3, 16, 16).to(place)),
        )
        for pixels in ("learned", "fourier", "convolution")
    },
    **{
        f"vqa, {fusion}, {attention}": (lambda fusion=fusion, attention=attention: vqa(fusion, attention), _vqa)
        for fusion in ("sum", "outer", "factorised", "gate")
        for attention in (True, False)
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_others(name):
    make, call = OTHERS[name]
    check(make(), call)


# Verbs, which take what they prepare to where the network is

PHOTOS = [str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "rocket.jpg")]
FEW = {"seed": 1, "num_steps": 2}


def searched(network: Model, folder: Path) -> Any:
    for path in PHOTOS:
        shutil.copy(path, folder)
    vitrail.index(folder, model=network)
    found = vitrail.search("a cat", folder, images=PHOTOS[:1], model=network)
    return {hit.picture.path.name: hit.score for hit in found.hits}


def chatted(network: Model, folder: Path) -> Any:
    conversation = vitrail.chat(PHOTOS[0], model=network)
    return {"said": conversation.say("Is there a cat?").text, "then": "".join(conversation.stream("What is it?"))}


def probed(network: Model, folder: Path) -> Any:
    for number, name in enumerate(("cat.jpg", "coffee.jpg", "rocket.jpg", "scene.png")):
        place = folder / "pictures" / f"class {number // 2}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / name, place)
    result = vitrail.finetune(folder / "pictures", output=folder / "out", model=network)
    again = vitrail.load(str(result.output), device="cpu", engine="eager")  # what was written there
    return {"labels": [[label.to_dict() for label in one.labels] for one in vitrail.classify(PHOTOS, model=again)]}


VERBS: dict[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "classify": ("emoji/vit-nano", lambda network, _: vitrail.classify(PHOTOS, model=network)),
    "classify by words": (
        "emoji/clip-nano",
        lambda network, _: vitrail.classify(PHOTOS, model=network, labels=["a cat", "a boat"], templates=["{}", "{}!"]),
    ),
    "embed": ("efficientnet-lite0", lambda network, _: vitrail.embed(PHOTOS[0], model=network)),
    "analyze by class activation": ("efficientnet-lite0", lambda network, _: vitrail.analyze(PHOTOS[0], model=network)),
    "analyze by attention": (
        "emoji/clip-nano",
        lambda network, _: vitrail.analyze(PHOTOS[0], model=network, labels=["a cat", "a boat"], phrases=["an ear"]),
    ),
    "caption": ("emoji/talk-nano", lambda network, _: vitrail.caption(PHOTOS, model=network)),
    "ask": ("emoji/talk-nano", lambda network, _: vitrail.ask(PHOTOS[0], "Is there a cat?", model=network)),
    "chat": ("emoji/talk-nano", chatted),
    "index and search": ("emoji/clip-nano", searched),
    "finetune": ("emoji/vit-nano", probed),
    "generate": ("emoji/imagine-nano", lambda network, _: vitrail.generate("a frog", model=network, **FEW)),
    "edit": ("emoji/imagine-nano", lambda network, _: vitrail.edit(PHOTOS[0], "a frog", model=network, **FEW)),
    "morph": (
        "emoji/imagine-nano",
        lambda network, _: vitrail.morph("a frog", "a cat", frames=2, sampler="ddpm", model=network, **FEW),
    ),
    "trace": ("emoji/imagine-nano", lambda network, _: vitrail.trace("a frog", grid=2, levels=1, model=network, **FEW)),
}


@pytest.mark.parametrize("name", VERBS)
def test_verbs(name, tmp_path):
    of, run = VERBS[name]
    network = vitrail.load(of, device="cpu", engine="eager")
    folders = tmp_path / "here", tmp_path / "there"
    for folder in folders:
        folder.mkdir()
    expected = run(network, folders[0])
    with pretended_gpu():
        found = run(moved(network), folders[1])
    compare(said(found), said(expected))


@pytest.mark.parametrize("name", ["emoji/vit-nano", "emoji/talk-nano"])
def test_in_another_float_type_than_the_weights(name):
    """As the engine casts them that comes after the network was moved."""
    network = vitrail.load(name, device="cpu", engine="eager")
    with pretended_gpu():
        there = moved(network)
        there.origin = replace(there.origin, engine=prepare(there, "eager:bfloat16"))
        run = vitrail.caption if isinstance(there, LanguageModel) else vitrail.classify
        assert run(PHOTOS[0], model=there).engine == "eager bfloat16 on meta"


def said(result: Any) -> Any:
    """What can be compared of a verb's result."""
    if isinstance(result, list):
        return [said(one) for one in result]
    if isinstance(result, dict):
        return result
    seen = [result.image] if isinstance(result, Generated | Edited) else []
    return {**result.to_dict(), "image": [np.asarray(image, dtype=float) / 255 for image in seen]}


def compare(there: Any, here: Any, name: str = "") -> None:
    """Equal but for rounding, for the time it took, and for where it ran, which is said."""
    if isinstance(here, dict):
        assert there.keys() == here.keys()
        for key in here.keys() - {"seconds"}:
            compare(there[key], here[key], key)
    elif isinstance(here, list | tuple):
        for one, other in zip(there, here, strict=True):
            compare(one, other, name)
    elif name == "device":
        assert (there, here) == ("meta", "cpu")
    elif name == "engine":
        assert here == "eager float32"
        assert there in ("eager float32 on meta", "eager float32")  # the latter in a recipe, beside the device
    elif isinstance(here, float | np.ndarray):
        np.testing.assert_allclose(there, here, atol=0.01)
    else:
        assert there == here


def test_attention_of_what_is_both_hidden_and_still_to_come():
    """Which no family asks for, and whoever looks at a text's attention does."""

    def attend(tile: Any, place: torch.device) -> Any:
        tokens, mask = drawn(2, 5, 16).to(place), torch.ones(2, 1, 5, 5, dtype=torch.bool).to(place)
        return tile(tokens, mask, causal=True), tile.weights(tokens, mask, causal=True)

    check(lively(Attention(16, heads=2)), attend)


def test_no_family_is_forgotten():
    covered = {name.partition(",")[0] for name in (*SEEING, *WRITING, *PROMPTS, *OTHERS)}
    assert covered == set(FAMILIES)
