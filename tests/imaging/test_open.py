"""Pictures of every kind open as they should; hostile ones give one sentence and nothing else."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitrail.errors import ImageError
from vitrail.imaging.open import MAX_PIXELS, open_picture, to_mode, to_rgb

pytestmark = [  # what Pillow mutters about damaged tags and large sizes
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

ACROSS, DOWN = np.meshgrid(np.arange(0, 240, 10), np.arange(0, 160, 10))
GRADIENT = np.stack([ACROSS, DOWN, np.full_like(DOWN, 77)], axis=-1).astype("u1")


def encode(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photograph() -> Image.Image:
    return Image.fromarray(GRADIENT)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "A maker of cameras"
    return tags.tobytes()


SAMPLES = {
    "JPEG": encode(photograph(), "JPEG", exif=exif(6)),
    "progressive": encode(photograph(), "JPEG", progressive=True),
    "MPO": encode(photograph(), "MPO", save_all=True, append_images=[photograph().rotate(180)]),
    "PNG": encode(photograph(), "PNG", exif=exif(8)),
    "palette PNG": encode(photograph().convert("P"), "PNG", transparency=b"\0\x80\xff"),
    "16-bit PNG": encode(Image.fromarray(GRADIENT[..., 0].astype("u2") * 256), "PNG"),
    "GIF": encode(photograph(), "GIF", save_all=True, append_images=[photograph().rotate(90)]),
    "WEBP": encode(photograph(), "WEBP", lossless=True, exif=exif(3)),
    "BMP": encode(photograph(), "BMP"),
    "TIFF": encode(photograph(), "TIFF", exif=exif(6)),
    "deflated TIFF": encode(photograph(), "TIFF", compression="tiff_adobe_deflate"),
    "PPM": encode(photograph(), "PPM"),
    "ICO": encode(photograph(), "ICO", sizes=[(16, 16)]),
    "TGA": encode(photograph(), "TGA", compression="tga_rle"),
    "JPEG2000": encode(photograph(), "JPEG2000"),
    "AVIF": encode(photograph(), "AVIF", speed=10),
}


def opens_or_says_why(data: bytes) -> None:
    """The whole contract for bytes from anywhere."""
    try:
        picture = open_picture(data)
    except ImageError as error:
        sentence = str(error)
        assert sentence.startswith("<bytes>")
        assert sentence.isprintable()
        assert sentence.endswith(".")
    else:
        assert picture.image.mode == "RGB"
        assert picture.image.tobytes()


class TestFaults:
    @pytest.mark.parametrize("kind", SAMPLES)
    def test_every_truncation(self, kind):
        data = SAMPLES[kind]
        for length in range(0, len(data), max(1, len(data) // 150)):
            opens_or_says_why(data[:length])

    @pytest.mark.parametrize("kind", SAMPLES)
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(choices=st.data())
    def test_corrupt_bytes(self, kind, choices):
        data = bytearray(SAMPLES[kind])
        # Half of the damage goes to the first bytes, where the header is.
        place = st.integers(0, len(data) - 1) | st.integers(0, min(64, len(data) - 1))
        for at, value in choices.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)):
            data[at] = value
        opens_or_says_why(bytes(data))

    @pytest.mark.parametrize("kind", SAMPLES)
    @settings(max_examples=30, deadline=None)
    @given(choices=st.data())
    def test_bytes_put_in_and_taken_out(self, kind, choices):
        data = SAMPLES[kind]
        start = choices.draw(st.integers(0, len(data)))
        end = choices.draw(st.integers(start, min(start + 40, len(data))))
        opens_or_says_why(data[:start] + choices.draw(st.binary(max_size=40)) + data[end:])

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data):
        opens_or_says_why(data)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=12), st.booleans())
    def test_broken_exif_never_prevents_opening(self, damage, cut):
        block = bytearray(exif(6))
        for at, value in damage:
            block[6 + at % (len(block) - 6)] = value  # what follows b"Exif\0\0"
        for format in ("JPEG", "PNG", "WEBP"):
            data = encode(photograph(), format, exif=bytes(block[: len(block) // 2] if cut else block))
            assert sorted(open_picture(data).image.size) == [16, 24]

    def test_truncated_picture_is_not_shown_half(self):
        data = encode(Image.effect_noise((64, 64), 80), "JPEG")
        with pytest.raises(ImageError, match=r"^<bytes> is damaged or cut short"):
            open_picture(data[: len(data) // 2])

    @pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (MAX_PIXELS + 1, 1)])
    def test_bomb_is_refused_by_its_header(self, size):
        with pytest.raises(ImageError, match="pixels"):
            open_picture(png(*size))

    def test_bomb_is_refused_whatever_pillow_is_set_to(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        with pytest.raises(ImageError, match=r"20000 × 20000 pixels, more than the 178,956,970 allowed"):
            open_picture(png(20_000, 20_000))
        assert Image.MAX_IMAGE_PIXELS is None

    def test_bomb_below_its_declared_icon_size(self):
        inside = png(30_000, 30_000)
        entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22)
        opens = struct.pack("<HHH", 0, 1, 1) + entry + inside
        with pytest.raises(ImageError, match="pixels"):
            open_picture(opens)

    def test_text_chunk_that_unpacks_to_much(self):
        text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26), 9))
        opens_or_says_why(SAMPLES["PNG"][:33] + text + SAMPLES["PNG"][33:])

    def test_tiff_tags_of_every_type_and_size(self):
        data = SAMPLES["TIFF"]
        start = struct.unpack_from("<I", data, 4)[0]
        for entry in range(struct.unpack_from("<H", data, start)[0]):
            for type in (0, 2, 5, 7, 12, 16):
                for count in (0, 2, 2**31):
                    broken = bytearray(data)
                    struct.pack_into("<HI", broken, start + 2 + 12 * entry + 2, type, count)
                    opens_or_says_why(bytes(broken))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """A PNG whose header says so; its pixels never come."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestKinds:
    @pytest.mark.parametrize("kind", [kind for kind in SAMPLES if kind != "ICO"])
    def test_what_pillow_sees(self, kind):
        picture = open_picture(SAMPLES[kind])
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(SAMPLES[kind])))
        if kind != "16-bit PNG":
            assert np.array_equal(np.asarray(picture.image), np.asarray(expected.convert("RGB")))
        assert (picture.width, picture.height) == expected.size
        assert picture.file_size == len(SAMPLES[kind])
        assert picture.name == "<bytes>"

    def test_facts(self):
        facts = {kind: (p.format, p.mode, p.orientation) for kind in SAMPLES for p in [open_picture(SAMPLES[kind])]}
        assert facts["JPEG"] == ("JPEG", "RGB", 6)
        assert facts["MPO"] == ("MPO", "RGB", 1)
        assert facts["PNG"] == ("PNG", "RGB", 8)
        assert facts["TIFF"] == ("TIFF", "RGB", 6)
        assert facts["WEBP"] == ("WEBP", "RGB", 3)
        assert facts["palette PNG"] == ("PNG", "P", 1)
        assert facts["16-bit PNG"] == ("PNG", "I;16", 1)
        assert facts["ICO"][0] == "ICO"

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 10))
    def test_orientation(self, format, orientation):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encode(photograph(), format, exif=exif(orientation), **options)
        picture = open_picture(data)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert np.array_equal(np.asarray(picture.image), np.asarray(expected))
        assert picture.orientation == orientation
        assert picture.width == (16 if orientation in (5, 6, 7, 8) else 24)

    def test_upright_once_is_upright_for_good(self):
        once = open_picture(SAMPLES["JPEG"]).image
        assert np.array_equal(np.asarray(open_picture(once).image), np.asarray(once))

    def test_first_frame(self):
        expected = Image.open(io.BytesIO(SAMPLES["GIF"])).convert("RGB")
        assert np.array_equal(np.asarray(open_picture(SAMPLES["GIF"]).image), np.asarray(expected))

    @pytest.mark.parametrize(
        "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"]
    )
    def test_every_mode_of_pillow_converts(self, mode):
        for wanted in ("RGB", "L"):
            assert to_mode(Image.new(mode, (3, 2)), wanted).mode == wanted

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
    def test_shallow_modes_convert_as_in_pillow(self, mode):
        image = photograph().convert(mode)
        assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))

    def test_memory_images_keep_their_facts(self):
        image = photograph()
        picture = open_picture(image)
        assert (picture.name, picture.format, picture.mode, picture.file_size) == ("<image>", None, "RGB", None)
        picture.image.putpixel((0, 0), (255, 0, 0))
        assert image.getpixel((0, 0)) == (0, 0, 77)

    def test_picture_without_pixels(self):
        with pytest.raises(ImageError, match=r"^<image> has no pixels\.$"):
            open_picture(Image.new("RGB", (0, 5)))


class TestDeepGreys:
    VALUES = np.array([[0, 128, 129, 256, 257 * 100, 65535]], "u2")
    GREYS = np.array([[0, 0, 1, 1, 100, 255]], "u1")

    @pytest.mark.parametrize(("mode", "layout"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2")])
    def test_sixteen_bits(self, mode, layout):
        image = Image.frombytes(mode, (6, 1), self.VALUES.astype(layout).tobytes())
        assert np.array_equal(np.asarray(to_mode(image, "L")), self.GREYS)
        assert np.array_equal(np.asarray(to_rgb(image)), np.repeat(self.GREYS[..., None], 3, -1))

    @pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
    def test_sixteen_bit_files(self, format):
        picture = open_picture(encode(Image.fromarray(self.VALUES), format))
        assert np.array_equal(np.asarray(picture.image)[..., 0], self.GREYS)

    def test_dark_sixteen_bit_pgm_stays_dark(self):
        picture = open_picture(b"P5 2 1 65535\n" + bytes([0, 200, 0, 100]))
        assert np.asarray(picture.image)[..., 0].tolist() == [[1, 0]]

    @pytest.mark.parametrize("type", ["i4", "f4"])
    def test_values_on_the_scale_of_bytes_are_kept(self, type):
        values = np.array([[0, 2, 100, 255]])
        assert np.array_equal(np.asarray(to_mode(Image.fromarray(values.astype(type)), "L")), values)

    def test_floats_on_the_unit_scale(self):
        image = Image.fromarray(np.array([[0, 0.2, 0.5, 1]], "f4"))
        assert np.asarray(to_mode(image, "L")).tolist() == [[0, 51, 128, 255]]

    @pytest.mark.parametrize("values", [[-1.0, 5.0], [0.0, 256.0], [np.nan, 0.5], [0.0, np.inf]])
    def test_floats_on_no_known_scale(self, values):
        with pytest.raises(ImageError, match=r"^<image>: its grey values run from"):
            open_picture(Image.fromarray(np.array([values], "f4")))

    @pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
    def test_integers_on_no_known_scale(self, values):
        with pytest.raises(ImageError, match="scale them to 0–65535 first"):
            open_picture(Image.fromarray(np.array([values], "i4")))


class TestArrays:
    @pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
    @pytest.mark.parametrize("type", ["u1", "f2", "f4", "f8", ">f4"])
    def test_shapes_and_types(self, shape, type):
        values = np.arange(np.prod(shape)).reshape(shape) * 3
        picture = open_picture((values if type == "u1" else values / 255).astype(type))
        colours = values.reshape(4, 5, -1)[..., :3]
        assert np.array_equal(np.asarray(picture.image), np.broadcast_to(colours, (4, 5, 3)))
        assert (picture.name, picture.format, picture.file_size) == ("<array>", None, None)

    def test_views_that_are_not_contiguous(self):
        assert np.array_equal(np.asarray(open_picture(GRADIENT[::2, ::-3]).image), GRADIENT[::2, ::-3])

    @pytest.mark.parametrize(
        ("array", "sentence"),
        [
            (np.zeros((3, 8, 9), "u1"), r"shape \(3, 8, 9\) and type uint8.*array\.transpose\(1, 2, 0\)\.$"),
            (np.zeros((2, 8, 9, 3), "u1"), r"shape \(2, 8, 9, 3\)"),
            (np.zeros((8, 9, 2), "u1"), r"shape \(8, 9, 2\)"),
            (np.zeros((8, 9), "i8"), "type int64"),
            (np.zeros((8, 9), bool), "type bool"),
            (np.full((8, 9), "x"), "type <U1"),
            (np.full((8, 9), 1.01), "between 0 and 1"),
            (np.full((8, 9), -0.01), "between 0 and 1"),
            (np.full((8, 9), np.nan), "between 0 and 1"),
            (np.zeros((0, 9)), "no pixels"),
            (np.zeros(()), r"shape \(\)"),
        ],
    )
    def test_refused(self, array, sentence):
        with pytest.raises(ImageError, match=sentence):
            open_picture(array)


class TestFiles:
    def test_path_as_given(self, tmp_path, monkeypatch):
        (tmp_path / "a.jpg").write_bytes(SAMPLES["JPEG"])
        monkeypatch.chdir(tmp_path)
        for source in ("a.jpg", tmp_path / "a.jpg"):
            picture = open_picture(source)
            assert picture.name == str(source)
            assert picture.file_size == len(SAMPLES["JPEG"])
        assert open_picture("a.jpg", name="my cat").name == "my cat"

    @pytest.mark.parametrize("ending", [".png", ".eps", ".txt", ""])
    def test_content_counts_and_not_the_ending(self, tmp_path, ending):
        path = tmp_path / f"mislabelled{ending}"
        path.write_bytes(SAMPLES["JPEG"])
        assert open_picture(path).format == "JPEG"

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            (b"", "is empty"),
            (b"not a picture at all", r"is not a picture.*JPEG, "),
            (
                b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
                "is an SVG drawing: convert it to PNG first",
            ),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC picture: convert it"),
            (b"%PDF-1.7\n", "is a PDF document"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is a PostScript drawing"),
            (b"<!DOCTYPE html><html></html>", "is a web page"),
        ],
    )
    def test_what_is_no_picture(self, tmp_path, content, sentence):
        path = tmp_path / "file.png"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=f"file.png {sentence}"):
            open_picture(path)

    def test_missing(self, tmp_path):
        for path in (tmp_path / "missing.jpg", "a\0b", "x" * 5000):
            with pytest.raises(ImageError):
                open_picture(path)
        with pytest.raises(ImageError, match=r"missing\.jpg: there is no such file\.$"):
            open_picture(tmp_path / "missing.jpg")

    def test_folder_and_device(self, tmp_path):
        with pytest.raises(ImageError, match="is a folder"):
            open_picture(tmp_path)
        with pytest.raises(ImageError, match="is a device"):
            open_picture(os.devnull)

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
    def test_not_permitted(self, tmp_path):
        path = tmp_path / "mine.jpg"
        path.write_bytes(SAMPLES["JPEG"])
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises(ImageError, match=r"mine\.jpg: you are not permitted to read"):
                open_picture(path)
        finally:
            os.seteuid(user)

    def test_name_with_terminal_codes_is_escaped_in_the_sentence(self, tmp_path):
        with pytest.raises(ImageError, match=r"\\x1b\[31m\\nx\.jpg") as caught:
            open_picture(tmp_path / "\x1b[31m\nx.jpg")
        assert str(caught.value).isprintable()

    def test_something_else(self):
        with pytest.raises(ImageError, match="cannot be opened from <int>"):
            open_picture(5)

    def test_standard_input_and_pipes(self, tmp_path):
        script = "import sys, vitrail.imaging.open as o; p = o.open_picture(sys.argv[1]); print(p.name, p.format)"
        for name in ("-", "/dev/stdin") if os.path.exists("/dev/stdin") else ("-",):
            done = subprocess.run([sys.executable, "-c", script, name], input=SAMPLES["PNG"], capture_output=True)
            assert done.stdout.decode().split() == [name, "PNG"], done.stderr

    def test_torch_is_not_imported(self):
        code = "import vitrail.imaging.inputs, sys; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestReduced:
    """JPEG files that are decoded at less than their size, where that is enough."""

    @staticmethod
    def slope(width: int = 400, height: int = 240) -> Image.Image:
        across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
        return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype("u1"))

    @pytest.mark.parametrize(
        ("enough", "expected"),
        [
            (None, (400, 240)),
            ((60, 60), (100, 60)),
            ((61, 60), (200, 120)),
            ((30, 50), (50, 30)),
            ((1, 1), (50, 30)),  # an eighth is the least
            ((150, 60), (400, 240)),
        ],
    )
    def test_the_smallest_size_that_is_enough(self, enough, expected):
        picture = open_picture(encode(self.slope(), "JPEG", quality=95), enough=enough)
        assert picture.image.size == expected
        assert (picture.width, picture.height) == (400, 240)
        scaled = np.asarray(self.slope().resize(expected, Image.Resampling.BOX)).astype(int)
        assert abs(np.asarray(picture.image).astype(int) - scaled).max() <= 6

    def test_of_a_lying_picture_height_and_width_are_those_when_upright(self):
        data = encode(self.slope(), "JPEG", exif=exif(6))  # 240 wide and 400 high when upright
        picture = open_picture(data, enough=(200, 60))
        assert picture.image.size == (120, 200)
        assert (picture.width, picture.height) == (240, 400)
        assert picture.orientation == 6

    @pytest.mark.parametrize("format", ["PNG", "WEBP"])
    def test_other_formats_are_decoded_whole(self, format):
        assert open_picture(encode(self.slope(), format), enough=(30, 50)).image.size == (400, 240)

    @pytest.mark.parametrize("orientation", [1, 6])
    def test_an_opened_picture_is_not_turned_twice(self, orientation):
        first = open_picture(encode(self.slope(), "JPEG", exif=exif(orientation)))
        again = open_picture(first.image)
        assert np.array_equal(np.asarray(again.image), np.asarray(first.image))
