"""Say what is seen, and how much of it: "a frog", "two frogs", "两只青蛙"."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from vitrail.data.glyphs import Concept
from vitrail.data.scenes.things import parted

# --- English ---

NUMBERS_EN = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "die": "dice",
    "tooth": "teeth",
    "foot": "feet",
    "cactus": "cacti",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "scarf": "scarves",
    "elf": "elves",
    "child": "children",
    **{name: name for name in ("fish", "shrimp", "squid", "deer", "moose", "bison", "blowfish", "jellyfish")},
    **{name: name + "es" for name in ("potato", "tomato", "mosquito", "mango", "volcano", "tornado")},
}
_CONSONANT_SOUND = re.compile(r"(?:uni|use|uti|uku|ewe|eu|one\b|one-)", re.IGNORECASE)  # spelt with a vowel: a unicorn
_VOWEL_SOUND = re.compile(
    r"(?:hour|heir|honest|[fhlmnrsx]-|SOS\b|8|11|18)", re.IGNORECASE
)  # with a consonant: an x-ray


def article(name: str) -> str:
    """ "a frog", "an apple", "a unicorn", "an hourglass"."""
    vowel = (name[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(name)) or _VOWEL_SOUND.match(name)
    return f"{'an' if vowel else 'a'} {name}"


def plural(name: str) -> str:
    """ "frogs", "cherries", "glasses of milk", "mice"."""
    head, rest = parted(name)
    front, space, noun = head.rpartition(" ")
    if noun in _IRREGULAR:
        many = _IRREGULAR[noun]
    elif noun.endswith("man"):
        many = noun[:-3] + "men"
    elif re.search(r"(?:s|x|z|ch|sh)$", noun, re.IGNORECASE):
        many = noun + "es"
    elif re.search(r"[^aeiou]y$", noun):
        many = noun[:-1] + "ies"
    else:
        many = noun + "s"
    return f"{front}{space}{many}{rest}"


# --- Chinese ---

NUMBERS_ZH = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十", "十一", "十二")
_MEASURES = tuple(  # the first that fits; 只 fits other animals, 个 other things
    (measure, re.compile(names))
    for measure, names in (
        ("条", "snake|fish|tropical fish|blowfish|shark|dolphin|necktie|scarf|dress"),
        ("匹", "horse|zebra|unicorn|camel|two-hump camel|wolf"),
        (
            "头",
            "cow|ox|water buffalo|pig|boar|donkey|elephant|mammoth|rhinoceros|hippopotamus|lion|bison|(?:.* )?whale",
        ),
        ("朵", "rose|tulip|sunflower|hibiscus|lotus|hyacinth|cherry blossom|cloud|mushroom|(?:.* )?flower"),
        ("束", "bouquet"),
        ("棵", ".* tree|cactus|seedling|shamrock|four leaf clover"),
        ("盆", "potted plant"),
        ("片", "maple leaf|fallen leaf|snowflake"),
        ("根", "banana|carrot|cucumber|feather|ear of corn|sewing needle|white cane"),
        ("列", "train|.*-speed train|bullet train|locomotive"),
        (
            "辆",
            ".* car|.*bus|taxi|automobile|.* truck|.* lorry|tractor|ambulance|fire engine|bicycle|tram|motorcycle|"
            ".* scooter|auto rickshaw|.* wheelchair|shopping cart|sport utility vehicle",
        ),
        ("架", "(?:.* )?airplane|helicopter"),
        ("艘", "(?:.* )?(?:ship|boat)|ferry|sailboat|speedboat|canoe"),
        (
            "把",
            "(?:.* )?(?:knife|key|umbrella|axe|hammer|chair|guitar|spoon|shovel|violin|wrench|broom|saw|hand fan)|"
            "screwdriver|dagger|closed umbrella|water pistol|toothbrush|.* ruler",
        ),
        (
            "支",
            "pencil|pen|fountain pen|crayon|paintbrush|lipstick|flute|candle|thermometer|syringe|cigarette|test tube",
        ),
        ("本", "(?:.* )?book|notebook.*|ledger|spiral notepad"),
        ("张", "(?:.* )?ticket|bed|world map|credit card|identification card|.* banknote|receipt|bar chart"),
        ("份", "newspaper"),
        ("台", ".* computer|laptop|printer|television|(?:.* )?camera|.* machine|radio|film projector|elevator"),
        ("座", "(?:.* )?mountain|volcano|castle|church|mosque|synagogue|factory|fountain|.* temple|.* shrine"),
        ("件", "(?:lab )?coat|t-shirt|kimono|sari|bikini|one-piece swimsuit|running shirt"),
        ("顶", "crown|(?:.* )?(?:hat|cap|helmet|tent)"),
        ("块", "watch|skateboard"),
        ("面", "mirror|shield|drum"),
        ("只", "(?:.* )?(?:shoe|boot|sandal|skate)|boxing glove"),
        ("个", "wing|spider web|spiral shell|pig nose|microbe|.* face"),
    )
)


@cache
def measure(concept: Concept) -> str:
    """The measure word that goes between a number and the Chinese name: 只 for most animals, 个 for most things."""
    for word, names in _MEASURES:
        if names.fullmatch(concept.name_en):
            return word
    return "只" if concept.subgroup.startswith("animal-") else "个"


# --- both ---


def counted(concept: Concept, count: int, language: str) -> str:
    """ "a frog", "two frogs"; "一只青蛙", "两只青蛙"."""
    if language == "zh":
        return f"{NUMBERS_ZH[count]}{measure(concept)}{concept.name_zh}"
    return article(concept.name_en) if count == 1 else f"{NUMBERS_EN[count]} {plural(concept.name_en)}"


def joined(parts: Sequence[str], language: str) -> str:
    """ "a, b and c"; "a、b和c"."""
    comma, last = ("、", "和") if language == "zh" else (", ", " and ")
    return last.join(part for part in (comma.join(parts[:-1]), parts[-1]) if part)


def listed(concepts: Iterable[Concept], language: str) -> str:
    """What there is, like things together: "two frogs and an apple"; "nothing" for nothing."""
    counts: dict[Concept, int] = {}
    for concept in concepts:
        counts[concept] = counts.get(concept, 0) + 1
    if not counts:
        return "没有东西" if language == "zh" else "nothing"
    return joined([counted(concept, count, language) for concept, count in counts.items()], language)


_STYLES = {
    "noto": ("Noto", "Noto"),
    "twemoji": ("Twemoji", "Twemoji"),
    "fluent-flat": ("flat", "扁平"),
    "fluent-3d": ("3D", "立体"),
    "flat": ("flat", "扁平"),
    "outlined": ("outlined", "描边"),
    "shaded": ("shaded", "明暗"),
    "textured": ("textured", "纹理"),
}


def style_name(style: str, language: str) -> str:
    """What an art style is called, before the word "style": "flat", "扁平"."""
    english, chinese = _STYLES.get(style, (style.replace("-", " "), style))
    return chinese if language == "zh" else english
