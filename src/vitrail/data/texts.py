"""What can be said of a glyph: its name in many wordings, its keywords, its group and its style, in two languages."""

from typing import Literal, get_args

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.dice import Dice
from vitrail.data.scenes.nouns import counted, style_name
from vitrail.data.scenes.things import nameable

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_GROUPS = {  # Unicode's groups of emoji
    "smileys-emotion": ("smileys and emotion", "笑脸与情感"),
    "people-body": ("people and body", "人物与身体"),
    "component": ("component", "组件"),
    "animals-nature": ("animals and nature", "动物与自然"),
    "food-drink": ("food and drink", "食物与饮料"),
    "travel-places": ("travel and places", "旅行与地点"),
    "activities": ("activities", "活动"),
    "objects": ("objects", "物品"),
    "symbols": ("symbols", "符号"),
    "flags": ("flags", "旗帜"),
}


def group_name(group: str, language: str) -> str:
    """What a group of concepts is called: "animals and nature", "动物与自然"."""
    english, chinese = _GROUPS[group]
    return chinese if language == "zh" else english


def names(concept: Concept, language: str) -> tuple[str, ...]:
    """The texts that a test calls a concept by: "a frog", "frog", "a picture of a frog"; "青蛙", "一只青蛙", …

    What cannot be counted, as "grinning face", has no article and no number.
    """
    said = _noun(concept, language)
    if language == "zh":
        return tuple(dict.fromkeys((concept.name_zh, said, f"{concept.name_zh}的图片")))
    return tuple(dict.fromkeys((said, concept.name_en, f"a picture of {said}")))


def group_names(group: str, language: str) -> tuple[str, ...]:
    """The texts that a test calls a group by."""
    name = group_name(group, language)
    return (name, f"{name}的图片") if language == "zh" else (name, f"a picture of {name}")


def in_style(said: str, style: str, language: str) -> str:
    """With the art style: "a frog, flat style", "扁平风格的青蛙"."""
    look = style_name(style, language)
    return f"{look}风格的{said}" if language == "zh" else f"{said}, {look} style"


def sayings(concept: Concept, style: str, language: str, dice: Dice) -> list[str]:
    """Everything that training may say of a glyph.

    Args:
        concept: what it shows.
        style: the art style it is drawn in.
        language: "en" or "zh".
        dice: draws which keywords are said, and in which order.
    """
    said, group = _noun(concept, language), group_name(concept.group, language)
    if language == "zh":
        name, keywords = concept.name_zh, _keywords(concept.keywords_zh, "、", dice)
        sentences = [f"一张{name}的图片", f"这是{said}", f"画着{said}的图"]
        sentences += [in_style(name, style, language), f"{name}，{group}"]
    else:
        name, keywords = concept.name_en, _keywords(concept.keywords_en, ", ", dice)
        sentences = [f"an emoji of {said}", f"this is {said}", f"there is {said}"]
        sentences += [in_style(said, style, language), f"{name}, {group}"]
    return [*names(concept, language), *sentences, group, *keywords]


def _noun(concept: Concept, language: str) -> str:
    """ "a frog", "一只青蛙"; "grinning face", "嘿嘿"."""
    if nameable(concept):
        return counted(concept, 1, language)
    return concept.name_zh if language == "zh" else concept.name_en


def _keywords(words: tuple[str, ...], comma: str, dice: Dice) -> list[str]:
    """Two lists of some keywords, each of three or more where there are so many: a single one says too little."""
    return [comma.join(dice.shuffled(words)[: dice.integer(3, max(3, len(words)))]) for _ in range(2 if words else 0)]
