"""Splits by meaning: variants stay together, sizes are as promised, nothing depends on who else is there."""

from collections import Counter

import pytest

from vitrail.data.splits import base_of, fraction, gender_of, skin_tone_of, unseen_combination, unseen_concept

STYLES = ("noto", "twemoji", "fluent-flat", "fluent-3d")
CODES = [f"{0x1F300 + number:x}" for number in range(3000)]


@pytest.mark.parametrize(
    ("code", "base"),
    [
        ("1f438", "1f438"),  # frog
        ("1f44b-1f3fd", "1f44b"),  # waving hand
        ("1f468-1f3ff-200d-2696", "1f9d1-200d-2696"),  # man judge
        ("1f469-200d-2696", "1f9d1-200d-2696"),
        ("1f3c3-1f3fb-200d-2640-200d-27a1", "1f3c3"),  # woman running, facing right
        ("1f469", "1f9d1"),
        ("1f478-1f3fe", "1fac5"),  # princess: person with crown
        ("1f9d1-200d-1f384", "1f385"),  # Mx Claus: Santa Claus
        ("1f936", "1f385"),
        ("1faf1-1f3fb-200d-1faf2-1f3fc", "1f91d"),  # handshake of two tones
        ("1f46b-1f3fd", "1f9d1-200d-1f91d-200d-1f9d1"),
        ("1f469-1f3fb-200d-1f91d-200d-1f468-1f3fc", "1f9d1-200d-1f91d-200d-1f9d1"),
        ("1f469-200d-2764-200d-1f48b-200d-1f468", "1f48f"),  # kiss: woman, man
        ("1f468-200d-1f469-200d-1f467-200d-1f466", "1f46a"),  # families
        ("1f9d1-200d-1f9d2", "1f46a"),
        ("1f3f3-200d-1f308", "1f3f3-200d-1f308"),  # rainbow flag
        ("2640", "2640"),  # the signs themselves
        ("27a1", "27a1"),
        ("1f3fb", "1f3fb"),
    ],
)
def test_the_base_has_no_skin_tone_gender_or_direction(code, base):
    assert base_of(code) == base
    assert base_of(base) == base


def test_skin_tone_and_gender_are_read_from_the_code():
    assert skin_tone_of("1f438") == "none"
    assert skin_tone_of("1f44b-1f3fc") == "medium-light"
    assert skin_tone_of("1faf1-1f3fb-200d-1faf2-1f3ff") == "light and dark"
    assert skin_tone_of("1f9d1-1f3fe-200d-1f91d-200d-1f9d1-1f3fe") == "medium-dark"
    assert gender_of("1f469-1f3fb-200d-2696") == "female"
    assert gender_of("1f3c3-200d-2642") == "male"
    assert gender_of("1f9d1-200d-2696") == "none"
    assert gender_of("1f468-200d-1f469-200d-1f466") == "none"  # both
    assert gender_of("2640") == "none"  # a sign is not a woman


def test_a_fraction_is_uniform_and_depends_on_key_and_seed_alone():
    values = [fraction(code) for code in CODES]
    assert all(0 <= value < 1 for value in values)
    tenths = Counter(int(value * 10) for value in values)
    assert min(tenths.values()) > 230  # 300 expected, deviation 16
    assert max(tenths.values()) < 370
    assert fraction("1f438", seed=1) != fraction("1f438")


def test_a_tenth_of_the_concepts_is_for_test_and_a_tenth_for_validation():
    sides = Counter(map(unseen_concept, CODES))
    assert 0.08 < sides["test"] / len(CODES) < 0.12
    assert 0.08 < sides["validation"] / len(CODES) < 0.12
    assert unseen_concept("1f468-1f3ff-200d-2696") == unseen_concept("1f9d1-200d-2696")
    assert [unseen_concept(code, seed=1) for code in CODES] != [unseen_concept(code) for code in CODES]


def test_a_held_out_combination_leaves_its_concept_and_its_style_in_training():
    sides = {(code, style): unseen_combination(code, style, STYLES) for code in CODES for style in STYLES}
    counts = Counter(sides.values())
    assert 0.08 < counts["test"] / len(sides) < 0.12
    assert 0.04 < counts["validation"] / len(sides) < 0.06
    for code in CODES:
        assert sum(sides[code, style] == "train" for style in STYLES) >= 3
    for style in STYLES:
        assert sum(sides[code, style] != "train" for code in CODES) > 0.1 * len(CODES)
    woman, man = (f"{person}-1f3fd-200d-2696" for person in ("1f469", "1f468"))
    assert all(unseen_combination(woman, s, STYLES) == unseen_combination(man, s, STYLES) for s in STYLES)
    assert all(unseen_combination("1f438", s, STYLES) == unseen_combination("1f438", s, STYLES[::-1]) for s in STYLES)
