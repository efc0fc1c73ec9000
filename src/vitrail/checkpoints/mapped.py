"""Tensors that are mapped from a file, and how to stop holding them twice."""

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache

from torch import Tensor

_PAGEOUT = 21  # MADV_PAGEOUT, Linux 5.4


def release(tensor: Tensor) -> None:
    """Advise the system that the memory under a tensor is not needed for now, because a copy in another form is.

    What is mapped from a file and unchanged is dropped, and read from the file again should it be wanted; anything else
    stays where it is. Where the system does not take the advice nothing happens.
    """
    madvise = _madvise()
    if madvise is None or tensor.device.type != "cpu":
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + tensor.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        madvise(start, length, _PAGEOUT)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """The C library's madvise, on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
