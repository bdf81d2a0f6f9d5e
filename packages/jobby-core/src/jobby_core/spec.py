"""Owns JobArgs: what to run and where its output goes, validated and frozen."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from jobby_core.errors import InvalidJobError


class _Environment(Mapping[str, str]):
    """A dict that stays as it is; unlike a MappingProxyType, it can be copied and pickled."""

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return repr(self._variables)


@dataclass(frozen=True, slots=True)
class JobArgs:
    """What to run and where its output goes. No shell is involved, ever.

    Everything that can be refused without asking the system is refused here,
    before anything exists.

    Attributes:
        command: a path, or a name that is looked up in the PATH of `env`.
        args: the command's arguments; kept as a tuple.
        stdout_path: where standard output is kept; must not exist yet.
        stderr_path: where standard error is kept; must not exist yet.
        cwd: the job's working directory; None is this process's own.
        env: the job's whole environment, to which only the launcher adds `JOBBY_JOB`, a mark by
            which its processes are found again; None is this process's own.
        directory: an existing folder, private to this user, for the job's record: with it
            the job survives this process, and `Job.attach` finds it again.
        label: free text that the record keeps for whoever attaches.
        max_output_bytes: how much both outputs together may hold; once they exceed
            it, the job is stopped (`Reason.OUTPUT_LIMIT`).
        timeout_seconds: how long the job may run; then it is stopped (`Reason.TIMED_OUT`).

    Raises:
        InvalidJobError: a field is empty, holds a NUL, cannot be encoded, or
            both outputs name the same file. Its `field` says which.
    """

    command: str
    args: Sequence[str] = ()
    _: KW_ONLY
    stdout_path: str | os.PathLike[str]
    stderr_path: str | os.PathLike[str]
    cwd: str | os.PathLike[str] | None = None
    env: Mapping[str, str] | None = field(default=None, hash=False)
    directory: str | os.PathLike[str] | None = None
    label: str = ""
    max_output_bytes: int | None = None
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_text("command", self.command)
        if not self.command:
            raise _invalid("command", "it is empty", "name the program to run")
        if isinstance(self.args, str | bytes):
            raise _invalid("args", "it is one string", _ONE_EACH)
        try:
            object.__setattr__(self, "args", tuple(self.args))
        except TypeError:
            raise _invalid("args", f"it is {_kind(self.args)}, no sequence", _ONE_EACH) from None
        for index, argument in enumerate(self.args):
            _check_text(f"args[{index}]", argument)
        for name in ("stdout_path", "stderr_path"):
            object.__setattr__(self, name, _absolute(name, getattr(self, name)))
        if self.stdout_path == self.stderr_path:
            raise _invalid("stderr_path", "it is the same as stdout_path", "name two files")
        for name in ("cwd", "directory"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _absolute(name, getattr(self, name)))
        _check_limit("max_output_bytes", self.max_output_bytes, 1, 2**63 - 1, int)
        _check_text("label", self.label)
        # As many milliseconds as fit, and more than any clock lives.
        _check_limit("timeout_seconds", self.timeout_seconds, 0.001, 1e12, int, float)
        if self.env is not None:
            _check_env(self.env)
            object.__setattr__(self, "env", _Environment(self.env))


_ONE_EACH = "give a sequence, one element an argument"


def _kind(value: object) -> str:
    return type(value).__name__


def _invalid(name: str, cause: str, way_out: str) -> InvalidJobError:
    return InvalidJobError(f"use {name}", cause, way_out, field=name.partition("[")[0])


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _invalid(name, f"it is {_kind(value)}, not str", "give a str")
    if "\0" in value:
        # execve(2) takes NUL-terminated strings: the rest would silently be lost.
        raise _invalid(name, "it contains a NUL character", "remove it")
    if value.isascii():
        return
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise _invalid(
            name, "it contains a character that the file system encoding lacks", "remove it"
        ) from None


def _absolute(name: str, value: str | os.PathLike[str]) -> str:
    # Made absolute here: the process may change its directory before a reader opens the file.
    try:
        path = os.fspath(value)
    except TypeError:
        raise _invalid(name, f"it is {_kind(value)}, no path", "give a str or a Path") from None
    _check_text(name, path)
    if not path:
        raise _invalid(name, "it is empty", "name a path")
    return os.path.abspath(path)


def _check_limit(name: str, value: float | None, least: float, most: float, *of: type) -> None:
    if value is None:
        return
    if not isinstance(value, of) or isinstance(value, bool):  # an int, too, that reads as a word
        kinds = " or ".join(kind.__name__ for kind in of)
        raise _invalid(name, f"it is {_kind(value)}, not {kinds}", f"give an {kinds}")
    if not least <= value <= most:
        raise _invalid(name, f"{value} is not between {least} and {most}", "leave it out for none")


def _check_env(env: Mapping[str, str]) -> None:
    if not isinstance(env, Mapping):
        raise _invalid("env", f"it is {_kind(env)}, no mapping", "give a dict of names to values")
    for name, value in env.items():
        _check_text("env", name)
        _check_text("env", value)
        if not name or "=" in name:
            raise _invalid("env", f"{name!r} is no variable name", "use names without '='")
