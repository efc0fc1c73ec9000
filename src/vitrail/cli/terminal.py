"""Pictures in the terminal, where it shows any: by kitty's graphics protocol or by iTerm2's inline images."""

import base64
import io
import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

Protocol = Literal["kitty", "iterm"]

ROWS = 12
"""Lines of text that a picture is as high as."""

_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_KITTY_PROGRAMS = ("ghostty",)
_ITERM_PROGRAMS = ("iTerm.app", "WezTerm", "mintty")
_CHUNK = 4096  # the most of base64 that kitty takes at once


def protocol_of(stream: IO[str], environment: Mapping[str, str] = os.environ) -> Protocol | None:
    """How pictures are shown on a stream; None where it is no terminal, or one of which nobody knows that it can.

    Inside tmux and screen it is None: they swallow what they do not know.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if not stream.isatty() or "TMUX" in environment or term.startswith(("screen", "tmux", "dumb")):
        return None
    if term in _KITTY_TERMS or program in _KITTY_PROGRAMS or "KITTY_WINDOW_ID" in environment:
        return "kitty"
    if program in _ITERM_PROGRAMS or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def picture_codes(picture: "Image.Image", protocol: Protocol, number: int) -> str:
    """What to write to a terminal for a picture, `ROWS` lines high, from where the cursor is to the right and down.

    Args:
        picture: of any mode.
        protocol: the terminal's.
        number: above 0; with kitty a picture takes the place of an earlier one of this number.
    """
    file = io.BytesIO()
    picture.save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode("ascii")
    if protocol == "iterm":
        size = len(file.getvalue())
        return f"\x1b]1337;File=inline=1;size={size};height={ROWS};preserveAspectRatio=1:{text}\x07"
    chunks = [text[first : first + _CHUNK] for first in range(0, len(text), _CHUNK)]
    control = f"a=T,f=100,r={ROWS},i={number},q=2,C=1,"  # q=2: answer nothing; C=1: leave the cursor where it is
    return "".join(
        f"\x1b_G{control if place == 0 else ''}m={int(place < len(chunks) - 1)};{chunk}\x1b\\"
        for place, chunk in enumerate(chunks)
    )


def room() -> str:
    """What to write for `ROWS` empty lines; the cursor is then on the line below them."""
    return "\n" * ROWS


def above(codes: str) -> str:
    """`codes`, written where `room` made room right above the cursor's line, which stays where it is."""
    return f"\x1b7\r\x1b[{ROWS}A{codes}\x1b8"
