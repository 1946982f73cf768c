"""Keep freed memory for the next step, instead of giving it back to the system.

A training step on the CPU takes and frees the same large blocks again and again. Linux's usual
allocator (glibc) returns blocks of that size to the system at once, and the system hands out
fresh ones filled with zeros: many megabytes are written for nothing in every step. PyTorch's own
tuning guide advises another allocator for this reason; glibc can be told to behave the same way.
"""

from __future__ import annotations

import ctypes
import platform
import sys

# Numbers of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks; for the whole process, from now on.

    All threads share one arena then: PyTorch computes gradients in a thread of its own, whose
    private arena could not hold blocks of that size.

    Returns:
        Whether it was done: on Linux with glibc only.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
