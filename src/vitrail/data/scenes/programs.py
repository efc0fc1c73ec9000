"""The steps behind an answer, as a small typed program that can be run on what is known of a scene.

A program is an expression: `count(filter_concept[1f438](scene))` counts frogs. After CLEVR's functional programs
(Johnson et al., CVPR 2017, section 3.2 and supplement A), with the relations made three-valued by `relates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.data.scenes.knowledge import PROPERTIES, has_property
from vitrail.data.scenes.objects import SceneObject
from vitrail.data.scenes.relations import RELATIONS, cell_of, relates, relation_of
from vitrail.errors import VitrailError

Objects = tuple[SceneObject, ...]
Value = Objects | SceneObject | bool | int | str

SIGNATURES: dict[str, tuple[tuple[str, ...], str | None, str]] = {
    # operation: (what it takes, what its argument names, what it gives)
    "scene": ((), None, "objects"),
    "filter_concept": (("objects",), "concept", "objects"),
    "filter_style": (("objects",), "style", "objects"),
    "filter_knowledge": (("objects",), "property", "objects"),
    "unique": (("objects",), None, "object"),
    "relate": (("object",), "relation", "objects"),
    "count": (("objects",), None, "number"),
    "exist": (("objects",), None, "truth"),
    "more": (("number", "number"), None, "truth"),
    "query_name": (("object",), None, "concept"),
    "query_style": (("object",), None, "style"),
    "query_place": (("object",), None, "place"),
    "query_relation": (("object", "object"), None, "relation"),
    "same_style": (("object", "object"), None, "truth"),
    "all_same_style": (("objects",), None, "truth"),
}


@dataclass(frozen=True)
class Step:
    """One operation on the results of others; a program is its last step.

    Attributes:
        operation: one of `SIGNATURES`.
        inputs: the steps whose results it takes, of the kinds its signature asks for.
        argument: a concept's code, a style, a relation, or a property's name, where the operation has one; else None.

    Raises:
        VitrailError: it does not fit its signature.
    """

    operation: str
    inputs: tuple["Step", ...] = ()
    argument: str | None = None

    def __post_init__(self) -> None:
        if self.operation not in SIGNATURES:
            raise VitrailError(f"there is no operation '{self.operation}': there are {', '.join(SIGNATURES)}")
        takes, names, _ = SIGNATURES[self.operation]
        given = tuple(step.gives for step in self.inputs)
        if given != takes:
            raise VitrailError(f"'{self.operation}' takes ({', '.join(takes)}), not ({', '.join(given)})")
        if (self.argument is None) != (names is None):
            raise VitrailError(f"'{self.operation}' needs {'no argument' if names is None else f'a {names}'}")
        known: Sequence[str | None] = {"relation": RELATIONS, "property": tuple(PROPERTIES)}.get(names or "", ())
        if known and self.argument not in known:
            raise VitrailError(f"there is no {names} '{self.argument}': there are {', '.join(map(str, known))}")

    @property
    def gives(self) -> str:
        """The kind of its result."""
        return SIGNATURES[self.operation][2]

    def __str__(self) -> str:
        argument = "" if self.argument is None else f"[{self.argument}]"
        inputs = f"({', '.join(map(str, self.inputs))})" if self.inputs else ""
        return f"{self.operation}{argument}{inputs}"


def trace(program: Step, objects: Objects, size: int) -> list[tuple[Step, Value]]:
    """Run a program on a scene's ground truth and keep what every step gave, in the order in which they are taken.

    Args:
        program: its last step.
        objects: what stands in the scene.
        size: the picture's side in pixels.

    Raises:
        VitrailError: a step has no answer on this scene: "the frog" where there are two.
    """
    taken: list[tuple[Step, Value]] = []
    inputs: list[Value] = []
    for step in program.inputs:
        taken += trace(step, objects, size)
        inputs.append(taken[-1][1])
    return [*taken, (program, _apply(program, inputs, objects, size))]


def run(program: Step, objects: Objects, size: int) -> Value:
    """What a program gives on a scene's ground truth; see `trace`."""
    return trace(program, objects, size)[-1][1]


def _apply(step: Step, inputs: Sequence[Value], objects: Objects, size: int) -> Value:
    """One operation on values already of the right kinds (a Step cannot be built otherwise)."""
    match step.operation, tuple(inputs):
        case "scene", ():
            return objects
        case "filter_concept", (tuple(among),):
            return tuple(one for one in among if one.concept.code == step.argument)
        case "filter_style", (tuple(among),):
            return tuple(one for one in among if one.style == step.argument)
        case "filter_knowledge", (tuple(among),):
            return tuple(one for one in among if has_property(one.concept, str(step.argument)))
        case "unique", (tuple(among),):
            if len(among) != 1:
                raise VitrailError(f"'{step}' should be one object and is {len(among)}")
            return among[0]
        case "relate", (SceneObject() as one,):
            return tuple(
                other
                for other in objects
                if other is not one and relates(str(step.argument), other.centre, one.centre, size)
            )
        case "count", (tuple(among),):
            return len(among)
        case "exist", (tuple(among),):
            return len(among) > 0
        case "more", (int(first), int(second)):
            return first > second
        case "query_name", (SceneObject() as one,):
            return one.concept.code
        case "query_style", (SceneObject() as one,):
            return one.style
        case "query_place", (SceneObject() as one,):
            place = cell_of(one.centre, size)
            if place is None:
                raise VitrailError(f"'{step}' is between two parts of the picture")
            return PLACES[place]
        case "query_relation", (SceneObject() as one, SceneObject() as other):
            relation = relation_of(one.centre, other.centre, size)
            if relation is None:
                raise VitrailError(f"'{step}' is neither clearly beside nor clearly above or below")
            return relation
        case "same_style", (SceneObject() as one, SceneObject() as other):
            return one.style == other.style
        case "all_same_style", (tuple(among),):
            return len({one.style for one in among}) <= 1
    raise AssertionError(f"no rule for {step}")  # every signature has one above


PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "middle",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
"""The nine parts of a picture, as `cell_of` numbers them."""
