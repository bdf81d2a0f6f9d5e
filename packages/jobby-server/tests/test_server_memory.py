"""Freed memory is used again: what a message was in does not come from the kernel each time."""

import platform
import subprocess
import sys

import pytest

# Three blocks a message, as one has on its way: the chunk, the message, gRPC's copy.
_PROGRAM = """
import resource
from jobby_server import memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        message = [b"x" * (1 << 20) for _ in range(3)]
        del message
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(10)
before = faults(100)
memory.keep_freed()
faults(10)
print(before, faults(100))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library is left as it is")
def test_a_message_is_not_taken_from_the_kernel_anew() -> None:
    """A hundred messages one after another cost hardly a page fault; without, thousands."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before > 10_000
    assert after < 1_000
