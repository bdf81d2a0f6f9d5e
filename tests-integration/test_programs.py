"""Programs that import what is installed: the library, the typed client, the README's own."""

import re
import subprocess
import textwrap
from pathlib import Path

from harness.cache import PACKAGES, ROOT
from harness.environments import Environment, Installed
from support.server import Server, environment
from support.user import User
from support.waiting import DEADLINE_SECONDS


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


def test_the_readmes_session(alice: User) -> None:
    """The commands that the README shows to an operator answer as it says, but for the id."""
    (session,) = [block for block in readme(ROOT, "") if "start echo -a hello" in block]
    steps = re.findall(r"^\$ jobby (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    words = [command.split("  #")[0].split() for command, _ in steps]
    assert [each[0] for each in words] == ["certs", "start", "status", "output"]

    start = alice.jobby(*words[1]).stdout.decode()
    job = start.split()[-1]
    shown = steps[1][1].split()[-1]
    assert start == steps[1][1].replace(shown, job)
    alice.jobby("output", job)  # to its end, which the next command takes for granted
    assert shown.startswith(words[2][1])
    assert alice.jobby("status", job[: len(words[2][1])]).stdout.decode() == steps[2][1]
    assert alice.jobby(*words[3]).stdout.decode() == steps[3][1]
