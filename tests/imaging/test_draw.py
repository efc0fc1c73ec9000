import numpy as np
import pytest
from PIL import Image

from tests.pictures import noise, odd_pictures, photograph
from vitrail.imaging import draw


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIELAB's L* of sRGB colours, 0 to 100."""
    linear = np.where(colours <= 10.31, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def plain(colour: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new("RGB", size, colour)


def where(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """Which pixels have exactly that colour, (H, W) booleans."""
    return (np.asarray(picture) == colour).all(-1)


def test_the_colour_map_grows_lighter_evenly():
    steps = np.diff(lightness(draw.colour_map(np.linspace(0, 1, 15)).astype(float)))
    assert (steps > 4).all()
    assert (steps < 8).all()


def test_the_colour_map_takes_any_shape_and_clips():
    colours = draw.colour_map(np.array([[-3.0, 0.0, 1.0, 7.0]]))
    assert colours.shape == (1, 4, 3)
    assert colours.dtype == np.uint8
    assert (colours[0, 0] == colours[0, 1]).all()
    assert (colours[0, 2] == colours[0, 3]).all()


def test_a_heat_map_is_hot_where_the_heat_is():
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    drawn = np.asarray(draw.heat_map(plain("grey", (80, 80)), heat)).astype(float)
    light = lightness(drawn)
    assert np.unravel_index(light.argmax(), light.shape) in [(y, x) for y in range(28, 32) for x in range(48, 52)]
    assert light[70, 10] < light[30, 50] - 20


def test_the_picture_shows_through_a_heat_map_as_far_as_asked():
    picture, heat = photograph(), np.full((7, 7), 0.5)
    detail = [np.asarray(draw.heat_map(picture, heat, alpha)).std((0, 1)).sum() for alpha in (0.2, 0.6, 1.0)]
    assert detail[0] > 1.5 * detail[1]
    flat = np.asarray(draw.heat_map(picture, heat, 1.0)).reshape(-1, 3)
    assert (flat == draw.colour_map(np.array(0.5))).all()


@pytest.mark.parametrize("kind", odd_pictures())
def test_pictures_of_every_mode_and_shape_can_be_drawn_on(kind):
    picture = odd_pictures()[kind]
    drawn = [draw.heat_map(picture, np.eye(3)), draw.mosaic(picture, np.ones((3, 5, 3)) / 2)]
    assert all(one.mode == "RGB" and one.size == picture.size for one in drawn)
    assert draw.sheet([picture, *drawn], ["a caption"] * 3, cell=64).mode == "RGB"


def test_a_mosaic_has_the_panes_of_its_grid_set_in_lead():
    colours = np.zeros((2, 3, 3))
    colours[0, 0] = 1, 0, 0
    colours[1, 2] = 0, 0, 1
    glass = draw.mosaic(plain("#808080", (90, 60)), colours)
    assert glass.getpixel((15, 15)) == (255, 0, 0)
    assert glass.getpixel((75, 45)) == (0, 0, 255)
    assert glass.getpixel((45, 15)) == (0, 0, 0)
    leaded = where(glass, draw.LEAD)
    assert leaded[:, (30, 60)].all()
    assert leaded[30].all()
    assert not leaded[:, 10:20][5:25].any()


def test_panes_too_small_for_lead_have_none():
    glass = draw.mosaic(plain("#808080", (90, 60)), np.ones((30, 30, 3)))
    assert not where(glass, draw.LEAD).any()


def test_the_picture_can_be_made_out_behind_a_mosaic():
    glass = draw.mosaic(photograph(), np.full((1, 1, 3), 0.5))
    behind, through = (np.asarray(one.convert("L"), dtype=float).ravel() for one in (photograph(), glass))
    assert np.corrcoef(behind, through)[0, 1] > 0.95


def test_a_frame_pales_what_is_outside_it():
    framed = draw.framed(plain("black", (100, 80)), (20.2, 9.8, 70.4, 60.1))
    assert framed.getpixel((45, 30)) == (0, 0, 0)
    assert min(framed.getpixel((5, 5))) > 100
    assert where(framed, draw.ACCENT)[10, 20:70].all()
    assert where(framed, draw.ACCENT)[10:60, 69].all()


def test_a_frame_around_everything_is_left_out():
    picture = photograph()
    assert draw.framed(picture, (-5, 0, picture.width, picture.height + 3)) is picture


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_a_frame_in_a_sliver_has_at_least_a_pixel(size):
    middle = size[0] / 2 - 0.2, size[1] / 2 - 0.2, size[0] / 2 + 0.2, size[1] / 2 + 0.2
    assert draw.framed(plain("black", size), middle).size == size


def test_bars_are_as_long_as_their_values():
    drawn = draw.bars(["half", "quarter", "none"], [0.5, 0.25, 0.0], (400, 150))
    accent = where(drawn, draw.ACCENT).sum(1)
    lengths = [accent[rows].max() for rows in (slice(0, 50), slice(50, 100), slice(100, 150))]
    assert lengths == pytest.approx([200, 100, 1], abs=2)


def test_a_long_name_does_not_run_into_its_value():
    short = where(draw.bars(["a"], [0.5], (300, 60)), draw.PAPER)
    long = where(draw.bars(["a name that goes on " * 20], [0.5], (300, 60)), draw.PAPER)
    assert (short[:, 240:] == long[:, 240:]).all()


def test_a_sheet_holds_every_picture_in_its_place():
    colours = [(255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    pictures = [Image.new("RGB", (150, 40 + 10 * number), colour) for number, colour in enumerate(colours)]
    drawn = draw.sheet(pictures, columns=2)
    places = []
    for picture, colour in zip(pictures, colours, strict=True):
        rows, columns = np.nonzero(where(drawn, colour))
        assert len(rows) == picture.width * picture.height
        places.append((rows.mean(), columns.mean()))
    assert places[0][0] == pytest.approx(places[1][0], abs=1)
    assert places[0][1] < places[1][1]
    assert places[1][0] < places[2][0] < places[4][0]
    assert places[0][1] == places[2][1] == places[4][1]


def test_a_sheet_is_nearly_square_unless_told():
    nine = [plain("red", (120, 120))] * 9
    assert draw.sheet(nine).width == draw.sheet(nine).height
    assert draw.sheet(nine, columns=9).width > 8 * draw.sheet(nine, columns=9).height / 2
    assert draw.sheet(nine[:2], columns=5).width < draw.sheet(nine[:3], columns=5).width


def test_a_sheet_scales_its_pictures_to_one_size():
    drawn = draw.sheet([plain("red", (10, 20)), plain("red", (400, 100))], columns=1, cell=200)
    assert where(drawn, (255, 0, 0)).sum() == 100 * 200 + 200 * 50


def test_captions_are_wrapped_below_their_picture():
    picture = plain("yellow", (200, 50))
    one, many = (draw.sheet([picture, picture], ["word", "word " * times], columns=2) for times in (1, 30))
    assert many.width == one.width
    assert many.height > one.height + 50
    ink = (np.asarray(many).sum(-1) < 300).nonzero()[1]
    middle = many.width // 2
    assert (ink < middle).sum() < (ink > middle).sum() / 10  # the long caption stands under the second picture
    assert ink.max() < many.width - 8


def test_a_caption_keeps_its_line_breaks():
    picture = plain("red", (200, 50))
    assert draw.sheet([picture], ["a\nb\nc"]).height > draw.sheet([picture], ["a b c"]).height + 20


def test_a_title_stands_above_all():
    picture = plain("red", (200, 50))
    without, titled = draw.sheet([picture]), draw.sheet([picture], title="A title " * 50)
    assert titled.width == without.width
    first_row = where(titled, (255, 0, 0)).any(1).argmax()
    assert (np.asarray(titled)[:first_row].sum(-1) < 300).any()


def test_the_times_sign_is_legible():
    picture = plain("red", (200, 50))
    assert draw.sheet([picture], ["3 × 4"], title="3 × 4") == draw.sheet([picture], ["3 x 4"], title="3 x 4")


def test_odd_captions_are_drawn():
    captions = ["", " ", "x" * 500, "貓在窗邊", "a\tb\x00c", "\n\n", "‮right to left"]
    assert draw.sheet([noise(30, 30)] * len(captions), captions).width > 0


def test_a_sheet_of_nothing_or_of_the_wrong_captions_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw.sheet([])
    with pytest.raises(ValueError, match="2 captions do not go with 1"):
        draw.sheet([plain("red")], ["a", "b"])


def test_chinese_is_wrapped_between_its_characters():
    font = draw._font(15, "图中有青蛙")
    text = "图中有一只青蛙和两个苹果，a frog and apples"
    width = font.getlength(text) / 4  # of characters, or of the boxes that another Pillow draws in their place
    lines = draw._wrapped(text, font, width)
    assert len(lines) > 3
    assert max(map(font.getlength, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert not any("…" in line for line in lines)
    assert draw._wrapped("a frog  and 两 个", font, 900) == ["a frog and 两 个"]


def test_chinese_is_drawn_where_the_system_has_a_font_for_it():
    if draw._chinese_font() is None:
        pytest.skip("this system has no font with Chinese characters")
    one, other = (np.asarray(draw.sheet([plain("red")], [text])) for text in ("青蛙", "苹果"))
    assert one.shape == other.shape
    assert (one != other).any()  # and not the same boxes
