import pytest

from vitrail.data.glyphs import Concept
from vitrail.data.scenes import SceneObject, Step, run, trace
from vitrail.data.scenes.programs import SIGNATURES
from vitrail.data.scenes.rationale import rationale
from vitrail.errors import VitrailError


def concept(code: str, english: str, chinese: str, group: str, subgroup: str) -> Concept:
    return Concept(code, code, english, chinese, (), (), group, subgroup, "none", "none")


FROG = concept("frog", "frog", "青蛙", "animals-nature", "animal-amphibian")
APPLE = concept("apple", "red apple", "红苹果", "food-drink", "food-fruit")
BUS = concept("bus", "bus", "公交车", "travel-places", "transport-ground")
CONCEPTS = {one.code: one for one in (FROG, APPLE, BUS)}

OBJECTS = (  # a bus left of an apple, and far below two frogs
    SceneObject(0, BUS, "flat", (15.0, 20.0), 0.3, 1.0),
    SceneObject(1, APPLE, "3d", (85.0, 20.0), 0.3, 1.0),
    SceneObject(2, FROG, "3d", (15.0, 95.0), 0.3, 1.0),
    SceneObject(2, FROG, "3d", (85.0, 95.0), 0.3, 1.0),
)
SCENE = Step("scene")


def all_of(code: str) -> Step:
    return Step("filter_concept", (SCENE,), code)


def the(code: str) -> Step:
    return Step("unique", (all_of(code),))


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (Step("count", (SCENE,)), 4),
        (Step("count", (all_of("frog"),)), 2),
        (Step("exist", (all_of("cat"),)), False),
        (Step("count", (Step("filter_style", (SCENE,), "3d"),)), 3),
        (Step("query_name", (Step("unique", (Step("filter_knowledge", (SCENE,), "edible"),)),)), "apple"),
        (Step("query_style", (the("bus"),)), "flat"),
        (Step("query_place", (the("apple"),)), "top right"),
        (Step("query_relation", (the("bus"), the("apple"))), "left"),
        (Step("same_style", (the("bus"), the("apple"))), False),
        (Step("all_same_style", (all_of("frog"),)), True),
        (Step("more", (Step("count", (all_of("frog"),)), Step("count", (all_of("bus"),)))), True),
        (Step("query_name", (Step("unique", (Step("relate", (the("bus"),), "right"),)),)), "apple"),
        (Step("count", (Step("relate", (the("apple"),), "below"),)), 2),
        (Step("count", (Step("relate", (the("apple"),), "above"),)), 0),
    ],
    ids=str,
)
def test_programs_give_what_the_scene_holds(program, answer):
    given = run(program, OBJECTS, 100)
    assert given == answer
    assert type(given) is type(answer)


def test_every_operation_has_a_case_above():
    used = {step.operation for mark in test_programs_give_what_the_scene_holds.pytestmark for step in _steps(mark)}
    assert used == set(SIGNATURES)


def _steps(mark) -> list[Step]:
    return [step for program, _ in mark.args[1] for step, _ in trace(program, OBJECTS, 100)]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Step("guess"), "no operation 'guess'"),
        (lambda: Step("count", (the("bus"),)), r"takes \(objects\), not \(object\)"),
        (lambda: Step("filter_style", (SCENE,)), "needs a style"),
        (lambda: Step("count", (SCENE,), "frog"), "needs no argument"),
        (lambda: Step("relate", (the("bus"),), "behind"), "no relation 'behind'"),
        (lambda: Step("filter_knowledge", (SCENE,), "heavy"), "no property 'heavy'"),
    ],
)
def test_ill_typed_programs_are_refused_before_they_run(build, sentence):
    with pytest.raises(VitrailError, match=sentence):
        build()


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (Step("query_style", (the("frog"),)), "should be one object and is 2"),
        (Step("query_style", (the("cat"),)), "should be one object and is 0"),
    ],
    ids=str,
)
def test_there_is_no_answer_where_there_is_not_one_of_it(program, sentence):
    with pytest.raises(VitrailError, match=sentence):
        run(program, OBJECTS, 100)


def test_unclear_places_and_relations_have_no_answer():
    between = (
        SceneObject(0, BUS, "flat", (33.0, 50.0), 0.3, 1.0),
        SceneObject(0, APPLE, "flat", (38.0, 54.0), 0.3, 1.0),
    )
    with pytest.raises(VitrailError, match="between two parts"):
        run(Step("query_place", (the("bus"),)), between, 100)
    with pytest.raises(VitrailError, match="neither clearly"):
        run(Step("query_relation", (the("bus"), the("apple"))), between, 100)


def test_a_program_reads_as_an_expression():
    program = Step("exist", (Step("filter_concept", (Step("relate", (the("apple"),), "left"),), "bus"),))
    assert str(program) == "exist(filter_concept[bus](relate[left](unique(filter_concept[apple](scene)))))"


def test_the_rationale_tells_the_steps_in_order():
    program = Step("exist", (Step("filter_concept", (Step("relate", (the("apple"),), "left"),), "bus"),))
    taken = trace(program, OBJECTS, 100)
    assert rationale(taken, CONCEPTS, "en") == (
        "In the picture: a bus, a red apple and two frogs.",
        "Look for red apples: a red apple.",
        "Look left of it: a bus.",
        "Look for buses: a bus.",
        "So the answer is: yes.",
    )
    assert rationale(taken, CONCEPTS, "zh") == (
        "图中有：一辆公交车、一个红苹果和两只青蛙。",
        "找红苹果：一个红苹果。",
        "看它的左边：一辆公交车。",
        "找公交车：一辆公交车。",
        "所以答案是：是。",
    )
