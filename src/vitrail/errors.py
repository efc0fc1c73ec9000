"""Errors that are sentences: what was wrong with what, and what to do about it.

The command line prints the sentence and leaves with `exit_code`; Python users catch `VitrailError`.
"""


class VitrailError(Exception):
    """Something could not be done. Exit code 1."""

    exit_code = 1


class UsageError(VitrailError):
    """What was asked for makes no sense as asked: an unknown option value, two that exclude each other. Exit code 2."""

    exit_code = 2


class ImageError(VitrailError):
    """A picture that cannot be found, fetched or decoded."""


class CheckpointError(VitrailError):
    """A checkpoint that cannot be found, read, understood or written."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
