"""Synthesised sounds: pure functions of their number, and of the kind that they say."""

import numpy as np
import pytest

from vitrail.data.sounds import HIGHEST, KINDS, LOWEST, RATE, Sounds
from vitrail.errors import UsageError

SOUNDS = Sounds(length=300)


def of_kind(kind: str, count: int = 6) -> list[np.ndarray]:
    found = [wave for wave, number in (SOUNDS[index] for index in range(len(SOUNDS))) if KINDS[number] == kind]
    return found[:count]


def loud(wave: np.ndarray) -> np.ndarray:
    """The middle of what is not background."""
    there = np.flatnonzero(np.abs(wave) > 0.15)
    middle, half = (there[0] + there[-1]) // 2, (there[-1] - there[0]) // 3
    return wave[middle - half : middle + half]


def pitch(wave: np.ndarray) -> float:
    """The loudest frequency, in hertz."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 15))
    return float(power.argmax() * RATE / (1 << 15))


def test_a_sound_depends_on_seed_and_number_alone():
    wave, kind = SOUNDS[7]
    again, same = Sounds(length=9)[7]
    assert (wave == again).all()
    assert kind == same
    assert not (wave == Sounds(length=9, seed=1)[7][0]).all()
    assert not (wave == SOUNDS[8][0]).all()
    assert wave.dtype == np.float32
    assert wave.shape == (4096,)
    assert Sounds(samples=1024)[0][0].shape == (1024,)


def test_every_kind_is_as_likely_and_none_is_too_loud():
    waves, kinds = zip(*SOUNDS, strict=True)
    assert np.bincount(kinds, minlength=len(KINDS)).min() > 300 / len(KINDS) / 2
    assert np.abs(waves).max() <= 1
    assert np.abs(waves).max(axis=1).min() > 0.2


def test_a_tone_keeps_its_pitch_and_others_change_theirs():
    for kind, least, most in (("tone", -0.05, 0.05), ("rising", 0.3, 2), ("falling", -2, -0.3)):
        for wave in of_kind(kind):
            first, last = np.array_split(loud(wave), 2)
            change = np.log2(pitch(last) / pitch(first))
            assert least < change < most
            assert LOWEST / 1.1 < pitch(first) < HIGHEST * 1.1


def test_noises_are_of_their_colour():
    def share_of_low(wave: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(loud(wave))) ** 2
        return float(power[: len(power) // 8].sum() / power.sum())

    assert all(share_of_low(wave) < 0.3 for wave in of_kind("hiss"))
    assert all(share_of_low(wave) > 0.5 for wave in of_kind("rumble"))


def test_a_chord_has_three_pitches():
    for wave in of_kind("chord"):
        power = np.abs(np.fft.rfft(loud(wave) * np.hanning(len(loud(wave))), 1 << 14))
        hertz = np.arange(len(power)) * RATE / (1 << 14)
        root = pitch(wave)
        near = (2 / 3, 4 / 5, 5 / 6, 5 / 4, 6 / 5, 3 / 2)
        also = [ratio for ratio in near if power[np.abs(hertz - root * ratio) < 8].max() > 0.3 * power.max()]
        assert len(also) >= 2


def test_settings_out_of_range_are_refused():
    with pytest.raises(UsageError, match="320 samples or more"):
        Sounds(samples=100)
    with pytest.raises(IndexError):
        SOUNDS[300]
