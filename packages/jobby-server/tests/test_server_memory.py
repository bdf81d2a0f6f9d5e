"""Memory is used again: what a message was in does not come anew, nor from a heap a thread."""

import platform
import subprocess
import sys

import pytest

# Three blocks a message, as one has on its way: the chunk, the message, gRPC's copy.
_MESSAGES = """
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
memory.set_up()
faults(10)
print(before, faults(100))
"""

# Threads that all are there at once, and what glibc then tells of its heaps (malloc_info(3)).
_THREADS = """
import ctypes, sys, threading
from jobby_server import memory

if "set up" in sys.argv:
    memory.set_up()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_there, leave = threading.Barrier(9), threading.Event()

def work():
    libc.malloc(1000)
    all_there.wait()
    leave.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads:
    each.start()
all_there.wait()
stdout = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, stdout)
libc.fflush(stdout)
leave.set()
"""

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library is left as it is"
)


def run(program: str, *arguments: str) -> str:
    """What a Python program prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@glibc
def test_a_message_is_not_taken_from_the_kernel_anew() -> None:
    """A hundred messages one after another cost hardly a page fault; without, thousands."""
    before, after = map(int, run(_MESSAGES).split())
    assert before > 10_000
    assert after < 1_000


@glibc
def test_all_threads_have_one_heap() -> None:
    """However many there are; by default, on any machine, there are at least eight heaps."""
    assert run(_THREADS).count("<heap nr=") >= 8
    assert run(_THREADS, "set up").count("<heap nr=") == 1
