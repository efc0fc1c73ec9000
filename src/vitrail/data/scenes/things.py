"""Which concepts scenes are made of, and which of them must not be in one picture because their names get mixed up."""

import re
from functools import cache

from vitrail.data.glyphs import Concept

# --- which concepts are things with a countable name ---

_SUBGROUPS = re.compile(
    "animal-.*|plant-.*|food-.*|drink|dishware|place-.*|transport-ground|transport-water|transport-air|hotel|time|"
    "sky-weather|event|award-medal|sport|game|arts-crafts|clothing|sound|music|musical-instrument|phone|computer|"
    "light-video|book-paper|money|mail|writing|office|lock|tool|science|medical|household|other-object|heart|"
    "face-costume|geometric"
)

_NOT_THINGS = re.compile(  # stuff, games, happenings; names that are not a thing's in one of the languages
    "coral|herb|blossom|bread|baguette bread|flatbread|stuffed flatbread|bacon|popcorn|butter|salt|cooked rice|"
    "curry rice|spaghetti|oden|sushi|canned food|garlic|broccoli|leafy green|shaved ice|sake|mate|ice|custard|"
    "pouring liquid|cooking|green salad|fried shrimp|roasted sweet potato|hot beverage|steaming bowl|wine glass|"
    "beer mug|teacup without handle|fondue|tropical drink|bottle with popping cork|cocktail glass|bowl with spoon|"
    "construction|light rail|mountain railway|motorway|airplane departure|airplane arrival|suspension railway|"
    "luggage|hourglass not done|building construction|wood|wedding|Tokyo tower|Statue of Liberty|kaaba|camping|"
    "mount fuji|foggy|night with stars|cityscape|cityscape at dusk|sunrise over mountains|sunrise|sunset|"
    "bridge at night|"
    "barber pole|fog|high voltage|milky way|fire|moon viewing ceremony|tennis|bowling|cricket game|field hockey|"
    "ice hockey|lacrosse|ping pong|badminton|ice skate|video game|joker|mahjong red dragon|thread|yarn|bell with slash|"
    "money with wings|low battery|dna|soap|shower|bullseye|diya lamp|snowman|wind face|beach with umbrella|"
    "chess pawn|page facing up|camera with flash|mobile phone with arrow|incoming envelope|envelope with arrow|"
    "locked|unlocked|locked with pen|locked with key|cloud with rain|cloud with snow|cloud with lightning|"
    "sun behind cloud|sun behind small cloud|sun behind large cloud|sun behind rain cloud|litter|brick|rock|hamsa|"
    "hair pick|sheaf of rice|worm|bug|sauropod|cut of meat|chestnut|red paper lantern|safety vest|headphone|"
    "heart with arrow|broken heart|mending heart|heart on fire|heart exclamation|beating heart|growing heart|"
    "chart increasing with yen|flower playing cards|martial arts uniform|radio button|mirror ball|cheese wedge|"
    "skis|hourglass done|speaker low volume|speaker medium volume|speaker high volume|chart increasing|"
    "chart decreasing|meat on bone"
)
_ODD_WORDS = re.compile(  # pairs, places, clock faces, sizes that a picture does not show
    r" and |o’clock|-thirty|showing|mailbox|"
    r"\b(?:Japan|Japanese|suit|button|small|medium|large|medium-small|oncoming|derelict)\b"
)
_SINGULAR_S = re.compile(r"(?:ss|us|is|os|lens|[^a-z]s)$", re.IGNORECASE)


def parted(name: str) -> tuple[str, str]:
    """What is counted, and what is said of it: ("leaf", " fluttering in wind"), ("glass", " of milk")."""
    found = re.search(r" (?:of|with|without|in|on|at|behind|facing|fluttering|tilted|pointed) ", name)
    return (name, "") if found is None else (name[: found.start()], name[found.start() :])


@cache
def nameable(concept: Concept) -> bool:
    """Whether a concept is a thing that can be counted and has a name to count it by, in English and in Chinese.

    Faces, gestures, people, flags, signs, stuff ("bread") and things that come in numbers ("grapes") are not.
    """
    head = parted(concept.name_en)[0]
    plural_already = head.endswith("s") and not _SINGULAR_S.search(head)
    return (
        _SUBGROUPS.fullmatch(concept.subgroup) is not None
        and concept.skin_tone == "none"
        and not _NOT_THINGS.fullmatch(concept.name_en)
        and not _ODD_WORDS.search(concept.name_en)
        and not plural_already
        and not concept.name_zh.startswith(("一", "两"))
        and bool(concept.name_en and concept.name_zh)
    )


# --- which names get mixed up ---

_COLOURS = {
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "brown",
    "black",
    "white",
    "pink",
    "grey",
    "light",
    "dark",
}
_MODIFIERS = re.compile(  # words that two names may share and still not be mixed up
    "|".join(_COLOURS)
    + "|striped|dotted|checked|hot|cold|fried|roasted|baby|hatching|tropical|electric|musical|sports|"
    "military|flying|shooting|glowing|framed|magic|crystal|money|love|desktop|mobile|open|closed|of|with|in|on|without|"
    "behind|for|the|to|a"
)
_KINDS = {  # a name that covers all of a subgroup, or other names in it
    "bird": "animal-bird",
    "black bird": "animal-bird",
    "fish": "animal-marine",
    "ship": "transport-water",
    "automobile": "transport-ground",
    "train": "transport-ground",
    "house": "place-building",
    "flower": "plant-flower",
    "white flower": "plant-flower",
    "pen": "writing",
}


@cache
def confusable(a: Concept, b: Concept) -> bool:
    """Whether one of two concepts might be called by the name of the other: "dog" and "guide dog", "bird" and "duck".

    They might if their names share a word that says what they are, unless each begins with a colour of its own.
    """
    if _KINDS.get(a.name_en) == b.subgroup or _KINDS.get(b.name_en) == a.subgroup:
        return True
    words_a, words_b = (re.split("[ -]", concept.name_en.lower()) for concept in (a, b))
    shared = [word for word in words_a if word in words_b and not _MODIFIERS.fullmatch(word)]
    if not shared and a.name_zh != b.name_zh:
        return False
    coloured = words_a[0] in _COLOURS and words_b[0] in _COLOURS and words_a[0] != words_b[0]
    contained = a.name_en.endswith(b.name_en) or b.name_en.endswith(a.name_en)
    return contained or not coloured
