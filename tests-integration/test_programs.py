"""Programs that import what is installed: the library, the typed client, the README's own."""

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from harness.cache import PACKAGES, ROOT
from harness.environments import Environment, Installed
from support.certificates import Authority
from support.program import Program
from support.server import Server, environment
from support.user import User
from support.waiting import DEADLINE_SECONDS

UNAVAILABLE = 69


def run(where: Environment, program: str, folder: Path, *arguments: str) -> str:
    """Run a program in an environment, where any warning is an error; returns what it prints."""
    done = subprocess.run(
        [where.python, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,  # what it says on stderr is shown
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


CLIENT = """
    import os, sys
    before = dict(os.environ)
    from jobby_client import Credentials, NotFoundError, State, Stream

    assert "grpc" not in sys.modules
    from jobby_client import Client

    credentials = Credentials.from_files("ca.cert", "client.cert", "client.key")
    with Client(sys.argv[1], credentials) as client:
        job = client.start("sh", ["-c", "echo out; echo err >&2; exit 3"])
        for stream in Stream:
            with client.output(job, stream) as chunks:
                print(b"".join(chunks).decode(), end="")
        status = client.status(job)
        print(status.state.value, status.exit_code)
        job = client.start("sleep", ["1000"])
        assert client.status(job).state is State.RUNNING
        client.stop(job)
        assert client.status(job).state is State.STOPPED
        try:
            client.status(bytes(16).hex())
        except NotFoundError as error:
            assert "no such job" in str(error)
    assert dict(os.environ) == before
    assert not {"click", "jobby_cli", "jobby_core", "jobby_server"} & set(sys.modules)
"""


def test_the_typed_client_in_a_program(installed: Installed, alice: User, server: Server) -> None:
    """A program starts, reads, looks and stops by `jobby_client` alone, whose import changes
    nothing in its environment and loads no command line."""
    output = run(installed.client, CLIENT, alice.folder, server.address)
    assert output == "out\nerr\nCOMPLETED 3\n"


ASYNCIO = """
    import asyncio, sys
    from jobby_core import Job, JobArgs, State, Stream

    async def main():
        job = Job.start(JobArgs("seq", ["3"], stdout_path="out", stderr_path="err"))
        async with job.follow(Stream.STDOUT) as follower:
            chunks = [chunk async for chunk in follower]
        sys.stdout.write(b"".join(chunks).decode())
        assert job.status().state is State.COMPLETED

    asyncio.run(main())
    assert not {"grpc", "google.protobuf", "click"} & set(sys.modules)
"""


def test_the_library_with_asyncio(installed: Installed, tmp_path: Path) -> None:
    """The library works without anything else of Jobby."""
    assert run(installed.library, ASYNCIO, tmp_path) == "1\n2\n3\n"


def readme(folder: Path, language: str) -> list[str]:
    """The blocks of one language in a folder's README."""
    text = (folder / "README.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for kind, block in blocks if kind == language]


def test_the_readmes_program(installed: Installed, tmp_path: Path) -> None:
    """The program that the README shows to a user of the library runs as it stands there."""
    (program,) = readme(ROOT, "python")
    *lines, last = run(installed.library, program, tmp_path).splitlines()
    assert lines == (tmp_path / "out").read_text().splitlines() != []
    assert last.startswith("Status(state=<State.COMPLETED")


def test_the_clients_own_readmes_program(installed: Installed, alice: User, server: Server) -> None:
    """The program that the client's README shows runs as it stands there, but for the address."""
    (program,) = readme(PACKAGES / "jobby-cli", "python")
    assert program.count('"localhost:50051"') == 1
    program = program.replace("localhost:50051", server.address)
    chunk, status, error = run(installed.client, program, alice.folder).splitlines()
    assert chunk == "b'hello\\n'"
    assert "exit_code=3" in status
    assert "no such job" in error


@pytest.mark.parametrize("folder", [ROOT, PACKAGES / "jobby-cli"], ids=["README", "jobby-cli"])
def test_the_readmes_session(folder: Path, alice: User) -> None:
    """The commands that a README shows to an operator answer as it says, but for the id."""
    (session,) = [block for block in readme(folder, "") if "start echo -a hello" in block]
    steps = re.findall(r"^\$ jobby (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    started, status, output = [step for step in steps if not step[0].startswith("certs init")]

    said = alice.jobby(*started[0].split()).stdout.decode()
    job, shown = said.split()[-1], started[1].split()[-1]
    assert said == started[1].replace(shown, job)
    alice.jobby("output", job)  # to its end, which the next command takes for granted
    verb, which = status[0].split()
    assert shown.startswith(which)
    assert alice.jobby(verb, job[: len(which)]).stdout.decode() == status[1]
    assert alice.jobby(*output[0].split()).stdout.decode() == output[1]


def test_the_servers_readmes_session(
    installed: Installed, authority: Authority, tmp_path: Path
) -> None:
    """With the three files and no option it listens where its README shows; a second one cannot."""
    (session,) = [block for block in readme(PACKAGES / "jobby-server", "") if "$ ls\n" in block]
    listing, log = session.removeprefix("$ ls\n").split("$ jobby-server\n")
    folder = authority.server().for_server(tmp_path / "server")
    assert sorted(path.name for path in folder.iterdir()) == sorted(listing.split())

    def begin() -> Program:
        command = installed.server.bin("jobby-server")
        return Program([command], cwd=folder, env=environment(tmp_path))

    def check_refused(server: Program) -> None:
        assert server.wait() == UNAVAILABLE
        said = server.stderr.all()
        assert b"cannot listen on 127.0.0.1:50051: the address is in use" in said

    with begin() as first:
        if b"in use" in first.stderr.until(r".*:50051.*\n")[0]:  # by somebody else on this machine
            check_refused(first)
            return
        assert as_shown(first.stderr.now().decode()) == as_shown(log)
        with begin() as second:
            check_refused(second)


def as_shown(log: str) -> str:
    """A log without what differs each time: when, and which folder."""
    return re.sub(
        r"\S+/jobby-server-\w+", "FOLDER", re.sub(r"^\S+Z", "TIME", log, flags=re.MULTILINE)
    )
