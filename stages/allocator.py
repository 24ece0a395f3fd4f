"""What the C library does with memory that is freed: by default it often goes back to the system at once.

A network frees the same large tensors at every call and asks for them again at the next, and the system then
clears each page of them anew.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""
KEPT_BYTES = 1 << 30
"""Freed memory at the end of the heap that stays with the process."""
MAPPED_BYTES = 32 << 20
"""Blocks from this size on are mapped apart and go back when they are freed: the most that glibc comes to by
itself."""


def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT_BYTES` that it frees; whether its C library can (glibc).

    On CPUs it makes sampling faster (docs/benchmarks.md).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    wanted = {M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: MAPPED_BYTES}
    return all(library.mallopt(parameter, value) for parameter, value in wanted.items())
