"""Draw a contact sheet of glyphs: some concepts of every group, each in every style."""

from collections import Counter

from PIL import Image, ImageDraw, ImageFont

from vitrail.data.glyphs import GlyphTable
from vitrail.data.splits import fraction

_GAP = 4
_PAPER, _INK = (245, 245, 245), (60, 60, 60)


def draw_glyphs(table: GlyphTable, *, columns: int = 16, seed: int = 0) -> Image.Image:
    """A sheet with a band for each group: one row a style, one column a concept, under the group's name.

    Args:
        table: what to draw from.
        columns: how many concepts of each group; first come those that the most styles draw.
        seed: another seed shows others.

    Returns an RGB image on light grey. A concept that a style does not draw leaves a hole.
    """
    groups: dict[str, list[str]] = {}
    for code, concept in table.concepts.items():
        groups.setdefault(concept.group, []).append(code)
    drawn = Counter(table.concept)
    cell, header = table.size + _GAP, 20
    band = header + len(table.styles) * cell
    font = ImageFont.load_default(12)
    sheet = Image.new("RGB", (columns * cell + _GAP, len(groups) * band + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (group, codes) in enumerate(groups.items()):
        pen.text((_GAP, row * band + _GAP), f"{group}: {', '.join(table.styles)}", fill=_INK, font=font)
        shown = sorted(codes, key=lambda code: (-drawn[code], fraction(f"sheet/{code}", seed)))[:columns]
        for column, code in enumerate(shown):
            for line, style in enumerate(table.styles):
                if table.has(code, style):
                    glyph = Image.fromarray(table.pictures[table.of(code, style)])
                    sheet.paste(glyph, (_GAP + column * cell, row * band + header + line * cell), glyph)
    return sheet
