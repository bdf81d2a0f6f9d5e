"""What a job finds: the server's environment without the server's settings, no descriptor."""

import os
from pathlib import Path

from harness.environments import Installed
from support import calls
from support.calls import Client, Contract
from support.certificates import Authority
from support.server import Server

OWN = {
    "JOBBY_LISTEN": "127.0.0.1:0",
    "JOBBY_CA": "ca.crt",
    "JOBBY_CERT": "server.cert",
    "JOBBY_KEY": "server.key",
    "JOBBY_LOG_LEVEL": "info",
}


def test_a_job_gets_the_servers_environment_without_its_settings(
    installed: Installed, rfd: Contract, authority: Authority, tmp_path: Path
) -> None:
    """Neither what Jobby sets for gRPC nor its own settings reach a job; all the rest does."""
    command = installed.server.bin("jobby-server")
    more = {**OWN, "COLOUR": "a=b\nc", "EMPTY": ""}
    with (
        Server(command, authority.server(), tmp_path, env=more) as server,
        calls.client(rfd, server.address, authority.client("alice")) as caller,
    ):
        output = caller.read(caller.start("env", "-0")).decode()
    found = dict(entry.split("=", 1) for entry in output.removesuffix("\0").split("\0"))
    assert found.pop("JOBBY_JOB")  # the job's own mark
    assert not [name for name in found if name.startswith(("GRPC", "JOBBY"))]
    assert found["COLOUR"] == "a=b\nc"
    assert found["EMPTY"] == ""
    assert {"PATH", "HOME", "LANG", "TMPDIR"} <= set(found)


def test_what_was_set_for_grpc_by_somebody_else_is_the_jobs_too(
    installed: Installed, rfd: Contract, authority: Authority, tmp_path: Path
) -> None:
    """A gRPC variable that the operator has set reaches the jobs as it was set."""
    command = installed.server.bin("jobby-server")
    more = {"GRPC_ENABLE_FORK_SUPPORT": "1", "GRPC_SSL_CIPHER_SUITES": "HIGH"}
    with (
        Server(command, authority.server(), tmp_path, env=more) as server,
        calls.client(rfd, server.address, authority.client("alice")) as caller,
    ):
        names = caller.read(caller.start("env")).decode().splitlines()
    assert {f"{name}={value}" for name, value in more.items()} <= set(names)


def test_a_job_has_three_descriptors(caller: Client, server: Server) -> None:
    """Standard input is empty, the outputs are private files, and nothing else is open."""
    # A second job and an open stream, whose descriptors a later job must not see.
    other = caller.start("sleep", "1000")
    stream = caller.output(other)
    stream.initial_metadata()
    # Not another program, which would open its libraries in between.
    job = caller.start("sh", "-c", "echo $$; kill -STOP $$")
    pid = int(next(caller.output(job)).data)
    folder = server.spool / calls.as_text(job)
    found = {int(fd.name): os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    assert found == {0: "/dev/null", 1: str(folder / "stdout"), 2: str(folder / "stderr")}
    stream.cancel()
    for each in (job, other):
        caller.stop(each)


def test_a_job_is_a_session_of_its_own(caller: Client, server: Server) -> None:
    """A job leads its process group, in its launcher's session, and has no terminal."""
    fields = caller.read(caller.start("cat", "/proc/self/stat")).decode().split()
    pid, group, session, terminal = fields[0], fields[4], fields[5], fields[6]
    assert pid == group
    assert int(session) not in (os.getsid(0), os.getsid(server.pid))
    assert terminal == "0"


def test_outputs_are_private(caller: Client, server: Server) -> None:
    """The folder of all outputs and each job's own are 0700, the files 0600."""
    job = caller.start("true")
    caller.ended(job)
    folder = server.spool / calls.as_text(job)
    modes = [oct(path.stat().st_mode & 0o777) for path in (server.spool, folder, *folder.iterdir())]
    assert modes == ["0o700", "0o700", "0o600", "0o600"]
