"""Owns a job's cgroup: where the launcher makes its v2 folder, and what is to be done without it.

With `cgroup.kill` (Linux 5.14, cgroups(7)) the kernel ends all of a job at once, however
fast it forks. Without one the launcher does it process by process.
"""

import functools
import os
import select
from contextlib import suppress
from typing import Final

_GONE_MS: Final = 1_000


def path_for(mark: str) -> str | None:
    """Returns where the launcher is to make a cgroup named after `mark`: below this process's own.

    None where that cannot be had: no v2 hierarchy, or none that this user may write to.
    """
    parent = _own()
    return None if parent is None else f"{parent}/jobby-{mark}"


def kill(path: str) -> None:
    """Kills all that is in the cgroup; returns when nothing of it runs, milliseconds later.

    A cgroup that is gone is no error. What the kernel cannot end (state D in ps(1)) is waited for
    a second: this may be the thread in which all jobs end.
    """
    with suppress(OSError), open(f"{path}/cgroup.kill", "w") as file:
        file.write("1")
    # Who is dying has no environment any more to be known by, and may be writing still.
    with suppress(OSError), open(f"{path}/cgroup.events") as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)  # it has changed (cgroups(7))
        while "populated 1" in file.read() and poll.poll(_GONE_MS):
            file.seek(0)


def remove(path: str) -> None:
    """Removes the cgroup, in which nobody is; one that is gone is no error."""
    try:
        os.rmdir(path)
    except OSError:
        # The job may have made others below it, as one does that runs jobs itself.
        for folder, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


@functools.cache
def _own() -> str | None:
    """Returns the folder of this process's own v2 cgroup, if children can be made in it."""
    try:
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n") for line in file]
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return None
    # "0::" is the v2 hierarchy (cgroups(7)); in mountinfo the type follows a lone "-".
    group = next((line[3:] for line in groups if line.startswith("0::")), None)
    mount = next((m for m in mounts if m[m.index("-") + 1] == "cgroup2"), None)
    if group is None or mount is None:
        return None
    root, point = mount[3], mount[4]
    inside = group if root == "/" else group.removeprefix(root)
    path = f"{point}{inside}".rstrip("/")
    usable = os.path.exists(f"{path}/cgroup.procs") and os.access(path, os.W_OK)
    # Where the job's processes could not be moved to, a folder is of no use: moving wants
    # to write to the cgroup.procs of the common ancestor too.
    return path if usable and os.access(f"{path}/cgroup.procs", os.W_OK) else None
