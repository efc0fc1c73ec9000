"""Read what is known about each emoji: the list and groups of emojibase, names and keywords of Unicode CLDR."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.data.emoji.fetch import CLDR, CLDR_DERIVED, EMOJIBASE, members
from vitrail.data.glyphs import Concept
from vitrail.data.splits import gender_of, skin_tone_of
from vitrail.errors import VitrailError

_VARIATION_SELECTOR = "fe0f"


def code_of(written: str) -> str:
    """One spelling of code points, whoever wrote them: "00A9-FE0F", "a9" and "00a9_fe0f" are all "00a9".

    fe0f asks for a coloured drawing, which all of ours are, and publishers differ on where they write it.
    """
    points = written.lower().replace("_", "-").split("-")
    return "-".join(f"{int(point, 16):04x}" for point in points if point != _VARIATION_SELECTOR)


def read_concepts(tarballs: Mapping[str, Path]) -> dict[str, Concept]:
    """Every emoji that has a group, and a name in both languages, by code, in Unicode's order.

    Args:
        tarballs: by package name.

    Raises:
        VitrailError: a tarball is damaged or lacks a file.
    """
    emojibase = read_json(tarballs[EMOJIBASE], "en/data.json", "meta/groups.json")
    listed, labels = emojibase["en/data.json"], emojibase["meta/groups.json"]
    english, chinese = _words(tarballs, "en"), _words(tarballs, "zh")
    concepts = {}
    for entry in sorted(_with_skins(listed), key=lambda entry: entry.get("order", 0)):
        code = code_of(entry["hexcode"])
        if "group" not in entry or code not in english or code not in chinese:  # a lone regional indicator has no group
            continue
        (name_en, keywords_en), (name_zh, keywords_zh) = english[code], chinese[code]
        concepts[code] = Concept(
            code=code,
            emoji=entry["emoji"],
            name_en=name_en,
            name_zh=name_zh,
            keywords_en=keywords_en,
            keywords_zh=keywords_zh,
            group=labels["groups"][str(entry["group"])],
            subgroup=labels["subgroups"][str(entry["subgroup"])],
            skin_tone=skin_tone_of(code),
            gender=gender_of(code),
        )
    return concepts


def read_json(tarball: Path, *paths: str) -> dict[str, Any]:
    """The parsed JSON files of a package, by path.

    Raises:
        VitrailError: the tarball is damaged, or lacks one of them.
    """
    files = {path: json.loads(content) for path, content in members(tarball) if path in paths}
    if missing := set(paths) - files.keys():
        raise VitrailError(f"{tarball} lacks {min(missing)}")
    return files


def _with_skins(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        yield from entry.get("skins", ())


def _words(tarballs: Mapping[str, Path], language: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Code -> (name, keywords). The words of composed emoji (skin tones, professions) are in a second package."""
    words = {}
    for package, kind in ((CLDR, "annotations"), (CLDR_DERIVED, "annotationsDerived")):
        path = f"{kind}/{language}/annotations.json"
        for character, said in read_json(tarballs[package], path)[path][kind]["annotations"].items():
            if "tts" in said:  # the name, as a screen reader says it
                code = code_of("-".join(f"{ord(point):x}" for point in character))
                words[code] = (said["tts"][0], tuple(said.get("default", ())))
    return words
