"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitrail.errors import VitrailError


@contextmanager
def appearing(path: Path, error: type[VitrailError] = VitrailError) -> Iterator[Path]:
    """A path to write to instead, in the same folder, that takes the name of `path` when the block ends well.

    When it does not, nothing is left, and what was there before stays. A file takes the place of another; a folder only
    that of an empty one.

    Args:
        path: the file or folder that is to be.
        error: what to raise where it cannot be written: a full disk, a folder that is not there or not ours.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield scratch
        if scratch.is_dir() and path.is_dir():
            path.rmdir()  # empty: some systems move a folder to a free name only
        scratch.replace(path)
    except BrokenPipeError:  # not this file: whoever was being shown the results has gone
        raise
    except OSError as reason:
        raise error(f"{path} cannot be written ({reason.strerror or reason})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # which leaves files alone
        with suppress(OSError):
            scratch.unlink()
