import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.pictures import noise, photograph
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import HALF, Crop, Preprocess, Resize
from vitrail.imaging.tiles import TiledPreprocess

NEAREST = Image.Resampling.NEAREST


def tiled(edge: int = 10, **how) -> TiledPreprocess:
    return TiledPreprocess(**{"resize": Resize((edge, edge)), "mean": HALF, "std": HALF, **how})


def shown(tile: torch.Tensor) -> Image.Image:
    """The picture that a tile (3, H, W) was made of."""
    return Image.fromarray(((tile.numpy().transpose(1, 2, 0) * 0.5 + 0.5) * 255).round().astype(np.uint8))


def test_the_tiles_put_together_are_the_picture():
    picture = noise(40, 20)
    tiles = tiled().tiles(picture)
    assert (tiles.rows, tiles.columns, tiles.pixels.shape) == (2, 4, (9, 3, 10, 10))
    again = Image.new("RGB", picture.size)
    for number, tile in enumerate(tiles.pixels[:-1]):
        again.paste(shown(tile), (number % 4 * 10, number // 4 * 10))
    assert again.tobytes() == picture.tobytes()
    assert shown(tiles.pixels[-1]).tobytes() == picture.resize((10, 10), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize(
    ("size", "longest", "rows", "columns"),
    [
        ((31, 20), None, 3, 4),  # 40×25.8: proportions kept as far as tiles allow
        ((20, 31), None, 4, 3),
        ((4, 3), 40, 3, 4),  # scaled up first
        ((400, 300), 40, 3, 4),
        ((1000, 1), 40, 1, 4),
        ((1, 1000), 40, 4, 1),
        ((10, 10), None, 0, 0),
        ((7, 3), None, 0, 0),
        ((50, 50), 10, 0, 0),
    ],
)
def test_how_many_tiles(size, longest, rows, columns):
    tiles = tiled(longest=longest).tiles(noise(*size))
    assert (tiles.rows, tiles.columns) == (rows, columns)
    assert tiles.pixels.shape == (rows * columns + 1, 3, 10, 10)
    assert tiles.pixels.dtype == torch.float32


def test_a_picture_that_is_not_cut_is_shown_whole():
    picture = noise(40, 20)
    whole = tiled(longest=30, split=False)
    tiles = whole.tiles(picture)
    assert (tiles.rows, tiles.columns) == (0, 0)
    assert torch.equal(tiles.pixels, whole(picture))
    assert torch.equal(tiles.pixels, tiled(longest=30)(picture))


def test_called_it_gives_whole_pictures_of_one_size():
    pictures = [noise(40, 20), noise(5, 90), photograph()]
    prepared = tiled(longest=30)(pictures)
    assert prepared.shape == (3, 3, 10, 10)
    for picture, one in zip(pictures, prepared, strict=True):
        assert torch.equal(tiled(longest=30)(picture)[0], one)
    assert tiled().output_size == (10, 10)
    assert torch.equal(tiled()(pictures), Preprocess(Resize((10, 10)), mean=HALF, std=HALF)(pictures))


def test_every_edge_but_the_longest_is_even():
    picture = noise(30, 19)
    scaled = picture.resize((20, 12), NEAREST).resize((10, 10), NEAREST)  # 20×12.67
    assert shown(tiled(resize=Resize((10, 10), resample=NEAREST), longest=20)(picture)[0]).tobytes() == scaled.tobytes()
    scaled = picture.resize((24, 16), NEAREST).resize((10, 10), NEAREST)  # 24×15.2
    assert shown(tiled(resize=Resize((10, 10), resample=NEAREST), longest=24)(picture)[0]).tobytes() == scaled.tobytes()


def test_opened_pictures_and_transparency():
    see_through = Image.new("RGBA", (25, 15), (255, 0, 0, 0))
    white = tiled(transparency="white").tiles(open_picture(see_through))
    assert white.pixels.eq(1).all()
    red = tiled().tiles(see_through)
    assert red.pixels[:, 0].eq(1).all()
    assert red.pixels[:, 1:].eq(-1).all()
    grey = TiledPreprocess(Resize((10, 10)), mode="L", mean=(0.5,), std=(0.5,)).tiles(noise(25, 15))
    assert grey.pixels.shape == (7, 1, 10, 10)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"resize": None}, "squares"),
        ({"resize": Resize(10, "shortest")}, "squares"),
        ({"resize": Resize((10, 12))}, "squares"),
        ({"crop": Crop((8, 8))}, "squares"),
        ({"longest": 0}, "longest edge"),
        ({"longest": 5000}, "longest edge"),
        ({"std": None}, "both or neither"),
    ],
)
def test_contradictions(how, message):
    with pytest.raises(vitrail.UsageError, match=message):
        tiled(**how)
