"""What every generator does around its network: seeds, sizes, pictures to begin from, masks, and what it refuses."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.checkpoints.tokenizers import read_clip
from vitrail.errors import UsageError
from vitrail.imaging.preprocess import HALF, Preprocess
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.chain import Chain
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.clip_text import CLIPTextEncoderConfig
from vitrail.models.ddpm import DDPMConfig
from vitrail.models.ddpm_pipeline import DDPMPipeline, DDPMPipelineConfig
from vitrail.models.generator import Generator, to_image, to_tensor
from vitrail.models.stable_diffusion import StableDiffusion, StableDiffusionConfig
from vitrail.models.unet import UNetConfig

VOCABULARY = {letter: number for number, letter in enumerate([*"abc", "a</w>", "b</w>", "c</w>"])}
VOCABULARY |= {"<|startoftext|>": 6, "<|endoftext|>": 7}
CONTEXT = 6
CONFIG = StableDiffusionConfig(
    UNetConfig(
        image_size=8,
        widths=(16, 32),
        depths=(1, 1),
        transformer_depths=(1, 0),
        middle_depth=1,
        heads=(2, 2),
        context_width=16,
        groups=8,
    ),
    AutoencoderKLConfig(image_size=16, widths=(8, 16), depth=1, groups=4),
    CLIPTextEncoderConfig(CLIPTextConfig(vocabulary=8, context=CONTEXT, width=16, depth=2, heads=2, mlp_width=32)),
    Chain(sampler="ddim"),
)


def lively(model: Generator) -> Generator:
    """Random numbers large enough that everything shows in the picture; in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    model.preprocess = Preprocess(resize=None, mean=HALF, std=HALF)
    return model.eval()


def texts(channels: int = 4) -> StableDiffusion:
    """A Stable Diffusion of a few thousand numbers for pictures of 16×16 pixels."""
    model = lively(StableDiffusion(replace(CONFIG, unet=replace(CONFIG.unet, channels=channels))))
    words = {"vocab.json": str(VOCABULARY).replace("'", '"'), "merges.txt": "#version: 0.2\n"}
    model.tokenizer = read_clip(words, CONTEXT, fixed=True)
    return model


def untold() -> DDPMPipeline:
    """A DDPM of a few thousand numbers for pictures of 8×8 pixels."""
    network = DDPMConfig(image_size=8, widths=(8, 16), depth=1, attention=(False, False), groups=4)
    return lively(DDPMPipeline(DDPMPipelineConfig(network)))


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return texts()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def photograph(width: int = 16, height: int = 16) -> Image.Image:
    noise = np.random.default_rng(0)
    return Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("sampler", ["ddim", "euler-ancestral"])
def test_a_picture_depends_on_its_seed_and_not_on_its_neighbours(sampler, model):
    how = {"num_steps": 2, "sampler": sampler}
    several = model.generate("a b", count=3, seed=5, **how)
    assert [image.size for image in several] == [(16, 16)] * 3
    assert (pixels(several[2]) == pixels(model.generate("a b", seed=7, **how)[0])).all()
    assert (pixels(several[0]) != pixels(several[1])).any()
    assert (pixels(model.generate(["c", "a b"], seed=5, **how)[1]) == pixels(several[0])).all()


def test_without_a_seed_every_run_is_another(model):
    one, other = (model.generate("a", num_steps=1)[0] for _ in range(2))
    assert (pixels(one) != pixels(other)).any()


def test_prompt_negative_and_scale_are_seen(model):
    def make(prompt: str = "a", **how: object) -> np.ndarray:
        return pixels(model.generate(prompt, seed=1, num_steps=2, **how)[0])

    plain = make()
    for other in (make("b"), make(""), make(negative="c"), make(guidance_scale=2.0), make(sampler="euler-ancestral")):
        assert (plain != other).any()
    assert (make(guidance_scale=1.0) == make(guidance_scale=1.0, negative="c")).all()


def test_size_and_preview(model):
    seen = []
    (image,) = model.generate("a", seed=1, num_steps=3, size=(12, 20), preview=lambda step, x: seen.append((step, x)))
    assert image.size == (20, 12)
    assert [step for step, _ in seen] == [1, 2, 3]
    assert to_image(model.decode(seen[-1][1])[0]).size == image.size


def test_a_picture_to_begin_from(model):
    picture = photograph()
    known = model.decode(model.encode(to_tensor(picture)))
    distances = []
    for strength in (0.02, 0.5, 1.0):
        (image,) = model.generate("a", seed=1, num_steps=50, guidance_scale=1.0, picture=picture, strength=strength)
        distances.append((to_tensor(image) - known.clamp(-1, 1)).abs().mean().item())
    assert 2 * distances[0] < distances[1] < distances[2]


def test_a_picture_is_fitted(model):
    assert model.generate("a", num_steps=1, picture=photograph(15, 11))[0].size == (14, 10)
    assert model.generate("a", num_steps=1, picture=photograph(64, 16))[0].size == (32, 8)  # as many pixels as usual
    assert model.generate("a", num_steps=1, picture=photograph(64, 16), size=16)[0].size == (16, 16)


@pytest.mark.parametrize("channels", [4, 9])
def test_a_mask_keeps_what_is_black_to_the_pixel(channels):
    model, picture = texts(channels), photograph()
    mask = Image.new("L", (16, 16))
    mask.paste(255, (3, 4, 11, 12))
    (image,) = model.generate("a", seed=1, num_steps=3, picture=picture, mask=mask, strength=1.0)
    changed = (pixels(image) != pixels(picture)).any(-1)
    assert not changed[np.asarray(mask) == 0].any()
    assert changed[np.asarray(mask) == 255].mean() > 0.8


def test_a_network_that_inpaints_makes_whole_pictures_too():
    model = texts(9)
    assert model.inpaints
    assert model.generate("a", num_steps=1)[0].size == (16, 16)


def test_what_is_around_a_hole_shows_in_it(model):
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 12, 12))
    made = []
    for picture in (photograph(), photograph().transpose(Image.Transpose.ROTATE_180)):
        how = {"seed": 1, "num_steps": 3, "picture": picture, "mask": mask, "strength": 1.0}
        made.append(pixels(model.generate("a", **how)[0])[4:12, 4:12])
    assert (made[0] != made[1]).any()


def test_a_long_prompt_is_cut_and_said_once(model):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(2):
            long = model.condition(["a b c a b c a"])["context"]
    assert [str(one.message) for one in said] == [
        "the prompt is longer than the 4 tokens that the network reads: not read is 'b c a'"
    ]
    assert torch.equal(long, model.condition(["a b c a"])["context"])


def test_out_of_noise():
    model = untold()
    one, other = model.generate(count=2, seed=3, num_steps=4)
    assert one.size == (8, 8)
    assert (pixels(one) != pixels(other)).any()
    with pytest.raises(UsageError, match="not told what to make"):
        model.generate("a frog")


def test_in_bfloat16():
    model = texts().bfloat16()
    (image,) = model.generate("a", seed=1, num_steps=2, picture=photograph(), strength=0.9)
    assert np.isfinite(pixels(image)).all()
    noise = torch.randn(1, 4, 8, 8)
    assert model.sample(model.condition(["a"]), noise, num_steps=2).dtype == torch.float32


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"sampler": "eular"}, "there is no sampler 'eular'; there are ddpm, "),
        ({"num_steps": 0}, "at least 1 step, not 0"),
        ({"num_steps": 2000}, "at most the 1000"),
        ({"count": 0}, "at least 1 picture"),
        ({"size": 15}, "15×15 pixels is not one this network makes: both sides are multiples of 2"),
        ({"size": (16, 0)}, "0×16 pixels"),
        ({"picture": photograph(), "strength": 0.0}, "above 0 and at most 1, not 0"),
        ({"picture": photograph(), "strength": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"guidance_scale": float("nan")}, "a guidance scale is a number"),
        ({"mask": photograph()}, "give the picture, too"),
        ({"picture": photograph(), "mask": photograph(8, 8)}, "the mask has 8×8 pixels and the picture 16×16"),
    ],
)
def test_what_is_refused(how, says, model):
    with pytest.raises(UsageError, match=says):
        model.generate("a", **{"num_steps": 1, **how})


def test_without_a_tokenizer():
    model = texts()
    model.tokenizer = None
    with pytest.raises(UsageError, match=r"put CLIP's vocab\.json and merges\.txt"):
        model.generate("a")
