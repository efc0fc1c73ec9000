"""What is known of things that a picture does not say: what can be eaten, worn, travelled in, made music on."""

import re
from dataclasses import dataclass
from functools import cache

from vitrail.data.glyphs import Concept


@dataclass(frozen=True)
class Property:
    """Something that is true of some concepts.

    Attributes:
        subgroups: a pattern of the subgroups of which it is true.
        unsure: a pattern of names and subgroups of which people would argue: nothing is asked where one is in sight.
        never: a pattern of names within the subgroups of which it is plainly false.
        which_en, which_zh: "which of these …" asks for the one of which it is true.
        are_en, are_zh: "… " said of several of which it is true, in a reasoning step.
    """

    subgroups: str
    unsure: str
    never: str
    which_en: str
    which_zh: str
    are_en: str
    are_zh: str


PROPERTIES = {
    "edible": Property(
        "food-.*",
        "animal-.*|drink|plant-.*|honey pot|bento box|takeout box|shallow pan of food|pot of food|jar|hot dog",
        "",
        "can you eat",
        "可以吃",
        "can be eaten",
        "可以吃",
    ),
    "animal": Property(
        "animal-.*",
        "feather|wing|spider web|spiral shell|pig nose|microbe|coral|.* face|dragon|unicorn|phoenix|face-costume|"
        "teddy bear|food-.*|carousel horse|carp streamer|nest with eggs|heart",
        "",
        "is an animal",
        "是动物",
        "are animals",
        "是动物",
    ),
    "vehicle": Property(
        "transport-.*",
        "station|railway track|wheel|parachute|seat|satellite|.* cableway|.* tramway|ring buoy|skateboard|roller skate|"
        "horse|elephant|camel|two-hump camel|donkey|sled|.* horse|roller coaster|ferris wheel|shopping cart|elevator",
        "bus stop|oil drum|fuel pump|police car light|.* traffic light|stop sign|anchor",
        "can you travel in or on",
        "可以乘坐",
        "can be travelled in or on",
        "可以乘坐",
    ),
    "instrument": Property(
        "musical-instrument",
        "sound|music|phone|light-video|computer|wind chime|bellhop bell",
        "",
        "can you play music on",
        "是乐器",
        "are musical instruments",
        "是乐器",
    ),
    "wearable": Property(
        "clothing",
        "purse|.*bag|backpack|hair pick|lipstick|gem stone|folding hand fan|ribbon|rosette|sport|award-medal|watch|"
        "reminder ribbon|stethoscope|military helmet|game",
        "",
        "can you wear",
        "可以穿戴",
        "can be worn",
        "可以穿戴",
    ),
    "plant": Property(
        "plant-.*",
        "bouquet|rosette|(?:.* )?leaf.*|empty nest|nest with eggs|mushroom|food-.*|.* tree|pine decoration",
        "",
        "is a plant",
        "是植物",
        "are plants",
        "是植物",
    ),
}


@cache
def has_property(concept: Concept, name: str) -> bool | None:
    """Whether one of `PROPERTIES` is true of a concept, or None where people would argue."""
    about = PROPERTIES[name]
    if re.fullmatch(about.never, concept.name_en):
        return False
    if re.fullmatch(about.unsure, concept.name_en) or re.fullmatch(about.unsure, concept.subgroup):
        return None
    return re.fullmatch(about.subgroups, concept.subgroup) is not None
