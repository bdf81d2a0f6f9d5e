import re
import signal
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

import pytest
from cli_command import TELL, Cli
from cli_peer import Peer

VERBS = ["start", "status", "output", "stop", "certs", "completion"]
PUBLIC_NAMES = {
    "Address",
    "BrokenStreamError",
    "CannotStartError",
    "CertificateInfo",
    "Client",
    "ClientClosedError",
    "Credentials",
    "CredentialsError",
    "DataLossError",
    "InternalServerError",
    "InvalidRequestError",
    "JobbyClientError",
    "LimitError",
    "NotFoundError",
    "OutputEnd",
    "OutputStream",
    "PreconditionError",
    "Reason",
    "RefusedError",
    "State",
    "Status",
    "Stream",
    "StreamClosedError",
    "UnavailableError",
    "UnknownStartError",
    "Usage",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in VERBS),
        ["certs", "init", "--help"],
        ["certs", "server", "--help"],
        ["certs", "client", "--help"],
        ["completion", "bash"],
    ],
)
def test_what_needs_no_server_loads_no_grpc(bare: Cli, arguments: list[str]) -> None:
    """Help, version and completion are quick: neither grpc nor protobuf nor cryptography."""
    done = bare(*arguments, python=TELL)
    assert (done.code, done.err) == (0, "[]")
    assert done.out


def test_a_mistake_is_told_before_grpc_is_loaded(bare: Cli) -> None:
    """Nobody waits for a library to be told of a typing error or a missing file."""
    for arguments in (["start", "ls", "-l"], ["start", "ls"], ["status"]):
        assert bare(*arguments, python=TELL).err.endswith("[]")


def test_the_client_package_loads_grpc_only_for_the_client() -> None:
    """A program that imports jobby_client for its errors or credentials has no grpc loaded."""
    program = (
        "import sys\n"
        "from jobby_client import Credentials, NotFoundError\n"
        "assert 'grpc' not in sys.modules\n"
        "from jobby_client import Client\n"
        "assert 'grpc' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


INTERRUPTED = """
import os, signal, sys
from jobby_cli.entry import main

def interrupt(event, arguments):
    if event == "import" and arguments[0] == os.environ["AT"]:
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [("click", -signal.SIGINT, ""), ("grpc", 130, "jobby: interrupted\n")],
)
def test_ctrl_c_is_no_traceback_however_early(jobby: Cli, at: str, code: int, said: str) -> None:
    """Amid the command's own imports the signal ends it, which a shell shows as 130, too."""
    done = jobby("status", str(uuid.uuid4()), python=("-c", INTERRUPTED), env={"AT": at})
    assert (done.code, done.out, done.err) == (code, b"", said)


def test_pythons_end_is_left_out(jobby: Cli) -> None:
    """In it, gRPC's threads have crashed the process whose exit code a script relies on."""
    program = (
        "import atexit, os\nfrom jobby_cli.entry import main\natexit.register(os.abort)\nmain()"
    )
    done = jobby("status", str(uuid.uuid4()), python=("-c", program))
    assert (done.code, done.out, done.err) == (0, b"Status: COMPLETED, ExitCode: 0\n", "")


def test_the_public_names_of_the_client() -> None:
    """What a program may import from jobby_client, and all of it is there."""
    import jobby_client

    assert set(jobby_client.__all__) == PUBLIC_NAMES
    for name in jobby_client.__all__:
        assert getattr(jobby_client, name).__name__ == name
    with pytest.raises(AttributeError):
        jobby_client.Nonsense  # noqa: B018 - the access itself is what must fail


@pytest.mark.parametrize(
    "page",
    [[], *([verb] for verb in VERBS), ["certs", "init"], ["certs", "client"], ["certs", "server"]],
)
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_help_is_shown_in_any_encoding(bare: Cli, page: list[str], encoding: str) -> None:
    """A terminal that knows few characters shows all of every page."""
    done = bare(*page, "--help", env={"PYTHONIOENCODING": encoding})
    assert (done.code, done.err) == (0, "")
    assert done.out.decode("ascii") == bare(*page, "--help").out.decode()


@pytest.mark.parametrize("verb", ["start", "status", "output", "stop"])
def test_help_shows_an_example(bare: Cli, verb: str) -> None:
    """Each verb's help has a line that can be typed."""
    text = bare(verb, "--help").out.decode()
    assert re.search(rf"Examples?:  jobby {verb} ", text)


def test_help_is_the_same_everywhere(bare: Cli) -> None:
    """The list of verbs is complete, and the exit codes are those of the README."""
    shown = bare("--help").out.decode()
    for verb in VERBS:
        assert verb in shown
    page = (Path(__file__).parents[1] / "README.md").read_text()
    codes = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    listed = shown.partition("Exit codes:")[2].partition("Example:")[0]
    assert re.findall(r"\d+", listed) == codes != []


def test_the_version_is_the_packages(bare: Cli) -> None:
    """--version tells what is installed."""
    assert bare("--version").out.decode() == f"jobby {version('jobby-cli')}\n"


def test_the_tls_policy_comes_before_grpc(bare: Cli) -> None:
    """With grpc loaded before, its settings would be ignored: that is an error, not a weakness."""
    python = ("-c", "import grpc\nfrom jobby_cli.main import main\nmain()")
    done = bare("status", python=python)
    assert done.code == 1
    assert "grpc was imported before" in done.err


def test_it_runs_the_same_from_a_program(jobby: Cli, peer: Peer) -> None:
    """`main` takes its arguments from its caller, too, and returns the exit code."""
    job_id = str(uuid.uuid4())
    program = f"from jobby_cli.main import main\nraise SystemExit(main(['status', {job_id!r}]))"
    assert jobby(python=("-c", program)).out == b"Status: COMPLETED, ExitCode: 0\n"
