"""Say how an answer was found, step by step, in words: what a model that explains itself is trained on."""

from collections.abc import Mapping, Sequence

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.knowledge import PROPERTIES
from vitrail.data.scenes.nouns import article, listed, plural, style_name
from vitrail.data.scenes.programs import PLACES, Step, Value

_PLACES_EN = tuple(
    "in the middle" if place == "middle" else f"on the {place}" if place in ("left", "right") else f"at the {place}"
    for place in PLACES
)
_PLACES_ZH = ("左上角", "上方", "右上角", "左边", "中间", "右边", "左下角", "下方", "右下角")
_RELATIONS_EN = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_RELATIONS_ZH = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}


def said(relation: str, language: str) -> str:
    """A relation in words: "left of", "左边"."""
    return (_RELATIONS_ZH if language == "zh" else _RELATIONS_EN)[relation]


def answer_text(program: Step, value: Value, concepts: Mapping[str, Concept], language: str) -> str:
    """The result of a program as a short answer: "yes", "3", "a frog", "flat", "left of", "at the top left".

    Args:
        program: what was run.
        value: what it gave: a truth, a number or a name, not objects.
        concepts: what is known about each concept, by its code.
        language: "en" or "zh".
    """
    chinese = language == "zh"
    match program.gives, value:
        case "truth", bool(truth):
            return ("是" if truth else "否") if chinese else ("yes" if truth else "no")
        case "concept", str(code):
            return concepts[code].name_zh if chinese else article(concepts[code].name_en)
        case "style", str(style):
            return style_name(style, language)
        case "place", str(place):
            return (_PLACES_ZH if chinese else _PLACES_EN)[PLACES.index(place)]
        case "relation", str(relation):
            return said(relation, language)
    return str(value)


def rationale(taken: Sequence[tuple[Step, Value]], concepts: Mapping[str, Concept], language: str) -> tuple[str, ...]:
    """Each step of a `trace` that says something, as a sentence.

    Returns sentences such as "Look for frogs: two frogs.", "Look left of it: a dog.", "So the answer is yes."
    """
    write = _steps_zh if language == "zh" else _steps_en
    sentences = dict.fromkeys(sentence for step, value in taken if (sentence := write(step, value, concepts)))
    program, value = taken[-1]
    answer = answer_text(program, value, concepts, language)
    return (*sentences, f"所以答案是：{answer}。" if language == "zh" else f"So the answer is: {answer}.")


def _seen(value: Value, language: str) -> str:
    assert isinstance(value, tuple)
    return listed([one.concept for one in value], language)


def _steps_en(step: Step, value: Value, concepts: Mapping[str, Concept]) -> str:
    argument = step.argument or ""
    match step.operation, value:
        case "filter_concept", _:
            return f"Look for {plural(concepts[argument].name_en)}: {_seen(value, 'en')}."
        case "filter_style", _:
            return f"Keep what is drawn in the {style_name(argument, 'en')} style: {_seen(value, 'en')}."
        case "filter_knowledge", _:
            return f"Keep those that {PROPERTIES[argument].are_en}: {_seen(value, 'en')}."
        case "relate", _:
            return f"Look {said(argument, 'en')} it: {_seen(value, 'en')}."
        case "count", _:
            return f"Count: {value}."
        case "query_style", str(style):
            return f"It is drawn in the {style_name(style, 'en')} style."
        case "more", _:
            return f"The first number is {'' if value else 'not '}greater."
        case (("same_style" | "all_same_style"), _):
            return f"Compare the styles: {'the same' if value else 'not the same'}."
        case "scene", _ if isinstance(value, tuple):
            return f"In the picture: {_seen(value, 'en')}."
    return ""


def _steps_zh(step: Step, value: Value, concepts: Mapping[str, Concept]) -> str:
    argument = step.argument or ""
    match step.operation, value:
        case "filter_concept", _:
            return f"找{concepts[argument].name_zh}：{_seen(value, 'zh')}。"
        case "filter_style", _:
            return f"其中{style_name(argument, 'zh')}风格的：{_seen(value, 'zh')}。"
        case "filter_knowledge", _:
            return f"其中{PROPERTIES[argument].are_zh}的：{_seen(value, 'zh')}。"
        case "relate", _:
            return f"看它的{said(argument, 'zh')}：{_seen(value, 'zh')}。"
        case "count", _:
            return f"数一数：{value}。"
        case "query_style", str(style):
            return f"它是{style_name(style, 'zh')}风格。"
        case "more", _:
            return f"第一个数{'' if value else '不'}更大。"
        case (("same_style" | "all_same_style"), _):
            return f"比较风格：{'相同' if value else '不同'}。"
        case "scene", _ if isinstance(value, tuple):
            return f"图中有：{_seen(value, 'zh')}。"
    return ""
