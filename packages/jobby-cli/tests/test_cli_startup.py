import os
import re
import signal
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

import pytest
from cli_kit import Cli, Peer

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
# Runs the command, and afterwards tells on stderr which heavy packages were loaded.
TELL = (
    "-c",
    (
        "import atexit, sys\n"
        "heavy = ('grpc', 'google', 'cryptography', 'jobby_proto')\n"
        "atexit.register(lambda: sys.stderr.write(repr([m for m in heavy if m in sys.modules])))\n"
        "from jobby_cli.main import main\n"
        "sys.exit(main())"
    ),
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in VERBS),
        ["certs", "init", "--help"],
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


def test_the_public_names_of_the_client() -> None:
    """What a program may import from jobby_client, and all of it is there."""
    import jobby_client

    assert set(jobby_client.__all__) == PUBLIC_NAMES
    for name in jobby_client.__all__:
        assert getattr(jobby_client, name).__name__ == name
    with pytest.raises(AttributeError):
        jobby_client.Nonsense  # noqa: B018 - the access itself is what must fail


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


def completions(jobby: Cli, shell: str, *words: str) -> list[str]:
    """What the shell would offer for the last word."""
    env = {
        "_JOBBY_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["jobby", *words]),
        "COMP_CWORD": str(len(words)) if shell != "fish" else words[-1],
    }
    done = jobby(env=env, python=TELL)
    assert (done.code, done.err) == (0, "[]"), "quietly, and without grpc"
    return done.out.decode().split()


def test_the_shell_completes_verbs_and_options(bare: Cli) -> None:
    """Verbs, options and their values are offered, without any certificate."""
    assert completions(bare, "bash", "st") == ["plain,start", "plain,status", "plain,stop"]
    assert completions(bare, "bash", "output", "--ty") == ["plain,--type"]
    assert completions(bare, "bash", "output", "--type", "std") == ["plain,stdout", "plain,stderr"]


@pytest.mark.parametrize("option", ["--ca", "--cert", "--key", "--config"])
def test_the_shell_completes_file_names(bare: Cli, option: str) -> None:
    """Where a file is due, the shell is told to offer its own names."""
    assert completions(bare, "bash", option, "cl") == ["file,cl"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_recent_ids(jobby: Cli, shell: str) -> None:
    """Ids of jobs started from here are offered, the last first, and those that fit."""
    ids = [jobby("start", command).out.decode().split()[-1] for command in ("one", "two")]
    offered = "\n".join(completions(jobby, shell, "status", ""))
    assert offered.index(ids[1]) < offered.index(ids[0])
    assert ids[0] not in "\n".join(completions(jobby, shell, "stop", ids[1][:12]))


def test_completion_is_silent_when_it_cannot_know(bare: Cli, jobby: Cli) -> None:
    """No certificate, a damaged list: nothing is offered, and the line isn't spoilt."""
    jobby.recent.parent.mkdir(parents=True)
    jobby.recent.write_text("damaged")
    assert completions(jobby, "bash", "status", "") == []
    (bare.folder / "client.key").unlink()
    assert completions(bare, "bash", "status", "") == []


def test_the_completion_script_works_in_bash(jobby: Cli, tmp_path: Path) -> None:
    """A real bash takes the script and completes with it."""
    job_id = jobby("start", "one").out.decode().split()[-1]
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "jobby").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jobby_cli "$@"\n')
    (bin_ / "jobby").chmod(0o755)
    script = (
        'eval "$(jobby completion bash)"; COMP_WORDS=(jobby status ""); COMP_CWORD=2;'
        '_jobby_completion jobby; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = jobby.environment() | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=jobby.folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{job_id}\n"


def test_it_runs_the_same_from_a_program(jobby: Cli, peer: Peer) -> None:
    """`main` takes its arguments from its caller, too, and returns the exit code."""
    job_id = str(uuid.uuid4())
    program = f"from jobby_cli.main import main\nraise SystemExit(main(['status', {job_id!r}]))"
    assert jobby(python=("-c", program)).out == b"Status: COMPLETED, ExitCode: 0\n"
