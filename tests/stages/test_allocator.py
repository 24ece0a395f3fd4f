"""Freed memory that stays with the process: the next call of a network finds it there."""

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys, torch
from posedance.stages.allocator import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory
for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
    ctypes.CDLL(None).mallopt(parameter, 128 << 10)  # as glibc begins; it would move them by itself
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def call():
    return [torch.ones(16 << 20, dtype=torch.uint8) for _ in range(8)]
for _ in range(3):
    call()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    call()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Pages that the system cleared anew in five rounds of the same 128 MB."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_memory_that_is_freed_is_used_again() -> None:
    assert page_faults("keep") < page_faults("as glibc begins") / 10
