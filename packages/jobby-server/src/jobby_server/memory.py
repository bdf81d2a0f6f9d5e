"""Owns what the C library does with freed memory: keep some for the next message."""

import ctypes

# mallopt(3), in glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

KEPT_BYTES = 16 << 20
"""How much freed memory at the end of a heap is kept. Eight readers' messages are less."""

MAPPED_BYTES = 4 << 20
"""From which size on a block is mapped apart, and given back at once. No message is larger."""


def keep_freed() -> None:
    """Has the C library keep what a message of output was in for the next one.

    By default glibc may give it back to the kernel and take it anew for every
    message, depending on what else lies in the heap. The page faults of that
    cost as much as reading, encrypting and sending. Another C library is left
    as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
