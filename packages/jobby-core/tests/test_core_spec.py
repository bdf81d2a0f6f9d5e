"""Promises about JobArgs: what can never be started is refused before anything exists."""

import copy
import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_core import InvalidJobError, JobArgs


def job_args(**changes: Any) -> JobArgs:
    """Returns good arguments, but for `changes`."""
    given: dict[str, Any] = {"command": "true", "stdout_path": "/o", "stderr_path": "/e"}
    return JobArgs(**{**given, **changes})


def encodable(text: str) -> bool:
    """Tells whether the system can take `text` at all."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize(
    ("changes", "field", "cause"),
    [
        ({"command": ""}, "command", "it is empty"),
        ({"command": "a\0b"}, "command", "NUL"),
        ({"command": "\ud800"}, "command", "encoding"),
        ({"command": b"true"}, "command", "it is bytes, not str"),
        ({"args": "-a"}, "args", "it is one string"),
        ({"args": b"-a"}, "args", "it is one string"),
        ({"args": ["fine", "a\0b"]}, "args", "NUL"),
        ({"args": ["\udfff"]}, "args", "encoding"),
        ({"args": [1]}, "args", "it is int, not str"),
        ({"args": None}, "args", "it is NoneType, no sequence"),
        ({"stdout_path": ""}, "stdout_path", "it is empty"),
        ({"stdout_path": "a\0b"}, "stdout_path", "NUL"),
        ({"stdout_path": b"/o"}, "stdout_path", "it is bytes, not str"),
        ({"stdout_path": None}, "stdout_path", "it is NoneType, no path"),
        ({"stderr_path": ""}, "stderr_path", "it is empty"),
        ({"stderr_path": "/tmp/../o"}, "stderr_path", "the same as stdout_path"),
        ({"cwd": ""}, "cwd", "it is empty"),
        ({"cwd": "a\0b"}, "cwd", "NUL"),
        ({"cwd": 1}, "cwd", "it is int, no path"),
        ({"directory": ""}, "directory", "it is empty"),
        ({"label": 1}, "label", "it is int, not str"),
        ({"max_output_bytes": 0}, "max_output_bytes", "0 is not between 1 and"),
        ({"max_output_bytes": 2**63}, "max_output_bytes", "is not between 1 and"),
        ({"max_output_bytes": 1e6}, "max_output_bytes", "it is float, not int"),
        ({"max_output_bytes": True}, "max_output_bytes", "it is bool, not int"),
        ({"timeout_seconds": "5"}, "timeout_seconds", "it is str, not int or float"),
        ({"timeout_seconds": 0}, "timeout_seconds", "0 is not between 0.001 and"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds", "nan is not between"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds", "inf is not between"),
        ({"env": ["A=1"]}, "env", "it is list, no mapping"),
        ({"env": {"": "x"}}, "env", "no variable name"),
        ({"env": {"A=B": "x"}}, "env", "no variable name"),
        ({"env": {"A": "x\0"}}, "env", "NUL"),
        ({"env": {"A": 1}}, "env", "it is int, not str"),
    ],
)
def test_what_can_never_start_is_refused(changes: dict[str, Any], field: str, cause: str) -> None:
    """Each bad field is named, with its cause; an InvalidJobError is a ValueError too."""
    with pytest.raises(InvalidJobError, match=cause) as caught:
        job_args(**changes)
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


@given(st.lists(st.text(st.characters(), max_size=8), max_size=3))
def test_every_argument_the_system_can_take_is_taken_as_it_is(args: list[str]) -> None:
    """Nothing but a NUL and what cannot be encoded is refused; nothing is changed."""
    if all(map(encodable, args)):
        assert job_args(args=args).args == tuple(args)
    else:
        with pytest.raises(InvalidJobError):
            job_args(args=args)


def test_it_is_frozen_and_keeps_nothing_of_the_callers() -> None:
    """Fields cannot be set, and a list or dict that the caller changes later changes nothing."""
    args, env = ["a"], {"A": "1"}
    spec = job_args(args=args, env=env)
    args.append("b")
    env["B"] = "2"
    assert spec.args == ("a",)
    assert spec.env == {"A": "1"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.command = "false"  # type: ignore[misc] # the point of the test
    with pytest.raises(TypeError):
        spec.env["B"] = "2"  # type: ignore[index] # the point of the test


def test_equal_arguments_are_equal_and_hash_alike() -> None:
    """Two of the same content are the same; `dataclasses.replace` checks again."""
    one, other = job_args(args=["a"], env={"A": "1"}), job_args(args=("a",), env={"A": "1"})
    assert one == other
    assert hash(one) == hash(other)
    assert one != dataclasses.replace(one, command="false")
    with pytest.raises(InvalidJobError):
        dataclasses.replace(one, command="")


def test_it_can_be_copied_sent_and_taken_apart() -> None:
    """As any dataclass, with its environment: deep copies, pickles and `asdict`."""
    spec = job_args(args=["a"], env={"A": "1"})
    assert copy.deepcopy(spec) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert dataclasses.asdict(spec)["env"] == {"A": "1"}
    assert "env={'A': '1'}" in repr(spec)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_are_absolute_from_the_start(kind: Callable[[str], str | Path]) -> None:
    """A reader finds the file even after the process has changed its directory."""
    spec = job_args(stdout_path=kind("o"), stderr_path=kind("e"), cwd=kind("w"))
    here = Path.cwd()
    assert (spec.stdout_path, spec.stderr_path) == (str(here / "o"), str(here / "e"))
    assert spec.cwd == str(here / "w")


def test_the_rfds_four_fields_are_enough() -> None:
    """Command, arguments and two paths: the rest has defaults."""
    spec = JobArgs("echo", ["hello"], stdout_path="/o", stderr_path="/e")
    assert (spec.command, spec.args, spec.cwd, spec.env) == ("echo", ("hello",), None, None)
    assert repr(spec) == (
        "JobArgs(command='echo', args=('hello',), stdout_path='/o', stderr_path='/e', "
        "cwd=None, env=None, directory=None, label='', max_output_bytes=None, "
        "timeout_seconds=None)"
    )
