"""`Preprocess` by itself: its geometry worked out by hand, its promises, and its sentences."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import colour_key, noise, odd_pictures, palette, photograph, see_through, turned
from vitrail.errors import ImageError, UsageError, VitrailError
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Crop, Preprocess, Resize, standard

ODD = odd_pictures()
PLAIN = Preprocess(resize=None, mean=None, std=None)


@pytest.mark.parametrize(
    ("resize", "height", "width", "expected"),
    [
        (Resize((20, 30)), 7, 5, (20, 30)),
        (Resize(256, "shortest"), 300, 451, (256, 384)),  # 384.85, rounded down
        (Resize(256, "shortest"), 451, 300, (384, 256)),
        (Resize(10, "shortest"), 10, 33, (10, 33)),
        (Resize(100, "shortest", longest=150), 100, 150, (100, 150)),
        (Resize(100, "shortest", longest=150), 1, 151, (1, 151)),  # 0.99 rounds to the short edge it has: left alone
        (Resize(100, "shortest", longest=150), 300, 600, (75, 150)),
        (Resize((20, 30), "cover"), 40, 40, (30, 30)),
        (Resize((20, 30), "contain"), 40, 40, (20, 20)),
        (Resize((16, 16), "cover"), 40, 90, (16, 36)),
        (Resize((16, 16), "contain"), 40, 90, (7, 16)),  # 7.1
        (Resize((16, 16), "contain"), 1, 90, (0, 16)),
    ],
)
def test_sizes(resize, height, width, expected):
    assert resize.output_size(height, width) == expected


@pytest.mark.parametrize(
    ("spare", "floor", "nearest"),
    [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 1, 2), (5, 2, 2), (7, 3, 4), (-1, -1, 0), (-2, -1, -1), (-3, -2, -1)],
)
def test_where_a_crop_lies(spare, floor, nearest):
    assert Crop((10, 10), "floor").corner(10 + spare, 10) == (floor, 0)
    assert Crop((10, 10), "nearest").corner(10, 10 + spare) == (0, nearest)


def test_a_crop_fills_what_lies_outside():
    picture = Image.new("RGB", (4, 2), (9, 9, 9))
    cropped = np.asarray(replace(PLAIN, crop=Crop((4, 2), fill=(1, 2, 3))).picture(picture))
    assert cropped.shape == (4, 2, 3)
    assert (cropped[[0, 3]] == (1, 2, 3)).all()
    assert (cropped[1:3] == 9).all()
    grey = replace(PLAIN, mode="L", crop=Crop((3, 4), "floor"))(Image.new("L", (4, 2), 255))
    assert grey.tolist() == [[[[0.0] * 4, [1.0] * 4, [1.0] * 4]]]


def test_the_tensor_is_the_picture_that_the_network_sees():
    preprocess = standard(64, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    tensor = preprocess(photograph())
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor.dtype == torch.float32
    restored = tensor[0].permute(1, 2, 0) * torch.tensor([0.4, 0.5, 0.6]) + torch.tensor([0.1, 0.2, 0.3])
    seen = np.asarray(preprocess.picture(photograph()))
    np.testing.assert_allclose(restored.numpy() * 255, seen, atol=1e-3)


@pytest.mark.parametrize("transparency", ["drop", "white"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ODD)
def test_every_picture_in_every_mode(kind, mode, transparency):
    preprocess = Preprocess(Resize((30, 20)), mode=mode, transparency=transparency, mean=None, std=None)
    tensor = preprocess(ODD[kind])
    assert tensor.shape == (1, len(mode), 30, 20)
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert preprocess.picture(ODD[kind]).mode == mode


def test_transparency():
    picture = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert replace(PLAIN, transparency="white").picture(picture).getpixel((0, 0)) == (255, 255, 255)
    assert PLAIN.picture(picture).getpixel((0, 0)) == (10, 20, 30)


def test_what_a_picture_may_come_as(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned().fp.getvalue())
    opened = open_picture(path)
    assert opened.image.size == (300, 451)  # upright
    upright = PLAIN(opened.image)
    for source in (path, str(path), path.read_bytes(), opened, np.asarray(opened.image), [path]):
        assert torch.equal(PLAIN(source), upright)
    assert PLAIN(turned()).shape == (1, 3, 300, 451)  # a PIL image is taken as it lies
    assert PLAIN((path, opened)).shape == (2, 3, 451, 300)


def test_a_batch_keeps_its_order():
    pictures = [noise(20, 30, seed=seed) for seed in range(3)]
    batch = PLAIN(pictures)
    for picture, tensor in zip(pictures, batch, strict=True):
        assert torch.equal(PLAIN(picture)[0], tensor)


def test_pictures_of_different_sizes():
    pictures = [noise(20, 30), noise(20, 30), noise(40, 30)]
    with pytest.raises(VitrailError, match=r"first is 20×30 pixels, number 3 40×30"):
        PLAIN(pictures)
    assert replace(PLAIN, crop=Crop((8, 8)))(pictures).shape == (3, 3, 8, 8)


def test_an_empty_list():
    with pytest.raises(UsageError, match="empty"):
        PLAIN([])


@pytest.mark.parametrize(
    "source", [3, None, np.zeros((2, 2), np.int64), np.zeros((2, 2, 3, 1), np.uint8), [[noise(2, 2)]]]
)
def test_what_is_not_a_picture(source):
    with pytest.raises(ImageError):
        PLAIN(source)


def test_a_strip_that_would_fill_the_memory():
    strip = Image.new("L", (60000, 1))
    with pytest.raises(ImageError, match="60000×1 pixels is too elongated"):
        standard(224)(strip)
    with pytest.raises(ImageError, match="too elongated"):  # it would come out 0 pixels high
        replace(PLAIN, resize=Resize((64, 64), "contain"))(strip)


def test_standard():
    assert standard(224).resize == Resize(256, "shortest")
    assert standard(224).crop == Crop((224, 224))
    assert standard((96, 48), crop_fraction=1).resize == Resize((96, 48), "cover")
    assert (standard(32).mean, standard(32).std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert standard(32, mean=list(HALF), std=HALF).mean == HALF
    grey = standard(28, channels=1, resample=Image.Resampling.BILINEAR)
    assert grey(photograph()).shape == (1, 1, 28, 28)
    assert -1 <= grey(photograph()).min() < 0 < grey(photograph()).max() <= 1
    assert standard((20, 30))(noise(7, 5)).shape[2:] == standard((20, 30)).output_size == (20, 30)


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        (standard(224), (3 * 256, 3 * 256)),
        (Preprocess(Resize((30, 50))), (90, 150)),
        (Preprocess(None), None),
        (Preprocess(Resize((30, 50)), middle=(0.9, 0.9)), None),  # scaled after it was cut: by how much depends
    ],
)
def test_what_is_enough(preprocess, expected):
    assert preprocess.enough == expected


def test_a_reduced_picture_is_prepared_nearly_as_the_whole_one():
    preprocess, photo = standard(32), photograph().resize((800, 600))
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90)
    whole, reduced = (open_picture(file.getvalue(), enough=enough) for enough in (None, preprocess.enough))
    assert reduced.image.width * 4 == whole.image.width
    seen = [np.asarray(preprocess.picture(picture)).astype(int) for picture in (whole, reduced)]
    assert abs(seen[0] - seen[1]).mean() < 1


def test_output_size():
    assert Preprocess(Resize((3, 4))).output_size == (3, 4)
    assert Preprocess(Resize((3, 4)), Crop((1, 2))).output_size == (1, 2)
    assert Preprocess(Resize(3, "shortest")).output_size is None
    assert PLAIN.output_size is None


@pytest.mark.parametrize(
    "contradiction",
    [
        lambda: Resize((3, 4), "shortest"),
        lambda: Resize(3, "exact"),
        lambda: Resize((0, 4)),
        lambda: Resize((3, 4), longest=9),
        lambda: Crop((3, 0)),
        lambda: Preprocess(None, mean=None),
        lambda: Preprocess(None, mode="L"),
        lambda: Preprocess(None, std=(1.0, 0.0, 1.0)),
        lambda: Preprocess(None, rescale=0.0),
        lambda: Preprocess(None, rescale=None, rescale_offset=True),
        lambda: Preprocess(None, mean=None, std=None, std_twice=True),
        lambda: standard(224, channels=4),
        lambda: standard(224, crop_fraction=0.0),
        lambda: standard(224, channels=1, mean=HALF),
    ],
)
def test_fields_that_contradict_each_other(contradiction):
    with pytest.raises(UsageError):
        contradiction()


@pytest.mark.parametrize("picture", [see_through(), palette(transparent=True), colour_key()], ids=["RGBA", "P", "key"])
def test_transparency_is_kept_from_the_file_to_the_network(picture, tmp_path):
    """A see-through PNG named by its path is laid on white just as the picture in memory is."""
    picture.save(tmp_path / "picture.png")
    white = Preprocess(Resize((32, 32)), transparency="white")
    assert torch.equal(white(str(tmp_path / "picture.png")), white(picture))
    assert not torch.equal(white(picture), replace(white, transparency="drop")(picture))
