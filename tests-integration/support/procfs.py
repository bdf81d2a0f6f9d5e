"""Owns what the kernel tells about a process: its descriptors, threads, children and memory."""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holdings:
    """All that a process holds and has to give back.

    Attributes:
        descriptors: its open descriptors by what they are, numbers left out.
        threads: how many threads it has.
        children: its children, zombies too.
        watches: how many inotify watches it has.
    """

    descriptors: Counter[str]
    threads: int
    children: frozenset[int]
    watches: int


def lowest_free_descriptor(pid: int) -> int:
    """The number that the next descriptor of process `pid` gets (open(2)), unless it is busy.

    As a limit it leaves no room. How many it has would not do: each above it leaves a hole below.
    """

    def look() -> int:
        used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        return next(number for number in range(len(used) + 1) if number not in used)

    return min(look() for _ in range(100))  # some come and go


def holdings(pid: int) -> Holdings:
    """What process `pid` holds now (proc(5))."""
    found: Counter[str] = Counter()
    watches = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(entry)
            # "socket:[4711]", "pipe:[12]": the number differs with each one.
            found[target.partition("[")[0]] += 1
            if target == "anon_inode:inotify":
                info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
                watches += info.count("inotify wd:")
    return Holdings(found, len(os.listdir(f"/proc/{pid}/task")), children(pid), watches)


def children(pid: int) -> frozenset[int]:
    """The children of all threads of process `pid`."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            found.update(int(child) for child in (task / "children").read_text().split())
    return frozenset(found)


def alive(pid: int) -> bool:
    """Whether process `pid` is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The name may hold anything; the state follows its last parenthesis.
    return stat.rpartition(b")")[2].split()[0] not in b"ZX"


def peak_bytes(pid: int) -> int:
    """The most memory that process `pid` ever had resident (proc_pid_status(5), VmHWM)."""
    return _status_bytes(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    """The memory that process `pid` has resident now (proc_pid_status(5), VmRSS)."""
    return _status_bytes(pid, "VmRSS")


def _status_bytes(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no {key}: it is a zombie or a kernel thread")
