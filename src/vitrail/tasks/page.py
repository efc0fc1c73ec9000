"""Reports as pages on their own: one look, pictures and styles inside, no scripts, nothing fetched from elsewhere."""

import base64
import io
from functools import cache
from typing import Any

import jinja2
from PIL import Image


def render(template: str, **names: Any) -> str:
    """A page from one of this folder's templates, which extend "page.html.jinja".

    Args:
        template: "report.html.jinja", …
        names: what the template speaks of.
    """
    return _environment().get_template(template).render(names)


def data_uri(picture: Image.Image, format: str = "JPEG") -> str:
    """A picture as an address that holds it: "JPEG" for photographs, "PNG" for drawings."""
    file = io.BytesIO()
    picture.save(file, format, quality=88, optimize=True)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def file_size(count: int) -> str:
    """ "38 kB"."""
    for size, unit in ((1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def duration(seconds: float) -> str:
    """ "38 ms", "3.8 s", "38 min"."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def count(number: int) -> str:
    """ "4.65 million"."""
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vitrail.tasks", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(file_size=file_size, duration=duration, count=count)
    return environment
