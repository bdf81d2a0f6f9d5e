"""Promises about starting: a job runs, or there is a typed error and nothing is left behind."""

import dataclasses
import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    background,
    descriptors,
    has_children,
    read_all,
    run_job_script,
)

from jobby_core import (
    ArgumentsTooLongError,
    CommandNotExecutableError,
    CommandNotFoundError,
    Job,
    JobArgs,
    JobbyError,
    OutputError,
    State,
    WorkingDirectoryError,
)
from jobby_core._diagnosis import start_error

pytestmark = pytest.mark.usefixtures("both_ways")


def refused(spool: Spool, args: JobArgs) -> JobbyError:
    """Starts what cannot be started; returns the error once nothing is found to be left."""
    files, open_before = sorted(spool.folder.rglob("*")), descriptors()
    with pytest.raises(JobbyError) as caught:
        Job.start(args)
    assert sorted(spool.folder.rglob("*")) == files
    assert descriptors().items() <= open_before.items()  # others' threads may close something
    assert not has_children()
    return caught.value


def script(spool: Spool, text: str, mode: int = 0o755) -> str:
    """Writes an executable file."""
    path = spool.file(text.encode())
    os.chmod(path, mode)
    return path


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("no-such-command-anywhere", "it is not in the job's PATH"),
        ("/no/such/file", "there is no such file"),
        ("./no-such-file", "there is no such file"),
        ("/etc/passwd/not-a-folder", "there is no such file"),
    ],
)
def test_a_missing_command_is_not_found(spool: Spool, command: str, cause: str) -> None:
    """The error names the command and says where it was looked for."""
    error = refused(spool, spool.args(command))
    assert type(error) is CommandNotFoundError
    assert str(error) == (
        f"cannot start {command!r}: {cause}; check the spelling, or give the full path"
    )
    assert error.path == command


def test_a_path_that_may_not_be_entered_hides_no_misspelling(spool: Spool) -> None:
    """The system says EACCES for any command then; one that is nowhere is not found."""
    args = spool.args("no-such-command-anywhere")
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert type(start_error(args, denied)) is CommandNotFoundError


@pytest.mark.parametrize(
    ("text", "mode", "cause"),
    [
        ("#!/bin/sh\n", 0o644, "{path} may not be executed"),
        ("", 0o755, "{path} is not a program the system knows"),
        ("echo no shebang\n", 0o755, "{path} is not a program the system knows"),
        ("#!/no/such/sh -e\n", 0o755, "the interpreter of {path} is missing (/no/such/sh -e)"),
        ("#!/bin/sh\r\n", 0o755, "the first line of {path} ends in CRLF, so its interpreter"),
    ],
)
@pytest.mark.parametrize("by", ["path", "name"])
def test_a_file_that_is_no_program_is_not_executable(
    spool: Spool, text: str, mode: int, cause: str, by: str
) -> None:
    """The error names the file, also one found through the job's PATH, and what it lacks."""
    path = script(spool, text, mode)
    if by == "path":
        args = spool.args(path)
    else:
        args = spool.args(os.path.basename(path), env={"PATH": f"/nowhere:{spool.folder}"})
    error = refused(spool, args)
    assert type(error) is CommandNotExecutableError
    assert error.cause.startswith(cause.format(path=path))
    assert error.path == path


@pytest.mark.parametrize("by", ["path", "name", "working directory too"])
def test_a_folder_is_not_executable(spool: Spool, by: str) -> None:
    """A folder is called a folder, however it was named."""
    folder = spool.path()
    folder.mkdir()
    if by == "path":
        args = spool.args(str(folder))
    elif by == "name":
        args = spool.args(folder.name, env={"PATH": str(spool.folder)})
    else:
        args = spool.args(str(folder), cwd=str(folder))
    error = refused(spool, args)
    assert type(error) is CommandNotExecutableError
    assert str(error) == f"cannot start {args.command!r}: {folder} is a directory; name a program"


def test_what_the_system_refuses_for_another_reason_is_said_in_its_words(spool: Spool) -> None:
    """An error that has no sentence of its own keeps the system's."""
    name = "x" * 300
    assert "File name too long" in str(refused(spool, spool.args(f"/tmp/{name}")))
    loop = spool.path()
    loop.symlink_to(loop)
    assert "symbolic links" in str(refused(spool, spool.args(str(loop))))


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_working_directory_that_cannot_be_entered(spool: Spool, kind: str) -> None:
    """It is told apart from a missing command, which the system reports alike."""
    cwd = spool.file(b"") if kind == "a file" else str(spool.path())
    error = refused(spool, spool.args("true", cwd=cwd))
    assert type(error) is WorkingDirectoryError
    assert f"cannot start 'true': cannot enter its working directory {cwd}: " in str(error)
    assert error.path == cwd


@pytest.mark.parametrize("args", [["x" * 131_072], ["x" * 1000] * 3000])
def test_arguments_beyond_the_systems_limit(spool: Spool, args: list[str]) -> None:
    """One argument of 128 KiB (MAX_ARG_STRLEN) or several megabytes in all: execve(2), E2BIG."""
    error = refused(spool, spool.args("true", *args))
    assert type(error) is ArgumentsTooLongError
    assert "too long for the system; pass the data in a file" in str(error)


def test_arguments_just_within_the_systems_limit(spool: Spool) -> None:
    """131,071 bytes are still taken."""
    job = spool.start("printf", "%s", "x" * 131_071)
    assert job.wait(DEADLINE_SECONDS).exit_code == 0
    assert len(read_all(job.stdout())) == 131_071


@pytest.mark.parametrize("which", ["stdout_path", "stderr_path"])
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing/o", "No such file or directory"),
        ("file/o", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_output_that_cannot_be_created(spool: Spool, which: str, name: str, cause: str) -> None:
    """The error names the path and the cause; the other output isn't left behind."""
    (spool.folder / "file").touch()
    path = str(spool.folder / name)
    changes: dict[str, Any] = {which: path}
    error = refused(spool, dataclasses.replace(spool.args("true"), **changes))
    assert type(error) is OutputError
    assert error.path == path
    assert str(error) == (
        f"cannot create {path} for a job's output: {cause}; "
        "check that its folder exists and may be used by this user"
    )


def test_nothing_is_interpreted_on_the_way(spool: Spool) -> None:
    """No shell: every argument arrives byte for byte, also what no encoding can read."""
    args = [
        "",
        " ",
        "$(id)",
        "`id`",
        "*",
        "a\nb",
        "'\"\\",
        "-n",
        "--",
        "ä",
        os.fsdecode(b"\xff\xfe"),
    ]
    job = spool.python(
        "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))", *args
    )
    assert read_all(job.stdout()) == b"\0".join(map(os.fsencode, args))


def test_the_environment_is_the_given_one_and_nothing_else(spool: Spool, both_ways: str) -> None:
    """`env` replaces all but the launcher's mark; without it, the job has this process's own."""
    given = {"PATH": os.environ["PATH"], "A": "ä ="}
    job = spool.start("env", "-0", env=given)
    pairs = dict(
        pair.split("=", 1) for pair in read_all(job.stdout()).decode().rstrip("\0").split("\0")
    )
    assert bool(pairs.pop("JOBBY_JOB", "")) == (both_ways == "launched")
    assert pairs == given
    inherited = read_all(spool.start("env", "-0").stdout()).split(b"\0")
    assert {os.fsencode(f"{name}={value}") for name, value in os.environ.items()} <= set(inherited)


def test_the_command_is_looked_up_in_the_jobs_own_path(spool: Spool) -> None:
    """A name is searched in `env`'s PATH; a relative path counts from `cwd`."""
    path = script(spool, "#!/bin/sh\necho found in $PWD\n")
    name, folder = os.path.basename(path), str(spool.folder)
    by_name = spool.start(name, env={"PATH": folder}, cwd="/")
    assert read_all(by_name.stdout()) == b"found in /\n"
    by_path = spool.start(f"./{name}", cwd=folder)
    assert read_all(by_path.stdout()) == f"found in {folder}\n".encode()
    assert type(refused(spool, spool.args(f"./{name}", cwd="/"))) is CommandNotFoundError


def test_a_job_has_its_own_session_and_nothing_of_ours(spool: Spool) -> None:
    """It leads its group in a session of its own, and inherits no descriptor but its three."""
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        job = spool.python(
            "import os\n"
            "fds = sorted(map(int, os.listdir('/proc/self/fd')))\n"
            "links = [f'/proc/self/fd/{fd}' for fd in fds]\n"
            "fds = [os.readlink(link) for link in links if os.path.exists(link)]\n"
            "print(os.getpid(), os.getpgrp(), os.getsid(0), fds, sep='|')"
        )
        expected = ["/dev/null", job.args.stdout_path, job.args.stderr_path]
        pid, group, session, links = read_all(job.stdout()).decode().rstrip("\n").split("|")
        assert (int(pid), int(group), links) == (job.pid, job.pid, str(expected))
        assert int(session) not in (os.getsid(0), os.getpid())
    finally:
        os.close(held)


def test_what_is_open_here_is_not_kept_open_by_a_job(spool: Spool) -> None:
    """Neither by it nor by its launcher: who reads a pipe of ours sees its end while a job runs."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        spool.start("sleep", "1000")
    finally:
        os.close(writing)
    try:
        assert background(os.read, reading, 1).result(DEADLINE_SECONDS) == b""
    finally:
        os.close(reading)


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
def test_a_program_that_closed_its_standard_streams_starts_jobs(
    tmp_path: Path, closed: str
) -> None:
    """As a daemon does: the outputs' own descriptors then have the numbers of the standard ones."""
    script = """
kept = os.dup(1)
for fd in map(int, sys.argv[2]):
    os.close(fd)
job = shell("echo out; echo err >&2; read line; exit 3")
code = job.wait().exit_code
with job.stdout() as out, job.stderr() as err:
    os.write(kept, repr((code, out.read(), err.read())).encode())
"""
    assert run_job_script(script, tmp_path, closed) == "(3, b'out\\n', b'err\\n')"


def test_a_job_has_ordinary_signals(spool: Spool) -> None:
    """Python ignores SIGPIPE for itself; the job must not inherit that."""
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    status = spool.shell("kill -PIPE $$").wait(DEADLINE_SECONDS)
    assert (status.signal, status.exit_code) == (signal.SIGPIPE, 128 + signal.SIGPIPE)


def test_jobs_can_be_started_from_many_threads_at_once(spool: Spool) -> None:
    """Each gets its own outputs and outcome; none gets another's descriptor."""

    def start(thread: int) -> list[Job]:
        return [
            spool.shell('printf "%s" "$1"; exit "$2"', f"{thread}.{number}", str(number))
            for number in range(8)
        ]

    for thread, jobs in enumerate([background(start, thread) for thread in range(6)]):
        for number, job in enumerate(jobs.result(DEADLINE_SECONDS)):
            assert job.wait(DEADLINE_SECONDS).exit_code == number
            assert read_all(job.stdout()) == f"{thread}.{number}".encode()


def test_a_started_job_runs(spool: Spool) -> None:
    """When `start` returns, the command was executed, not only forked."""
    gate = spool.gate()
    job = spool.shell('read _ < "$1"', gate.path)
    assert os.readlink(f"/proc/{job.pid}/exe") == os.path.realpath(shutil.which("sh") or "")
    status = job.status()
    assert (status.state, status.exit_code, status.ended_at) == (State.RUNNING, None, None)
    gate.open()
    ended = job.wait(DEADLINE_SECONDS)
    assert ended.ended_at is not None
    assert ended.started_at == status.started_at <= ended.ended_at


def test_the_job_and_its_arguments_can_be_asked_for(spool: Spool) -> None:
    """`args` is what was given, `pid` the main process's, and repr shows the live state."""
    gate = spool.gate()
    args = spool.args("sh", "-c", f"read _ < {gate.path}; exit 3")
    job = Job.start(args)
    spool.jobs.append(job)
    assert job.args is args
    assert repr(job) == f"<Job 'sh' running pid={job.pid}>"
    gate.open()
    job.wait(DEADLINE_SECONDS)
    assert repr(job) == "<Job 'sh' completed exit_code=3>"
    stopped = spool.start("sleep", "1000")
    stopped.stop()
    assert repr(stopped) == f"<Job 'sleep' stopped pid={stopped.pid}>"


def test_python_itself_is_no_special_case(spool: Spool) -> None:
    """The running interpreter can be started like any other command."""
    assert read_all(spool.start(sys.executable, "-c", "print('hi')").stdout()) == b"hi\n"
