"""Write pictures to files."""

import os
from pathlib import Path

from PIL import Image

from vitrail.errors import UsageError
from vitrail.files import appearing

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def picture_format(path: str | os.PathLike) -> str:
    """Pillow's name of the format that a file's ending asks for.

    Raises:
        UsageError: another ending than .png, .jpg, .jpeg and .webp.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise UsageError(f"pictures are written to a .png, .jpg or .webp file, not to '{path}'")
    return _FORMATS[suffix]


def save_picture(picture: Image.Image, path: str | os.PathLike) -> None:
    """Write a picture in the format of the file's ending; the file appears whole or not at all.

    Raises:
        UsageError: as `picture_format`.
        VitrailError: it cannot be written.
    """
    format = picture_format(path)
    with appearing(Path(path)) as scratch:
        picture.save(scratch, format)
