"""Open one picture, whatever it comes as, and give it back upright in 8-bit RGB or say in one sentence why not.

Files are judged by their content and never by their ending, and only the raster formats that Pillow decodes itself are
tried: no format that would start another program (EPS, WMF, PDF). Nothing here changes a setting of Pillow's.
"""

import io
import os
import stat
import sys
from dataclasses import dataclass
from functools import cache
from typing import IO, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from vitrail.errors import ImageError
from vitrail.imaging.fetch import fetch

Source = str | os.PathLike | bytes | Image.Image | np.ndarray
"""What a picture can be opened from: a path, an http(s) URL, "-" (standard input), bytes, an image, an array."""

MAX_PIXELS = 178_956_970
"""The most pixels a picture may have: where Pillow, too, refuses, a gibibyte of 24-bit pixels being half of this."""

MAX_STREAM_BYTES = 512 * 2**20
"""The most that is read from standard input or a pipe, which have to be held in memory whole."""

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # an MPO is a JPEG followed by more, and Pillow says which
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "ICO": (".ico",),
    "TGA": (".tga",),  # has no signature, so it is tried last
}
"""The formats that are decoded, in the order they are tried, and the endings their files have."""

_ORIENTATION = 0x0112  # the EXIF and TIFF tag

_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LYING = (5, 6, 7, 8)  # those whose height is the upright picture's width


@dataclass(frozen=True)
class Picture:
    """A picture, decoded completely, with the facts of the file it came from.

    Attributes:
        image: the pixels, upright (the EXIF orientation is applied and gone), mode "RGB", 8 bits a channel.
        name: what the user would recognise: the path or URL as given, "-" for standard input, else "<bytes>",
            "<image>" or "<array>".
        format: "JPEG", "PNG", …; None for arrays and for PIL images made in memory.
        mode: Pillow's name for the pixels as stored: "RGB", "CMYK", "P", "I;16", …
        orientation: the EXIF orientation tag as stored, 1 when there is none or it cannot be read.
        file_size: bytes of the encoded file; None for arrays and PIL images.
        alpha: the opacity, upright, mode "L"; None where every pixel is opaque or the file cannot say.
        whole: (width, height) of the upright picture as its file holds it, where `image` is a reduced one; or None.
    """

    image: Image.Image
    name: str
    format: str | None
    mode: str
    orientation: int
    file_size: int | None
    alpha: Image.Image | None = None
    whole: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        """Pixels across, of the upright picture, whole."""
        return (self.whole or self.image.size)[0]

    @property
    def height(self) -> int:
        """Pixels down, of the upright picture, whole."""
        return (self.whole or self.image.size)[1]


def open_picture(
    source: Source,
    *,
    name: str | None = None,
    allow_private: bool = False,
    enough: tuple[int, int] | None = None,
) -> Picture:
    """Open a picture from a path, a URL, encoded bytes, a PIL image or an array.

    Of a file with several frames the first is taken. Conversion to RGB is that of `to_rgb`.

    Args:
        source: a path; a string that starts with http:// or https://; the string "-" for standard input; encoded
            bytes; a PIL image (its EXIF orientation is applied); or an array: uint8, or floats in [0, 1] (scaled by 255
            and rounded), of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), the fourth channel being alpha.
        name: what to call the picture instead of the name its source gives.
        allow_private: fetch from addresses that are not public, too.
        enough: the (height, width), upright and in pixels, that are enough: a JPEG file that is larger is decoded at
            half, a quarter or an eighth of its size, the smallest that has them, which is several times as fast and
            not quite what decoding all of it and scaling it down would give. Unless said it is decoded whole.

    Raises:
        ImageError: one sentence that names the picture: it is missing, unreadable, empty, too large, damaged, not a
            picture, or cannot be fetched.
    """
    name = name_of(source) if name is None else name
    shown = printable(name)
    if isinstance(source, Image.Image):
        return _decode(source, name, file_size=None)
    if isinstance(source, np.ndarray):
        return _decode(_from_array(source, shown), name, file_size=None)
    if isinstance(source, bytes):
        return _from_file(io.BytesIO(source), name, len(source), enough)
    if isinstance(source, str) and source == "-":
        return open_picture(read_standard_input(), name=name, enough=enough)
    if isinstance(source, str) and is_url(source):
        return open_picture(fetch(source, allow_private=allow_private), name=name, enough=enough)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fsdecode(source), name, enough)
    raise ImageError(
        f"A picture cannot be opened from {shown}: give a path, a URL, encoded bytes, a PIL image or a NumPy array."
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """`to_mode(image, "RGB")`."""
    return to_mode(image, "RGB")


def to_mode(image: Image.Image, mode: Literal["RGB", "L"]) -> Image.Image:
    """Convert to 8-bit RGB or grey as `PIL.Image.Image.convert` does, save for deep greys, which that turns white.

    As the reference image processors do: alpha is dropped (not blended), palettes are looked up, CMYK, YCbCr and LAB
    become RGB. Pillow clips greys deeper than 8 bits at 255; here they are scaled to 0–255 and rounded instead:

    - "I;16", "I;16B", …: white is 65535, whatever the values are (12-bit data in a 16-bit file stays dark).
    - "I" (32-bit integers; also Pillow's mode for 16-bit PGM files): white is 65535 in a PGM file or when any value is
      above 255; otherwise white is 255.
    - "F" (32-bit floats): white is 1 when all values lie in [0, 1]; otherwise white is 255.

    Returns a new image; `image` is loaded if it was not, and not changed otherwise.

    Raises:
        ImageError: values of an "I" image outside 0–65535, or of an "F" image outside 0–255 or not finite, whose scale
            cannot be known.
    """
    if image.mode.startswith("I;16"):
        return _from_deep_grey(np.asarray(image) / 257, mode)
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        lowest, highest = values.min(initial=0), values.max(initial=0)
        limit = 65535 if image.mode == "I" else 255
        if not (lowest >= 0 and highest <= limit):  # a NaN, too, fails this
            raise ImageError(
                f"its grey values run from {lowest:g} to {highest:g}, on a scale that cannot be known: "
                f"scale them to 0–{limit} first."
            )
        if image.mode == "I" and (image.format == "PPM" or highest > 255):
            return _from_deep_grey(values / 257, mode)
        if image.mode == "F" and highest <= 1:
            return _from_deep_grey(values * 255.0, mode)
    if image.mode == "LAB":
        image = image.convert("RGB")  # the only way out of LAB that Pillow has
    elif image.mode == "La":
        image = image.convert("LA")  # likewise
    return image.convert(mode)


def alpha_of(image: Image.Image) -> Image.Image | None:
    """The opacity of each pixel, mode "L"; None where the picture says nothing of it, as 16-bit greys cannot."""
    if image.mode.startswith("I") or not image.has_transparency_data:
        return None
    return image.convert("RGBA").getchannel("A")


def name_of(source: Source) -> str:
    """What the user would recognise a source by: a path or URL as given, "-", "<bytes>", "<image>", "<array>"."""
    if isinstance(source, bytes):
        return "<bytes>"
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    if isinstance(source, Image.Image):
        return "<image>"
    if isinstance(source, np.ndarray):
        return "<array>"
    return f"<{type(source).__name__}>"


def is_url(text: str) -> bool:
    """Whether a string is an http(s) URL and not a path."""
    return text.lower().startswith(("http://", "https://"))


def printable(name: str) -> str:
    """The name as it may stand in a sentence: one with line breaks, terminal codes or undecodable bytes is escaped."""
    return name if name.isprintable() else ascii(name)


def read_standard_input() -> bytes:
    """All of standard input.

    Raises:
        ImageError: it is closed, empty, fails, or is longer than `MAX_STREAM_BYTES`.
    """
    if sys.stdin is None:
        raise ImageError("Standard input is closed: there is no picture to read from it.")
    try:
        data = _read_stream(sys.stdin.buffer, "Standard input")
    except OSError as error:
        raise ImageError(f"Standard input cannot be read: {error.strerror}.") from error
    if not data:
        raise ImageError("Standard input is empty: there is no picture to read from it.")
    return data


def _read_stream(stream: IO[bytes], shown: str) -> bytes:
    data = stream.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise ImageError(f"{shown} holds more than {MAX_STREAM_BYTES // 2**20} MiB: save it to a file and open that.")
    return data


def _from_path(path: str, name: str, enough: tuple[int, int] | None) -> Picture:
    shown = printable(name)
    try:
        # Pillow is given the open file and not its path: it would map a raw file by path into memory, and a mapped
        # file that another program shortens kills this one.
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISFIFO(status.st_mode):
                data = _read_stream(file, shown)
                return _from_file(io.BytesIO(data), name, len(data), enough)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{shown} is a device and not a file.")
            return _from_file(file, name, status.st_size, enough)
    except FileNotFoundError as error:
        raise ImageError(f"{shown}: there is no such file.") from error
    except OSError as error:
        if os.path.isdir(path):
            raise ImageError(f"{shown} is a folder: name a picture in it.") from error
        if isinstance(error, PermissionError):
            raise ImageError(f"{shown}: you are not permitted to read this file.") from error
        raise ImageError(f"{shown} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(f"{shown}: there is no such file.") from error


def _from_file(file: IO[bytes], name: str, file_size: int, enough: tuple[int, int] | None) -> Picture:
    shown = printable(name)
    if file_size == 0:
        raise ImageError(f"{shown} is empty.")
    try:
        image = Image.open(file, formats=_formats())
    except UnidentifiedImageError as error:
        file.seek(0)
        raise ImageError(f"{shown} {_what_it_is(file.read(1024))}") from error
    except Exception as error:
        raise _damaged(shown, error) from error
    return _decode(image, name, file_size, enough)


@cache
def _formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that the installed Pillow can read."""
    Image.init()
    return tuple(format for format in FORMATS if format in Image.OPEN)


def _decode(image: Image.Image, name: str, file_size: int | None, enough: tuple[int, int] | None = None) -> Picture:
    shown = printable(name)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{shown} says it is {image.width} × {image.height} pixels, more than the {MAX_PIXELS:,} allowed: "
            "make it smaller first."
        )
    format, mode, whole = image.format, image.mode, None
    try:
        # Pillow turns a TIFF upright while loading it, and forgets the tag; of a PNG the tag may come after the pixels.
        turned = _orientation(image) if format == "TIFF" else 1
        if enough is not None and format == "JPEG":
            whole = _reduce(image, enough)
        image.load()
        orientation = _orientation(image)
        ours = file_size is not None and image.mode == "RGB"  # then a copy, of 36 MB for a photograph, would be waste
        upright, alpha = image if ours else to_rgb(image), alpha_of(image)
        if orientation in _TURN_UPRIGHT:
            upright = upright.transpose(_TURN_UPRIGHT[orientation])
            alpha = alpha and alpha.transpose(_TURN_UPRIGHT[orientation])
    except ImageError as error:
        raise ImageError(f"{shown}: {error}") from error
    except Exception as error:
        # Not a list of types: for hostile bytes Pillow raises nearly all there are, and nothing but Pillow runs here.
        raise _damaged(shown, error) from error
    if not (upright.width and upright.height):
        raise ImageError(f"{shown} has no pixels.")
    upright.info = {}  # or whoever opens this image again would turn it again
    return Picture(upright, name, format, mode, turned if orientation == 1 else orientation, file_size, alpha, whole)


def _reduce(image: Image.Image, enough: tuple[int, int]) -> tuple[int, int]:
    """Have a JPEG file decoded at the smallest size that has `enough` = (height, width) pixels when upright.

    Gives the whole picture's (width, height) when upright.
    """
    width, height = image.size
    lying = _orientation(image) in _LYING
    image.draft(None, enough if lying else (enough[1], enough[0]))
    return (height, width) if lying else (width, height)


def _orientation(image: Image.Image) -> int:
    """The orientation tag, 1 when it is missing or the EXIF data is beyond reading, which is no reason to fail."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _damaged(shown: str, error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError(f"{shown} does not fit in memory.")
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"{shown} has more than the {MAX_PIXELS:,} pixels allowed: make it smaller first.")
    reason = printable(" ".join(str(error).split()))[:120] or type(error).__name__
    return ImageError(f"{shown} is damaged or cut short and cannot be decoded ({reason}).")


def _what_it_is(head: bytes) -> str:
    """How the sentence about a file that is no picture we read goes on; `head` is its first kilobyte."""
    text = head.lower()
    if b"<svg" in text:
        return "is an SVG drawing: convert it to PNG first."
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        return "is a HEIC picture: convert it to JPEG or PNG first."
    if head.startswith(b"%PDF"):
        return "is a PDF document: convert its pages to PNG first."
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "is a PostScript drawing: convert it to PNG first."
    if b"<html" in text or b"<!doctype html" in text:
        return "is a web page and not a picture."
    return f"is not a picture, or not in a format that can be read ({', '.join(_formats())})."


def _from_array(array: np.ndarray, shown: str) -> Image.Image:
    described = f"{shown} is an array of shape {array.shape} and type {array.dtype}"
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "; its channels seem to come first: give array.transpose(1, 2, 0)"
        raise ImageError(f"{described}, where (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is needed{hint}.")
    if np.issubdtype(array.dtype, np.floating):
        if array.size and not (array.min() >= 0 and array.max() <= 1):  # a NaN, too, fails this
            raise ImageError(f"{described}, whose values are not all between 0 and 1: scale them, or give uint8.")
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(f"{described}, where uint8 or a floating type with values in [0, 1] is needed.")
    if not array.size:
        raise ImageError(f"{described}: it has no pixels.")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and channels == 1 else array)


def _from_deep_grey(values: np.ndarray, mode: Literal["RGB", "L"]) -> Image.Image:
    """Greys in 0–255, not yet rounded, as an image."""
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert(mode)
