"""The LoRAs that a picture is made with: found before any work is done, put in, and taken out again."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitrail.checkpoints.lora import apply_lora
from vitrail.errors import CheckpointError, UsageError
from vitrail.imaging.open import printable
from vitrail.models.generator import Generator

Loras = str | os.PathLike | Mapping[str | os.PathLike, float]
"""A LoRA's file; or several, each with its strength, 1 being all of it."""


@dataclass(frozen=True)
class Added:
    """A LoRA that a picture is made with.

    Attributes:
        file: its path as it was named.
        digest: SHA-256 of the file, in hexadecimal digits.
        strength: how much of it is added, 1 being all; it may be below 0.
    """

    file: str
    digest: str
    strength: float


def find_loras(named: Loras | None) -> tuple[Added, ...]:
    """The LoRAs of these files, in order.

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
        UsageError: a strength is no number.
    """
    if named is None:
        return ()
    files = named if isinstance(named, Mapping) else {named: 1.0}
    return tuple(find_lora(file, strength) for file, strength in files.items())


def find_lora(file: str | os.PathLike, strength: float = 1.0) -> Added:
    """One of them; errors are those of `find_loras`."""
    if not math.isfinite(strength):
        raise UsageError(f"the strength of a LoRA is a number, not {strength}")
    return Added(os.fspath(file), digest_of(file), float(strength))


def digest_of(file: str | os.PathLike) -> str:
    """SHA-256 of a LoRA's file, in hexadecimal digits.

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
    """
    shown = printable(os.fspath(file))
    try:
        with Path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        raise CheckpointError(f"there is no LoRA file {shown}") from None
    except IsADirectoryError:
        raise CheckpointError(f"{shown} is a folder: name the LoRA file in it") from None
    except OSError as error:
        raise CheckpointError(f"the LoRA file {shown} cannot be read ({error.strerror or error})") from None


@contextmanager
def adapted(model: Generator, loras: Sequence[Added]) -> Iterator[None]:
    """Put the LoRAs into a network, one after the other, and in the end take them out again.

    Raises:
        CheckpointError: one cannot be read, or is for another network.
        UsageError: LoRAs for networks of this family are not known.
    """
    with ExitStack() as put_in:
        for lora in loras:
            put_in.callback(apply_lora(model, lora.file, lora.strength).remove)
        yield
