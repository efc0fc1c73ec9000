"""Draw the glyphs of one art style at one size, from the vectors or the pictures of its package."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from vitrail.data.emoji.concepts import code_of
from vitrail.data.emoji.fetch import members
from vitrail.errors import VitrailError

Drawing = str | bytes
"""An SVG document, or an encoded picture."""


def read_drawings(tarball: Path) -> dict[str, Drawing]:
    """The drawings of a package by the code of what they show, in either of the forms that packages come in.

    Those of Iconify hold the bodies of SVG documents in icons.json, under names that chars.json gives for code points;
    others hold one picture a file, named by code points.

    Raises:
        VitrailError: the tarball is damaged or holds no drawings.
    """
    tables: dict[str, Any] = {}
    pictures: dict[str, bytes] = {}
    for path, content in members(tarball):
        if path in ("icons.json", "chars.json"):
            tables[path] = json.loads(content)
        elif path.startswith("assets/") and path.endswith(".webp"):
            pictures[path] = content
    if len(tables) == 2:
        return {code_of(points): _svg(tables["icons.json"], name) for points, name in tables["chars.json"].items()}
    if pictures:  # a few are there twice, with and without fe0f in the name: sorted, so that it is always the same one
        return {code_of(Path(path).stem): pictures[path] for path in sorted(pictures)}
    raise VitrailError(f"{tarball} holds no drawings: neither icons.json with chars.json, nor assets/*.webp")


def render(drawing: Drawing, size: int) -> bytes:
    """A drawing as a PNG file of `size` × `size` pixels: RGBA, straight alpha.

    Raises:
        ValueError, OSError: the drawing is broken.
    """
    return _render_svg(drawing, size) if isinstance(drawing, str) else _render_picture(drawing, size)


def _svg(icons: dict[str, Any], name: str) -> str:
    """One icon of an IconifyJSON table as a document, on a square canvas: the few that are not square are centred."""
    icon = icons["icons"][name]
    left, top, width, height = (
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    side = max(width, height)
    left, top = left - (side - width) / 2, top - (side - height) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}">{icon["body"]}</svg>'
    )


def _render_svg(document: str, size: int) -> bytes:
    try:
        import resvg_py
    except ImportError:
        raise VitrailError("drawing emoji needs resvg-py: pip install 'vitrail[data]'") from None
    return bytes(resvg_py.svg_to_bytes(svg_string=document, width=size, height=size, skip_system_fonts=True))


def _render_picture(encoded: bytes, size: int) -> bytes:
    with Image.open(io.BytesIO(encoded), formats=["WEBP"]) as picture:
        image = picture.convert("RGBA")
    # Pillow weighs colours by alpha when it resizes RGBA, so transparent pixels do not darken the edges.
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
