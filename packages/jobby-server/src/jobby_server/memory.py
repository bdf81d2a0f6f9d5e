"""Owns what the C library does with memory: one heap, and some freed memory is kept."""

import ctypes

# mallopt(3), in glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

KEPT_BYTES = 16 << 20
"""How much freed memory at the end of a heap is kept. Eight readers' messages are less."""

MAPPED_BYTES = 4 << 20
"""From which size on a block is mapped apart, and given back at once. No message is larger."""


def set_up() -> None:
    """Has the C library keep what a message of output was in for the next one, in one heap.

    To be called before there are threads.

    By default glibc may give it back to the kernel and take it anew for every
    message, depending on what else lies in the heap. The page faults of that
    cost as much as reading, encrypting and sending.

    And it gives threads heaps of their own, sixteen on two processors. What one
    takes and another gives back, as gRPC's do, leaves holes in all of them, and
    each may keep that much. A server that is busy for hours grew by 17 MiB an
    hour; with one heap it stays where it was after a minute.

    Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
