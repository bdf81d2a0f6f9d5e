"""Owns what this platform has: a launcher for jobs, or a word about what is lost without one."""

import functools
import logging
import os
from typing import Final

from jobby_core.errors import LauncherError
from jobby_core.spec import JobArgs

_log = logging.getLogger(__name__)

OVERRIDE: Final = "JOBBY_LAUNCHER"
"""The variable that names another launcher, or "none"."""

_BUILT_IN: Final = os.path.join(os.path.dirname(__file__), "jobby-launcher")
_CHILDREN: Final = "/proc/thread-self/children"


def path() -> str | None:
    """Returns the launcher's path; None where there is none for this platform.

    `JOBBY_LAUNCHER` in the environment names another one, or is "none".
    """
    override = os.environ.get(OVERRIDE)
    if override:
        return None if override == "none" else override
    return _BUILT_IN if os.path.exists(_BUILT_IN) else None


def launcher_available() -> bool:
    """Returns whether jobs get a launcher here.

    Without one, a job is killed when this program exits (atexit), but runs on, and nobody can reach
    it, when this process ends otherwise; its outcome survives neither. What leaves the job's
    process group is not killed, and `JobArgs.directory` and the limits are refused.
    """
    return path() is not None


def path_for(args: JobArgs) -> str | None:
    """Returns the path of the launcher that a job is to have; None where there is none.

    Raises:
        LauncherError: there is none, and the job needs it; or it cannot work on this system.
    """
    if (found := path()) is not None:
        _check_proc()
        return found
    for name in ("directory", "max_output_bytes", "timeout_seconds"):
        if getattr(args, name) is not None:
            raise LauncherError(
                f"start {args.command!r} with {name}",
                "that needs the launcher, which jobby-core has for x86-64 and aarch64 Linux only",
                f"leave {name} out, or install jobby-core's wheel for this platform",
            )
    _say_what_is_lost()
    return None


@functools.cache
def _check_proc() -> None:
    """Once for all jobs: the launcher itself looks only when one has left something behind."""
    if not os.path.exists(_CHILDREN):
        raise LauncherError(
            "start a job",
            f"there is no {_CHILDREN}, by which its launcher finds what it leaves behind",
            "mount /proc (proc(5)), under a kernel that has CONFIG_PROC_CHILDREN",
        )
    if os.readlink("/proc/self") != str(os.getpid()):
        raise LauncherError(
            "start a job",
            "/proc is that of another PID namespace, so its launcher would take strangers for what "
            "it leaves behind",
            "mount this one's (unshare --mount-proc)",
        )


@functools.cache
def _say_what_is_lost() -> None:
    _log.warning(
        "jobs are started without a launcher: they are killed when this program exits, they run "
        "on and nobody can reach them when it ends otherwise, their exit codes survive "
        "neither, and what leaves a job's process group is not killed"
    )
