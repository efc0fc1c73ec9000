"""Sounds without end, synthesised: tones, noises and what lies between, each a pure function of its number."""

from collections.abc import Callable

import numpy as np

from vitrail.data.scenes.dice import Dice
from vitrail.errors import UsageError

RATE = 8_000
"""Samples a second."""

LENGTH = 4_096
"""Samples of a sound unless said: about half a second."""

LOWEST, HIGHEST = 200.0, 1_600.0
"""Where pitches lie, in hertz."""

_FADE = 80  # samples over which a sound comes and goes: without that, each would begin and end with a click


class Sounds:
    """Short sounds of `KINDS`, of any pitch, loudness, length and beginning, with noise behind them.

    `sounds[i]` depends on `seed`, i, the length of a sound and nothing else.

    Args:
        length: how many there are; any number costs the same.
        samples: S, samples of a sound.
        seed: another seed gives other sounds, 0 to 2⁶⁴ - 1.

    Raises:
        UsageError: a setting is out of its range.
    """

    def __init__(self, *, length: int = 100_000, samples: int = LENGTH, seed: int = 0) -> None:
        if length < 0 or samples < 4 * _FADE or not 0 <= seed < 2**64:
            raise UsageError(
                f"sounds need a length of 0 or more, {4 * _FADE} samples or more and a seed from 0 to 2⁶⁴ - 1, not "
                f"{length}, {samples} and {seed}"
            )
        self.length, self.samples, self.seed = length, samples, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """A sound, (S,) float32 in [-1, 1] at `RATE`, and the number of its kind.

        Raises:
            IndexError: there is none of this number.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"there is no sound {index} among {self.length}")
        dice = Dice(self.seed, index, 0)
        kind = dice.integer(0, len(KINDS) - 1)
        count = round(self.samples * dice.between(0.6, 1.0))
        start = dice.integer(0, self.samples - count)
        wave = _MAKERS[KINDS[kind]](dice, count)
        edge = np.minimum(np.arange(1, count + 1) / _FADE, 1)
        wave = wave * edge * edge[::-1]
        loudness, background = dice.between(0.25, 0.9), dice.between(0.003, 0.03)
        sound = background * _noise(dice, self.samples)
        sound[start : start + count] += loudness * wave / np.abs(wave).max()
        return sound.clip(-1, 1).astype(np.float32), kind


def _pitch(dice: Dice, low: float = LOWEST, high: float = HIGHEST) -> float:
    """Hertz, every octave as likely."""
    return float(low * (high / low) ** dice.random())


def _sine(dice: Dice, hertz: np.ndarray | float, count: int) -> np.ndarray:
    """(count,): a wave of a pitch that may change from sample to sample, from any phase."""
    turns = np.cumsum(np.broadcast_to(hertz, count)) / RATE
    return np.sin(2 * np.pi * (turns + dice.random()))


def _noise(dice: Dice, count: int) -> np.ndarray:
    """(count,): white, nearly normal, of deviation 1: the sum of four even draws."""
    return (dice.bytes(4, count).sum(0) - 510.0) / 147.8


def _tone(dice: Dice, count: int) -> np.ndarray:
    return _sine(dice, _pitch(dice), count)


def _chord(dice: Dice, count: int) -> np.ndarray:
    """A triad: the pitches are as 4 : 5 : 6, major, or 10 : 12 : 15, minor."""
    root = _pitch(dice, high=HIGHEST / 1.5)
    third = dice.pick((5 / 4, 6 / 5))
    return sum((_sine(dice, root * ratio, count) for ratio in (1, third, 3 / 2)), np.zeros(count))


def _rising(dice: Dice, count: int) -> np.ndarray:
    """From a pitch to one an octave higher, or up to two."""
    span = dice.between(1, 2)
    low = _pitch(dice, high=HIGHEST / 2**span)
    return _sine(dice, low * 2 ** (span * np.arange(count) / count), count)


def _falling(dice: Dice, count: int) -> np.ndarray:
    return _rising(dice, count)[::-1]


def _siren(dice: Dice, count: int) -> np.ndarray:
    """Up and down by half an octave, four to eight times a second."""
    wobble = _sine(dice, dice.between(4, 8), count)
    return _sine(dice, _pitch(dice) * 2 ** (0.5 * wobble), count)


def _tremolo(dice: Dice, count: int) -> np.ndarray:
    """A tone that grows louder and softer, 12 to 25 times a second."""
    swell = _sine(dice, dice.between(12, 25), count)
    return (1 + 0.95 * swell) * _tone(dice, count)


def _bell(dice: Dice, count: int) -> np.ndarray:
    """A tone struck once, with overtones that are no multiples of it, dying away within 30 to 90 milliseconds."""
    pitch, decay = _pitch(dice, high=HIGHEST / 2), dice.between(0.03, 0.09)
    wave = sum((_sine(dice, pitch * ratio, count) / ratio for ratio in (1, 2.76, 5.4)), np.zeros(count))
    return wave * np.exp(-np.arange(count) / (decay * RATE))


def _clicks(dice: Dice, count: int) -> np.ndarray:
    """Single short knocks, 12 to 40 a second."""
    period, decay = round(RATE / dice.between(12, 40)), dice.between(4, 12)
    since = (np.arange(count) + dice.integer(0, period - 1)) % period
    return np.exp(-since / decay) * np.cos(np.pi * since / 3)


def _hiss(dice: Dice, count: int) -> np.ndarray:
    """White noise: all frequencies alike."""
    return _noise(dice, count)


def _rumble(dice: Dice, count: int) -> np.ndarray:
    """Pink noise: its power falls as the frequency rises."""
    spectrum = np.fft.rfft(_noise(dice, count))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count)


_MAKERS: dict[str, Callable[[Dice, int], np.ndarray]] = {
    "tone": _tone,
    "chord": _chord,
    "rising": _rising,
    "falling": _falling,
    "siren": _siren,
    "tremolo": _tremolo,
    "bell": _bell,
    "clicks": _clicks,
    "hiss": _hiss,
    "rumble": _rumble,
}

KINDS = tuple(_MAKERS)
"""The kinds of sounds, each as likely."""
