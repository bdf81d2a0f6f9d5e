"""Owns finding and killing what a job left behind, where no launcher did it.

The pidfds it returns are those of processes that were killed but may not be gone yet; only
when they are is the job's output complete.
"""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from jobby_core import _cgroup
from jobby_core._pidfd import has_ended, wait_for

MARK = "JOBBY_JOB"
"""The variable in a job's environment that its processes are known by."""

Belongs = Callable[[int], bool]


def kill_group(group: int) -> list[int]:
    """Kills the processes in the group whose leader was just reaped; returns a pidfd for each.

    They were killed before, unless somebody else reaped the leader.
    """
    try:
        os.killpg(group, 0)
    except OSError:
        # By far the most common: nobody is left. Or nobody whom we may signal.
        return []
    names = _processes()
    if str(group) in names:
        return []  # a stranger got the id anew, and the group is the stranger's
    return _kill_each(names, lambda pid: os.getpgid(pid) == group)


def kill_marked(mark: str, session: int | None) -> list[int]:
    """Kills the processes of a job whose launcher is dead; returns a pidfd for each.

    A process that has both left the session and cleared its environment is not found.

    Args:
        mark: the value of `MARK` in their environment.
        session: the launcher's session, if its id cannot be a stranger's by now.
    """
    entry = f"{MARK}={mark}".encode()

    def belongs(pid: int) -> bool:
        if session is not None and os.getsid(pid) == session and pid != session:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            return entry in file.read().split(b"\0")

    return _kill_each(_processes(), belongs)


def kill_left(mark: str, cgroup: str | None) -> None:
    """Ends what a killed launcher has left, and its cgroup; returns when it is gone."""
    if cgroup is not None:
        _cgroup.kill(cgroup)
    while left := kill_marked(mark, None):  # again: they may have forked meanwhile
        for pidfd in left:
            wait_for(pidfd)
        bury(left)
    if cgroup is not None:
        _cgroup.remove(cgroup)


def bury(pidfds: list[int]) -> None:
    """Closes the pidfds of processes that are gone.

    Reaps those that became this process's children when their parent ended,
    as they do where it is a container's init or a subreaper (prctl(2)).
    """
    for pidfd in pidfds:
        with suppress(ChildProcessError):  # as a rule they are init's
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)


def _processes() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []  # no descriptor to look with


def _kill_each(names: list[str], belongs: Belongs) -> list[int]:
    pidfds = (_kill(int(name), belongs) for name in names)
    return [pidfd for pidfd in pidfds if pidfd is not None]


def _kill(pid: int, belongs: Belongs) -> int | None:
    """Kills a process if it belongs to the job; returns its pidfd."""
    if not _is_ours(pid, belongs):
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        # Gone meanwhile; or the others have the last descriptors. When they are gone it is looked
        # for again, as are those that could not even be looked at.
        return None
    try:
        # Asked again: the pidfd may be that of a stranger who got the id in between. If it was
        # the last descriptor, there is none to see that with: then it is taken for the same.
        if _is_ours(pid, belongs, unseen=True):
            if has_ended(pidfd):
                # It has let go of the output; another's zombie may stay one for long.
                bury([pidfd])
                return None
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return pidfd
    except (ProcessLookupError, PermissionError):
        pass  # gone meanwhile; or under another user, and not ours to end or to wait for
    os.close(pidfd)
    return None


def _is_ours(pid: int, belongs: Belongs, *, unseen: bool = False) -> bool:
    """Tells whether a process belongs to the job; without a descriptor to look with, `unseen`."""
    try:
        return belongs(pid)
    except OSError as error:  # gone meanwhile, or another user's
        return unseen and error.errno in (errno.EMFILE, errno.ENFILE)
