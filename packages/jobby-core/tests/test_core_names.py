"""Promises about names: the library's own, which others build on, and watchdog's, which it does."""

from ctypes import c_char_p, c_int, c_uint32
from typing import Any

from watchdog.observers.inotify_c import (
    InotifyConstants,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

import jobby_core

PUBLIC_NAMES = {
    "ArgumentsTooLongError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "IllegalMoveError",
    "InvalidJobError",
    "Job",
    "JobArgs",
    "JobbyError",
    "LauncherError",
    "LimitError",
    "NotStartedError",
    "OutputError",
    "OutputExistsError",
    "OutputFollower",
    "OutputMissingError",
    "OutputReader",
    "OutputTruncatedError",
    "ReaderBusyError",
    "ReaderClosedError",
    "Reason",
    "RecordError",
    "StartError",
    "State",
    "Status",
    "StopError",
    "Stream",
    "UnreachableJobError",
    "Usage",
    "WorkingDirectoryError",
    "launcher_available",
}


def test_the_public_names() -> None:
    """What a program may import from jobby_core; to take one away breaks somebody."""
    assert set(jobby_core.__all__) == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(jobby_core, name).__name__ == name


def test_watchdogs_wrappers_are_what_the_library_takes_them_for() -> None:
    """They are little documented: C functions with these parameters, and inotify(7)'s own bits."""
    wrappers: tuple[Any, ...] = (inotify_init, inotify_add_watch, inotify_rm_watch)
    found = [(wrapper.argtypes, wrapper.restype) for wrapper in wrappers]
    assert found == [
        ((), c_int),
        ((c_int, c_char_p, c_uint32), c_int),
        ((c_int, c_uint32), c_int),
    ]
    bits = {name: int(getattr(InotifyConstants, name)) for name in BITS}
    assert bits == BITS


# linux/inotify.h
BITS = {"IN_MODIFY": 0x2, "IN_Q_OVERFLOW": 0x4000, "IN_IGNORED": 0x8000, "IN_ONESHOT": 0x80000000}
