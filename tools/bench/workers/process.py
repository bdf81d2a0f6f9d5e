"""Owns what a process has used: CPU time and memory, as the kernel counts them."""

import os
import time
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, ended ones too, in nanoseconds' resolution.

    clock_getcpuclockid(3) of the C library, which Python has no function for.
    """
    return time.clock_gettime(~pid << 3 | 2)


def children_cpu_seconds(pid: int) -> float:
    """CPU time of the children that a process has waited for, and of theirs; in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> float:
    """Resident memory, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return float(line.split()[1])
    raise ValueError(f"process {pid} has no Rss")
