"""When one thing is left of, right of, above or below another: clearly, clearly not, or hard to say."""

RELATIONS = ("left", "right", "above", "below")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
MARGIN = 0.12  # of the picture's side: nearer than this along an axis, no relation is claimed

Point = tuple[float, float]


def relates(relation: str, a: Point, b: Point, size: int) -> bool | None:
    """Whether a stands in a relation to b, or None where people would argue.

    It clearly does if a's centre lies at least `MARGIN` of the picture from b's in that direction and no further to
    the side than that (a cone of 45° either side). It clearly does not if a's centre is not in that direction at all.

    Args:
        relation: one of `RELATIONS`: where a is, seen from b.
        a: (x, y) centre in pixels, x to the right and y down.
        b: the same, of the other.
        size: the picture's side in pixels.
    """
    right, down = a[0] - b[0], a[1] - b[1]
    along, across = {"left": (-right, down), "right": (right, down), "above": (-down, right), "below": (down, right)}[
        relation
    ]
    if along <= 0:
        return False
    return True if along >= MARGIN * size and along >= abs(across) else None


def relation_of(a: Point, b: Point, size: int) -> str | None:
    """The one relation in which a clearly stands to b, or None."""
    return next((relation for relation in RELATIONS if relates(relation, a, b, size)), None)


CELL_MARGIN = 0.05  # of the picture's side, from the lines that part it in three


def cell_of(a: Point, size: int) -> int | None:
    """Which ninth of the picture a lies clearly inside: 0 top left, 4 the middle, 8 bottom right; or None."""

    def third(position: float) -> int | None:
        part = position / size
        if min(abs(part - 1 / 3), abs(part - 2 / 3)) < CELL_MARGIN:
            return None
        return min(int(part * 3), 2)

    column, row = third(a[0]), third(a[1])
    return None if column is None or row is None else row * 3 + column
