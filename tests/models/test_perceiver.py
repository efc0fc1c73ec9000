"""Perceiver IO: any array in, latents between, any query out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import vitrail
from tests.pictures import EXAMPLES, noise
from vitrail.imaging.preprocess import HALF, Preprocess, Resize
from vitrail.models.perceiver import CrossAttention, LatentsConfig, Perceiver, PerceiverConfig
from vitrail.models.perceiver_flow import PerceiverFlow, PerceiverFlowConfig
from vitrail.models.perceiver_inputs import fourier_features, grid_positions
from vitrail.models.perceiver_multimodal import PerceiverMultimodal, PerceiverMultimodalConfig

LATENTS = LatentsConfig(count=6, width=16, depth=2, repeats=2, heads=2)
PIXELS = ("learned", "fourier", "convolution")


def classifier(pixels: str = "fourier", **changes) -> Perceiver:
    torch.manual_seed(0)
    small = {"image_size": 16, "pixel_width": 8, "bands": 4, "resolution": (16, 16), "latents": LATENTS, "classes": 3}
    model = Perceiver(PerceiverConfig(pixels=pixels, **{**small, **changes})).eval()
    model.preprocess = Preprocess(Resize((16, 16)), middle=(7 / 8, 7 / 8))
    return model


def flow_network() -> PerceiverFlow:
    torch.manual_seed(0)
    model = PerceiverFlow(PerceiverFlowConfig((30, 40), pixel_width=8, bands=4, latents=LATENTS)).eval()
    nn.init.normal_(model.displacement.weight)
    model.preprocess = Preprocess(None, mean=HALF, std=HALF)
    return model


def multimodal(**changes) -> PerceiverMultimodal:
    torch.manual_seed(0)
    small = {
        "frames": 3,
        "image_size": (8, 12),
        "video_bands": 3,
        "samples": 48,
        "samples_per_patch": 4,
        "audio_bands": 5,
        "classes": 4,
        "label_width": 10,
        "answer_width": 7,
        "latents": LATENTS,
    }
    return PerceiverMultimodal(PerceiverMultimodalConfig(**{**small, **changes})).eval()


# Places


def test_fourier_features_are_the_paper_s():
    (x, y) = (0.3, -0.7)
    features = fourier_features(torch.tensor([[x, y]]), 3, (10, 20))[0]
    angles = [math.pi * f * x for f in (1, 3, 5)] + [math.pi * f * y for f in (1, 5.5, 10)]
    expected = [x, y, *map(math.sin, angles), *map(math.cos, angles)]
    torch.testing.assert_close(features, torch.tensor(expected))


def test_a_grid_reaches_from_minus_one_to_one_row_by_row():
    positions = grid_positions((2, 3))
    assert positions.tolist() == [[-1, -1], [-1, 0], [-1, 1], [1, -1], [1, 0], [1, 1]]


# Attention


def test_cross_attention_is_what_its_weights_say():
    attention = CrossAttention(width=8, read_width=12, inner=6, heads=2)
    asking, read = torch.randn(2, 3, 8), torch.randn(2, 5, 12)
    weights = attention.weights(asking, read)
    assert weights.shape == (2, 2, 3, 5)
    values = attention.keys_values(read)[..., 6:].unflatten(-1, (2, 3)).transpose(1, 2)
    expected = attention.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(asking, read), expected)


def test_heads_must_share_the_width():
    with pytest.raises(ValueError, match="width 7 cannot be shared by 2 heads"):
        CrossAttention(8, 8, 7, 2)


# Classification


@pytest.mark.parametrize("pixels", PIXELS)
def test_shapes_and_gradients(pixels):
    model = classifier(pixels)
    images = torch.randn(2, 3, 16, 16)
    features = model.features(images)
    assert features.shape == (2, 6, 16)
    assert model.pool(features).shape == (2, 16)
    logits = model(images)
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_block_is_applied_again_with_the_same_weights():
    once, twice = classifier(latents=LatentsConfig(6, 16, 2, 1, 2)), classifier()
    twice.load_state_dict(once.state_dict())  # as many weights
    images = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(twice.features(images), twice.latents.blocks(once.features(images)))


@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (33, 16)])
def test_the_grid_is_what_the_latents_read(pixels, size):
    model = classifier(pixels)
    images = torch.randn(1, 3, *size)
    rows, columns = model.pixels.grid(images)
    assert model.pixels(images).shape[1] == rows * columns


def test_pictures_of_the_wrong_channels():
    with pytest.raises(ValueError, match="pictures of 3 channels, not 1"):
        classifier()(torch.randn(1, 1, 16, 16))


def test_the_verbs(tmp_path):
    model = classifier()
    model.labels = ("glass", "lead", "light")
    name = str(vitrail.save(model, tmp_path / "model.safetensors"))
    again = vitrail.load(name)
    assert (again.config, again.preprocess) == (model.config, model.preprocess)
    result = vitrail.classify(EXAMPLES / "cat.jpg", model=name)
    assert {label.label for label in result.labels} == {"glass", "lead", "light"}
    assert vitrail.embed(EXAMPLES / "cat.jpg", model=name).vector.shape == (16,)
    with pytest.raises(vitrail.VitrailError, match="cannot be rolled out through this perceiver"):
        vitrail.analyze(EXAMPLES / "cat.jpg", model=name)


# Optical flow


@torch.inference_mode()
def test_flow_in_chunks_is_flow():
    model, frames = flow_network(), torch.randn(2, 2, 3, 30, 40)
    whole = model(frames, at_once=10**6)
    assert whole.shape == (2, 2, 30, 40)
    assert whole.std() > 1e-2
    torch.testing.assert_close(model(frames, at_once=171), whole, rtol=0, atol=1e-5)


def test_nothing_moves_before_it_has_learned():
    model = PerceiverFlow(PerceiverFlowConfig((30, 40), pixel_width=8, bands=4, latents=LATENTS))
    assert not model(torch.randn(1, 2, 3, 30, 40)).any()


@torch.inference_mode()
def test_flow_between_two_pictures():
    model = flow_network()
    first, second = noise(40, 30), noise(40, 30, seed=1)
    flow = model.flow(first, second)
    frames = model.preprocess([first, second])
    torch.testing.assert_close(flow, model(frames[None])[0])
    assert frames.min() == -1
    assert frames.max() == 1


@pytest.mark.parametrize(("width", "height"), [(41, 30), (95, 30), (60, 71)])
@torch.inference_mode()
def test_flow_of_large_pictures_is_tiled(width, height):
    """Each tile's flow, weighed by how far from the tile's edge a pixel is, as the paper's notebook does."""
    model = flow_network()
    first, second = noise(width, height), noise(width, height, seed=1)
    flow = model.flow(first, second)
    assert flow.shape == (2, height, width)
    frames = model.preprocess([first, second])[None]
    corner = model(frames[..., :30, :40])[0]
    torch.testing.assert_close(flow[:, 0, 0], corner[:, 0, 0])
    far = model(frames[..., -30:, -40:])[0]
    torch.testing.assert_close(flow[:, -1, -1], far[:, -1, -1])
    if (width, height) == (41, 30):  # two tiles, one column apart
        left, right = model(frames[..., :40])[0], model(frames[..., 1:])[0]
        blended = (left[:, 15, 9] * 10 + right[:, 15, 8] * 9) / 19
        torch.testing.assert_close(flow[:, 15, 9], blended)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((40, 30), (40, 31)), "pictures of one size, not of 40×30 and 40×31 pixels"),
        (((39, 50), (39, 50)), "pictures of 40×30 pixels or more, not 39×50"),
    ],
)
def test_pictures_without_flow(sizes, message):
    first, second = (noise(*size) for size in sizes)
    with pytest.raises(vitrail.UsageError, match=message):
        flow_network().flow(first, second)


def test_flow_is_no_way_to_see_one_picture(tmp_path):
    name = str(vitrail.save(flow_network(), tmp_path / "flow.safetensors"))
    assert vitrail.load(name).config == flow_network().config
    with pytest.raises(vitrail.UsageError, match="has no classes"):
        vitrail.classify(EXAMPLES / "cat.jpg", model=name)
    with pytest.raises(vitrail.VitrailError, match="compares two pictures"):
        vitrail.embed(EXAMPLES / "cat.jpg", model=name)
    with pytest.raises(ValueError, match=r"\(B, 2, 3, H, W\), not \(1, 3, 30, 40\)"):
        flow_network()(torch.randn(1, 3, 30, 40))


# Video, sound and label


@torch.inference_mode()
def test_answers_in_chunks_are_the_answers():
    model = multimodal()
    latents = model.features(torch.rand(2, 3, 3, 8, 12), torch.randn(2, 48, 1))
    pixels, patches = torch.randperm(288), torch.arange(12)
    whole, sound = model.video_at(latents, pixels), model.audio_at(latents, patches)
    assert whole.shape == (2, 288, 3)
    assert sound.shape == (2, 12, 4)
    torch.testing.assert_close(model.video_at(latents, pixels, at_once=31), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.audio_at(latents, patches, at_once=5), sound, rtol=0, atol=1e-5)
    given = model.autoencode(torch.rand(1, 3, 3, 8, 12))
    assert (given.videos.shape, given.audio.shape, given.logits.shape) == ((1, 3, 3, 8, 12), (1, 48, 1), (1, 4))


@torch.inference_mode()
def test_whatever_is_there_is_read():
    model = multimodal()
    videos, audio = torch.rand(2, 3, 3, 8, 12), torch.randn(2, 48, 1)
    answers = {
        "both": model(videos, audio),
        "video": model(videos),
        "sound": model(audio=audio),
        "picture": model(videos[:, :, 0]),
        "longer": model(torch.rand(2, 3, 5, 12, 16), torch.randn(2, 20, 1)),
    }
    assert all(answer.shape == (2, 4) for answer in answers.values())
    assert all(
        (one - other).abs().max() > 1e-4 for one in answers.values() for other in answers.values() if one is not other
    )
    torch.testing.assert_close(answers["picture"], model(videos[:, :, :1]))


@torch.inference_mode()
def test_a_label_that_is_given_is_read():
    model = multimodal()
    audio, labels = torch.randn(2, 48, 1), torch.eye(4)
    without, first, second = (model.features(audio=audio, label=label) for label in (None, labels[:2], labels[2:]))
    assert (without - first).abs().max() > 1e-4
    assert (first - second).abs().max() > 1e-4


def test_every_weight_is_reached():
    model = multimodal()
    videos, audio, label = torch.rand(2, 3, 3, 8, 12), torch.randn(2, 48, 1), torch.eye(4)[:2]
    losses = [
        sum(part.square().mean() for part in model.autoencode(videos, audio)),
        model.features(videos, label=label).square().mean(),
        model.features(audio=audio).square().mean(),
    ]
    sum(losses).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_what_makes_no_video_or_sound():
    model = multimodal()
    with pytest.raises(vitrail.UsageError, match="takes videos, sounds or both"):
        model()
    with pytest.raises(vitrail.UsageError, match="as many of the one as of the other"):
        model(torch.rand(1, 3, 3, 8, 12), torch.randn(2, 48, 1))
    with pytest.raises(ValueError, match="9×12 pixels cannot be cut into 4×4 patches"):
        model(torch.rand(1, 3, 3, 9, 12))
    with pytest.raises(ValueError, match="47 samples cannot be cut into stretches of 4"):
        model(audio=torch.rand(1, 47, 1))


@torch.inference_mode()
def test_patches_keep_their_pixels_together():
    model = multimodal()
    videos = torch.arange(3 * 3 * 8 * 12, dtype=torch.float32).reshape(1, 3, 3, 8, 12)
    cut = model._cut_videos(videos)
    assert cut.shape == (1, 48, 3, 2, 3)
    expected = videos[0, :, 1, 4:8, 8:12].permute(1, 2, 0).flatten()  # row, column, channel
    np.testing.assert_array_equal(cut[0, :, 1, 1, 2], expected)


def test_multimodal_through_vitrail_s_own_layout(tmp_path):
    model = multimodal()
    model.preprocess = Preprocess(Resize((8, 12)), mean=None, std=None)
    again = vitrail.load(str(vitrail.save(model, tmp_path / "m.safetensors")))
    audio = torch.randn(1, 48, 1)
    assert again.config == model.config
    with torch.inference_mode():
        torch.testing.assert_close(again(audio=audio), model(audio=audio))
