"""What GIT promises in Python, besides the reference's numbers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.pictures import noise
from tests.reading import word_tokenizer
from vitrail.errors import UsageError
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import standard
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.git import GIT, GITConfig
from vitrail.models.language_model import Turn

IMAGE = CLIPImageConfig(20, 10, width=24, depth=2, heads=2, mlp_width=48)
SMALL = GITConfig(
    IMAGE, vocabulary=50, context=16, width=32, depth=2, heads=4, mlp_width=64, begin=11, ends=(12,), norm_eps=1e-6
)
VIDEO = replace(SMALL, frames=3)
PICTURE = open_picture(noise(30, 25))


def network(config: GITConfig = SMALL) -> GIT:
    """Random numbers so large that different texts get different answers."""
    torch.manual_seed(0)
    model = GIT(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.preprocess = standard(20)
    model.tokenizer = word_tokenizer(context=16)
    return model


def prompts(rows: int, length: int) -> Tensor:
    return torch.randint(1, 10, (rows, length))


@torch.inference_mode()
def test_shapes():
    pixels, ids = torch.randn(2, 3, 20, 20), prompts(2, 6)
    assert network()(pixels, ids).shape == (2, 6, 50)
    assert network().features(pixels).shape == (2, 1 + 4, 32)
    video = torch.randn(2, 3, 3, 20, 20)
    assert network(VIDEO)(video, ids).shape == (2, 6, 50)
    assert network(VIDEO).features(video).shape == (2, 3 * (1 + 4), 32)


@pytest.mark.parametrize("config", [SMALL, VIDEO])
@torch.inference_mode()
def test_token_by_token_is_all_at_once(config):
    model, ids = network(config), prompts(2, 7)
    pixels = torch.randn(2, *([2] if config.frames else []), 3, 20, 20)
    cache = model.start(pixels)
    steps = [model.read(ids[:, :3], cache), *(model.read(ids[:, place, None], cache) for place in range(3, 7))]
    torch.testing.assert_close(model.head(torch.cat(steps, 1)), model(pixels, ids))


@torch.inference_mode()
def test_what_sees_what():
    model, pixels, ids = network(), torch.randn(1, 3, 20, 20), prompts(1, 5)
    before = model(pixels, ids)
    later = ids.clone()
    later[0, 3] = 1 + ids[0, 3] % 9
    torch.testing.assert_close(model(pixels, later)[:, :3], before[:, :3])
    assert not torch.allclose(model(pixels, later)[:, 3:], before[:, 3:])
    other = pixels.clone()
    other[..., 10:, 10:] += 1  # the last patch, which all of the picture and all of the text see
    assert (model(other, ids) - before).abs().amax((0, 2)).min() > 1e-3
    one, two = model.start(pixels).layers[1], model.start(other).layers[1]
    rows = torch.zeros(1, 4, 1, 8)
    difference = (one.extend(rows, rows)[0] - two.extend(rows, rows)[0])[:, :, :5].abs().amax((0, 1, 3))
    assert difference.min() > 1e-3


@torch.inference_mode()
def test_a_batch_is_its_rows():
    model, pixels = network(), torch.randn(3, 3, 20, 20)
    ids = torch.tensor([[11, 4, 5, 6], [0, 0, 11, 7], [0, 11, 3, 2]])
    mask = ids != 0
    together = model(pixels, ids, mask)
    written = model.generate(pixels, ids, mask=mask, max_new_tokens=6)
    for row, length in enumerate((4, 2, 3)):
        alone = ids[row, None, 4 - length :]
        torch.testing.assert_close(together[row, None, 4 - length :], model(pixels[row, None], alone))
        text = model.generate(pixels[row, None], alone, max_new_tokens=6)[0]
        assert torch.equal(written[row, 4 - length :][: len(text)], text)


@torch.inference_mode()
def test_the_order_of_a_video_matters():
    model, video, ids = network(VIDEO), torch.randn(1, 3, 3, 20, 20), prompts(1, 3)
    assert not torch.allclose(model(video, ids), model(video.flip(1), ids))


def test_every_parameter_learns():
    model = network(VIDEO)
    model(torch.randn(2, 3, 3, 20, 20), prompts(2, 16)).log_softmax(-1)[..., 5].sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


@torch.inference_mode()
def test_prompts():
    model = network()
    caption = model.prompt([Turn("", pictures=1)], [PICTURE])
    assert caption.ids.tolist() == [[11]]
    assert torch.equal(caption.pixels, model.preprocess(PICTURE))
    question = model.prompt([Turn("a red cat", pictures=1)], [PICTURE])
    assert question.ids.tolist() == [[11, 5, 2, 6]]
    film = network(VIDEO).prompt([Turn("", pictures=2)], [PICTURE, PICTURE])
    assert film.pixels.shape == (1, 2, 3, 20, 20)
    assert network(VIDEO).generate(film.pixels, film.ids, max_new_tokens=3).shape == (1, 4)


@pytest.mark.parametrize(
    ("turns", "pictures", "language", "reason"),
    [
        ([Turn("a cat", pictures=1)], 1, "zh", "English only, not 'zh'"),
        ([Turn("a cat")], 0, "en", "reads one picture, not 0"),
        ([Turn("a cat", pictures=2)], 2, "en", "reads one picture, not 2"),
        ([Turn("a", pictures=1), Turn("dog", by="model"), Turn("a")], 1, "en", "no examples and remembers no turns"),
        ([Turn("a " * 15, pictures=1)], 1, "en", "of 16 tokens leaves no room for an answer: GIT reads 16"),
    ],
)
def test_prompts_that_cannot_be(turns, pictures, language, reason):
    with pytest.raises(UsageError, match=reason):
        network().prompt(turns, [PICTURE] * pictures, language)


def test_other_bad_input():
    model, ids = network(), prompts(1, 3)
    with pytest.raises(UsageError, match="give it one"):
        model(None, ids)
    with pytest.raises(UsageError, match="one picture, not a video of 2"):
        model(torch.randn(1, 2, 3, 20, 20), ids)
    with pytest.raises(UsageError, match="at most 3 pictures, not 4"):
        network(VIDEO)(torch.randn(1, 4, 3, 20, 20), ids)
    with pytest.raises(UsageError, match="1 to 3 pictures of a video, not 4"):
        network(VIDEO).prompt([Turn("", pictures=4)], [PICTURE] * 4)
    with pytest.raises(ValueError, match="17 tokens is too long: this network reads 16"):
        model(torch.randn(1, 3, 20, 20), prompts(1, 17))
    with pytest.raises(UsageError, match="no vector"):
        model.pool(model.features(torch.randn(1, 3, 20, 20)))
    model.tokenizer = None
    with pytest.raises(UsageError, match="without a tokenizer"):
        model.prompt([Turn("a cat", pictures=1)], [PICTURE])
