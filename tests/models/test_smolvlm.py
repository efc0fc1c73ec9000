from dataclasses import replace

import pytest
import torch

import vitrail
from tests.pictures import noise, photograph
from tests.smol import END, PICTURE, smol
from vitrail.imaging.open import open_picture
from vitrail.models.language_model import Prompt, Turn
from vitrail.models.siglip import SigLIPImageConfig
from vitrail.models.smolvlm import CAPTION, PixelShuffle, SmolVLM
from vitrail.text.decoding import left_pad

TOKENS = 4  # of a tile


def asked(model: SmolVLM, text: str = "What is it?", *sizes: tuple[int, int]) -> Prompt:
    pictures = [open_picture(noise(*size, seed=number)) for number, size in enumerate(sizes)]
    return model.prompt([Turn(text, pictures=len(pictures))], pictures)


def ragged(model: SmolVLM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three conversations with 17, 5 and 10 tiles as one batch: pixels, ids and mask."""
    prompts = [
        asked(model, "Who?", (64, 64)),
        asked(model, "Where is it?", (64, 10)),
        asked(model, "", (64, 10), (9, 64)),
    ]
    pixels = torch.zeros(3, 17, 3, 16, 16)
    for row, prompt in enumerate(prompts):
        pixels[row, : prompt.pixels.shape[1]] = prompt.pixels[0]
    return pixels, *left_pad([prompt.ids[0].tolist() for prompt in prompts], model.tokenizer.pad)


def test_shapes_and_what_a_picture_becomes():
    model = smol()
    prompt = asked(model, "Why?", (64, 32))
    assert prompt.pixels.shape == (1, 9, 3, 16, 16)  # 2×4 tiles and the whole
    assert (prompt.ids == PICTURE).sum() == 9 * TOKENS
    assert model(prompt.pixels, prompt.ids).shape == (*prompt.ids.shape, model.config.text.vocabulary)
    images = model.preprocess([photograph(), noise(30, 70)])
    assert model.features(images).shape == (2, TOKENS, model.config.text.width)
    assert model.config.tokens == TOKENS
    with pytest.raises(vitrail.UsageError, match="no vector"):
        model.pool(model.features(images))


@torch.inference_mode()
def test_squares_of_tokens_become_one():
    shuffle = PixelShuffle(5, 2, 20)
    shuffle.projection.weight.copy_(torch.eye(20))
    grid = torch.randn(3, 4, 6, 5)
    squares = shuffle(grid.flatten(1, 2), (4, 6))
    assert squares.shape == (3, 2 * 3, 20)
    for row in range(2):
        for column in range(3):
            square = grid[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(squares[:, 3 * row + column], square.flatten(1))
    with pytest.raises(ValueError, match="4×7 patches"):
        shuffle(torch.randn(1, 28, 5), (4, 7))


@torch.inference_mode()
def test_every_tile_is_seen_in_its_place():
    model = smol()
    prompt = asked(model, "Why?", (64, 32))
    places = (prompt.ids[0] == PICTURE).nonzero()[:, 0]
    before = model(prompt.pixels, prompt.ids)[0]
    for tile in range(9):
        pixels = prompt.pixels.clone()
        pixels[0, tile] *= -1
        changed = (model(pixels, prompt.ids)[0] - before).abs().amax(-1) > 1e-4
        assert not changed[: places[tile * TOKENS]].any()
        assert changed[places[tile * TOKENS] : places[tile * TOKENS + TOKENS - 1] + 1].all()


@torch.inference_mode()
def test_read_in_pieces_is_read_at_once():
    """Wherever the text is cut, between pictures or within one; a sign of a picture behind all of them is a word."""
    model = smol()
    prompt = asked(model, "Why?", (64, 32), (16, 16))
    ids = torch.cat([prompt.ids, torch.tensor([[PICTURE, 5]])], 1)
    cache = model.start(prompt.pixels)
    at_once = torch.cat([model.read(prompt.ids, cache), model.read(ids[:, -2:], cache)], 1)
    assert not cache.memory
    for cuts in ((10, 60), (40, 41, 42, 43)):
        cache = model.start(prompt.pixels)
        pieces = [model.read(piece, cache) for piece in ids.tensor_split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, 1), at_once, rtol=1e-4, atol=1e-5)
    model.text.tokens.weight[PICTURE].add_(1)
    cache = model.start(prompt.pixels)
    same = model.read(prompt.ids, cache)
    torch.testing.assert_close(same, at_once[:, :-2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.read(ids[:, -2:], cache), at_once[:, -2:], atol=1e-2)


@torch.inference_mode()
def test_a_batch_is_its_rows():
    model = smol()
    pixels, ids, mask = ragged(model)
    together = model(pixels, ids, mask)
    written = model.generate(pixels, ids, mask=mask, max_new_tokens=6)
    beams = model.generate(pixels, ids, mask=mask, max_new_tokens=6, num_beams=3)
    for row, tiles in enumerate((17, 5, 10)):
        alone = pixels[row : row + 1, :tiles], ids[row : row + 1, mask[row]]
        torch.testing.assert_close(together[row, mask[row]], model(*alone)[0], rtol=1e-4, atol=1e-4)
        assert written[row, -6:].tolist() == model.generate(*alone, max_new_tokens=6)[0, -6:].tolist()
        assert beams[row, -6:].tolist() == model.generate(*alone, max_new_tokens=6, num_beams=3)[0, -6:].tolist()


def test_it_learns_from_both_towers():
    model = smol().train()
    prompt = asked(model, "Why?", (64, 32))
    model(prompt.pixels, prompt.ids).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@torch.inference_mode()
def test_a_picture_without_a_conversation():
    """(B, C, H, W) is one tile a row, and a row of zeros has none."""
    model = smol()
    pixels = torch.randn(2, 3, 16, 16)
    pixels[1] = 0
    ids = torch.tensor([[1, *[PICTURE] * TOKENS, 2], [1, 3, 4, 5, 6, 2]])
    torch.testing.assert_close(model(pixels, ids), model(pixels[:, None], ids))
    torch.testing.assert_close(model(pixels, ids)[1], model(None, ids[1:])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("language", CAPTION)
def test_captions(language):
    model = smol()
    picture = open_picture(noise(64, 32))
    asked_for = model.prompt([Turn("", pictures=1)], [picture], language)
    said = model.prompt([Turn(CAPTION[language], pictures=1)], [picture])
    assert torch.equal(asked_for.ids, said.ids)
    few = model.prompt([Turn("", 1), Turn("A cat.", by="model"), Turn("", 1)], [picture, picture], language)
    assert model.tokenizer.decode(few.ids[0]).count(CAPTION[language]) == 2


def test_it_ends_with_a_turn():
    model = smol(end=(2, 7))
    assert model.ends == (END, 2, 7)
    model.tokenizer = None
    assert model.ends == (2, 7)


PICTURES = [open_picture(noise(64, 64)), open_picture(noise(20, 10))]


@pytest.mark.parametrize(
    ("turns", "pictures", "language", "message"),
    [
        ([Turn("What?", 1)], [], "en", "shows 1 pictures, and 0 are given"),
        ([Turn("What?", 1)], PICTURES, "en", "shows 1 pictures, and 2 are given"),
        ([Turn("")], [], "en", "nothing to describe"),
        ([Turn("Read <image>", 1)], PICTURES[:1], "en", "cannot contain '<image>'"),
        (
            [Turn("A", 1), Turn("B<end_of_utterance>", by="model"), Turn("C")],
            PICTURES[:1],
            "en",
            "'<end_of_utterance>'",
        ),
        ([Turn("Was?", 1)], PICTURES[:1], "de", "en or zh, not in 'de'"),
        ([Turn("why " * 90, 1)], PICTURES[:1], "en", "leaves no room for an answer: this SmolVLM reads 450"),
    ],
)
def test_what_cannot_be_said(turns, pictures, language, message):
    with pytest.raises(vitrail.UsageError, match=message):
        smol(context=450).prompt(turns, pictures, language)


def test_it_cannot_read_without_a_tokenizer():
    model = smol()
    model.tokenizer = None
    with pytest.raises(vitrail.UsageError, match="without a tokenizer"):
        model.prompt([Turn("What?", 1)], PICTURES[:1])


def test_more_places_than_pictures():
    model = smol()
    ids = torch.tensor([[PICTURE] * TOKENS, [PICTURE] * (TOKENS - 1) + [3]])
    with pytest.raises(vitrail.UsageError, match="4 places for tokens of pictures, and its pictures have 0 tokens"):
        model(None, ids)
    pixels = torch.randn(2, 1, 3, 16, 16)
    pixels[0] = 0
    with pytest.raises(vitrail.UsageError, match="4 places for tokens of pictures, and its pictures have 0 tokens"):
        model.generate(pixels, ids)


def test_sizes_that_cannot_be():
    config = smol().config
    with pytest.raises(ValueError, match="not of 4×2 patches"):
        SmolVLM(replace(config, image=SigLIPImageConfig(image_size=(16, 8), patch_size=4, width=16, depth=1, heads=2)))
    with pytest.raises(ValueError, match="2×4 patches cannot be cut into squares of 3×3"):
        SmolVLM(replace(config, shuffle=3)).features(torch.randn(1, 3, 8, 16))


def test_it_is_saved_with_how_it_cuts(tmp_path):
    model = smol()
    model.preprocess = replace(model.preprocess, longest=48)
    loaded = vitrail.load(vitrail.save(model, tmp_path / "smol.safetensors"))
    assert loaded.preprocess == model.preprocess
    prompt, again = asked(model, "Why?", (64, 32)), asked(loaded, "Why?", (64, 32))
    assert torch.equal(prompt.pixels, again.pixels)
    with torch.inference_mode():
        plain, packed = model(prompt.pixels, prompt.ids), loaded(again.pixels, again.ids)
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-6)
