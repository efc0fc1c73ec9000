"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

from vitrail.engines.memory import keep_memory

FAULTS = """
import resource, sys, torch
from vitrail.engines.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.zeros(2**26, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(10)  # until the heap has found its shape
print(faults(10))
"""


@pytest.mark.skipif(not keep_memory(), reason="this system has no glibc")
def test_memory_that_was_freed_is_not_asked_for_again():
    kept, usual = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "usual")
    )
    assert kept < 1000  # 64 megabytes are 16,384 pages
    assert usual > 10 * 1000 or usual < 1000  # huge pages, where the system gives them, cost little as it is
