import pytest

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.knowledge import has_property
from vitrail.data.scenes.nouns import article, counted, joined, listed, plural
from vitrail.data.scenes.things import confusable, nameable


def concept(english: str, chinese: str = "东西", subgroup: str = "tool") -> Concept:
    return Concept(english, "x", english, chinese, (), (), "objects", subgroup, "none", "none")


@pytest.mark.parametrize(
    "said",
    [
        *("a frog", "an apple", "a unicorn", "an hourglass", "a ewe", "an x-ray", "a one-piece swimsuit"),
        *("an e-mail", "an american football", "a yo-yo", "an octopus", "a uniform", "a T-Rex", "an ogre"),
    ],
)
def test_articles_follow_the_sound(said):
    assert article(said.split(" ", 1)[1]) == said


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("frog", "frogs"),
        ("fox", "foxes"),
        ("cherry", "cherries"),
        ("monkey", "monkeys"),
        ("computer mouse", "computer mice"),
        ("fallen leaf", "fallen leaves"),
        ("leaf fluttering in wind", "leaves fluttering in wind"),
        ("drop of blood", "drops of blood"),
        ("red triangle pointed up", "red triangles pointed up"),
        ("snowman without snow", "snowmen without snow"),
        ("tropical fish", "tropical fish"),
        ("potato", "potatoes"),
        ("piano", "pianos"),
        ("game die", "game dice"),
        ("paintbrush", "paintbrushes"),
        ("bus", "buses"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


@pytest.mark.parametrize(
    ("english", "chinese", "subgroup", "said"),
    [
        ("frog", "青蛙", "animal-amphibian", "两只青蛙"),
        ("snake", "蛇", "animal-reptile", "两条蛇"),
        ("horse", "马", "animal-mammal", "两匹马"),
        ("cow", "奶牛", "animal-mammal", "两头奶牛"),
        ("tulip", "郁金香", "plant-flower", "两朵郁金香"),
        ("bus", "公交车", "transport-ground", "两辆公交车"),
        ("motor boat", "摩托艇", "transport-water", "两艘摩托艇"),
        ("red apple", "红苹果", "food-fruit", "两个红苹果"),
        ("spider web", "蜘蛛网", "animal-bug", "两个蜘蛛网"),
        ("running shoe", "跑鞋", "clothing", "两只跑鞋"),
    ],
)
def test_chinese_measure_words(english, chinese, subgroup, said):
    assert counted(concept(english, chinese, subgroup), 2, "zh") == said


def test_lists_put_like_things_together():
    frog, apple = concept("frog", "青蛙", "animal-amphibian"), concept("red apple", "红苹果", "food-fruit")
    assert listed([frog, apple, frog], "en") == "two frogs and a red apple"
    assert listed([frog, apple, frog], "zh") == "两只青蛙和一个红苹果"
    assert listed([], "en") == "nothing"
    assert joined(["a", "b", "c"], "en") == "a, b and c"
    assert joined(["a"], "zh") == "a"


@pytest.mark.parametrize(
    ("name", "subgroup", "yes"),
    [
        ("frog", "animal-amphibian", True),
        ("bus", "transport-ground", True),
        ("octopus", "animal-marine", True),
        ("grapes", "food-fruit", False),
        ("bread", "food-prepared", False),
        ("fork and knife", "dishware", False),
        ("flag: Chad", "country-flag", False),
        ("grinning face", "face-smiling", False),
        ("twelve o’clock", "time", False),
    ],
)
def test_only_what_can_be_counted_takes_part(name, subgroup, yes):
    assert nameable(concept(name, subgroup=subgroup)) is yes


@pytest.mark.parametrize(
    ("a", "b", "mixed_up"),
    [
        (concept("dog", "狗"), concept("guide dog", "导盲犬"), True),
        (concept("red apple", "红苹果"), concept("green apple", "青苹果"), False),
        (concept("blue heart", "蓝心"), concept("light blue heart", "浅蓝心"), True),
        (concept("red apple", "红苹果"), concept("red envelope", "红包"), False),
        (concept("bird", "鸟", "animal-bird"), concept("duck", "鸭子", "animal-bird"), True),
        (concept("frog", "青蛙"), concept("bus", "公交车"), False),
        (concept("hat", "帽子"), concept("cap", "帽子"), True),
    ],
)
def test_names_that_get_mixed_up(a, b, mixed_up):
    assert confusable(a, b) is mixed_up
    assert confusable(b, a) is mixed_up


@pytest.mark.parametrize(
    ("name", "subgroup", "about", "answer"),
    [
        ("red apple", "food-fruit", "edible", True),
        ("hammer", "tool", "edible", False),
        ("shrimp", "animal-marine", "edible", None),
        ("bus", "transport-ground", "vehicle", True),
        ("stop sign", "transport-ground", "vehicle", False),
        ("horse", "animal-mammal", "vehicle", None),
        ("violin", "musical-instrument", "instrument", True),
        ("purse", "clothing", "wearable", None),
        ("cactus", "plant-other", "plant", True),
        ("teddy bear", "game", "animal", None),
    ],
)
def test_what_is_known_of_things(name, subgroup, about, answer):
    assert has_property(concept(name, subgroup=subgroup), about) is answer
