"""Promises about the library's errors."""

import copy
import pickle
from collections.abc import Callable

import pytest

import jobby_core
from jobby_core import InvalidJobError, JobbyError, LimitError

KINDS = [
    kind
    for kind in vars(jobby_core).values()
    if isinstance(kind, type) and issubclass(kind, JobbyError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_what_why_and_the_way_out(kind: type[JobbyError]) -> None:
    """One line of log is enough to act on, and each part can be had by itself."""
    error = kind("open /spool/x", "disk full", "free space", path="/spool/x")
    assert str(error) == "cannot open /spool/x: disk full; free space"
    assert (error.action, error.cause, error.way_out) == (
        "open /spool/x",
        "disk full",
        "free space",
    )
    assert error.path == "/spool/x"
    assert kind("do it", "no", "give up").path is None


@pytest.mark.parametrize("duplicate", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize(
    "error",
    [
        *(kind("open /x", "why", "out", path="/x") for kind in KINDS),
        InvalidJobError("use env", "why", "out", field="env"),
        LimitError("open /x", "why", "out", path="/x", limit="RLIMIT_NOFILE"),
    ],
)
def test_an_error_survives_the_way_to_another_process(
    error: JobbyError, duplicate: Callable[[JobbyError], JobbyError]
) -> None:
    """Pickled and copied, an error keeps its kind, its text and every attribute."""
    same = duplicate(error)
    assert type(same) is type(error)
    assert str(same) == str(error)
    assert vars(same) == vars(error)


def test_the_kinds_are_what_a_caller_expects_to_catch() -> None:
    """Errors of the standard library's families can be caught as these; all are JobbyError."""
    assert issubclass(jobby_core.InvalidJobError, ValueError)
    assert issubclass(jobby_core.ReaderClosedError, ValueError)  # what io raises on a closed file
    assert issubclass(jobby_core.ReaderBusyError, RuntimeError)
    assert {kind for kind in KINDS if issubclass(kind, jobby_core.StartError)} == {
        jobby_core.StartError,
        jobby_core.CommandNotFoundError,
        jobby_core.CommandNotExecutableError,
        jobby_core.WorkingDirectoryError,
        jobby_core.ArgumentsTooLongError,
        jobby_core.LauncherError,
    }
    assert {kind for kind in KINDS if issubclass(kind, jobby_core.OutputError)} == {
        jobby_core.OutputError,
        jobby_core.OutputExistsError,
        jobby_core.OutputMissingError,
        jobby_core.OutputTruncatedError,
    }
