"""Owns which life of the machine this is: a process of another one cannot run any more."""

from pathlib import Path


def boot_id() -> str:
    """Returns what is another one after every boot (random(4)); "" if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
