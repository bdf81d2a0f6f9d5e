"""What the command line tells of itself: help with examples, quickly; JSON; completion."""

import json
import re
import uuid
from pathlib import Path

import pytest

from harness.cache import ROOT
from harness.environments import Installed
from support.calls import Client
from support.server import Server
from support.user import User

VERBS = ("start", "status", "output", "stop", "certs", "completion")
PAGES = [
    [],
    *([verb] for verb in VERBS),
    ["certs", "init"],
    ["certs", "client"],
    ["certs", "server"],
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(["jobby", *page]))
def test_every_page_has_an_example(installed: Installed, tmp_path: Path, page: list[str]) -> None:
    """--help works everywhere without any file or server, also of what only the extra can do, and
    shows an example of this very command."""
    nobody = User(installed.client.bin("jobby"), tmp_path, None, "127.0.0.1:1")
    done = nobody.jobby(*page, "--help")
    assert (done.code, done.stderr) == (0, "")
    text = done.stdout.decode()
    assert re.search(rf"Examples?:\s+.*jobby {' '.join(page)}", text, re.DOTALL)
    assert max(map(len, text.splitlines())) <= 100


def test_the_main_page_names_every_verb_and_exit_code(alice: User) -> None:
    """`jobby --help` is enough to know what there is, and what an exit code means."""
    text = alice.jobby("--help").stdout.decode()
    for word in (*VERBS, "--server", "--ca", "--cert", "--key", "JOBBY_SERVER"):
        assert word in text
    for code in (0, 64, 65, 66, 69, 70, 74, 75, 77, 78, 129, 130, 143):
        assert re.search(rf"\b{code}\b", text), code


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["start", "--help"], ["strat"]])
def test_what_needs_no_server_loads_no_grpc(alice: User, words: list[str]) -> None:
    """Help, version and usage errors import neither grpc nor protobuf."""
    done = alice.jobby(*words, env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "click" in loaded
    assert not {"grpc", "google.protobuf", "cryptography", "jobby_proto"} & loaded


def test_versions(alice: User, server: Server, installed: Installed) -> None:
    """Both programs name themselves and the version of their wheel."""
    for distribution, name, environment in (
        ("jobby-cli", "jobby", installed.client),
        ("jobby-server", "jobby-server", installed.server),
    ):
        done = alice.run([str(environment.bin(name)), "--version"])
        assert (
            done.stdout.decode() == f"{name} {installed.wheels.metadata(distribution)['Version']}\n"
        )
        assert (done.code, done.stderr) == (0, "")


def test_the_servers_help(alice: User, installed: Installed) -> None:
    """`jobby-server --help` names each option that its README does, no other, and needs no file."""
    done = alice.run([str(installed.server.bin("jobby-server")), "--help"])
    assert (done.code, done.stderr) == (0, "")
    option = r"--[a-z][a-z-]*"
    readme = (ROOT / "packages" / "jobby-server" / "README.md").read_text()
    documented = set(re.findall(rf"^\| `({option})", readme, re.MULTILINE))
    assert {"--listen", "--state-dir", "--stop-jobs-on-exit", "--keep-bytes"} < documented
    shown = set(re.findall(rf"^  (?:-\w, )?({option})", done.stdout.decode(), re.MULTILINE))
    assert shown == documented | {"--help", "--version"}


def test_json(alice: User, caller: Client) -> None:
    """--json prints one object a line, whose fields are the contract's."""
    start = json.loads(
        alice.jobby("start", "--json", "--", "sh", "-c", "echo hello; exit 3").stdout
    )
    job = uuid.UUID(start["job_id"])
    caller.ended(job.bytes)
    status = alice.jobby("status", "--json", str(job)).stdout
    assert status.count(b"\n") == 1
    fields = json.loads(status)
    known = {"job_id": str(job), "status": "COMPLETED", "exit_code": 3, "stdout_bytes": 6}
    assert {name: fields[name] for name in known} == known
    assert fields["started_at"] <= fields["ended_at"]
    assert {"reason", "signal", "stopped_by", "stderr_bytes", "usage"} < fields.keys()
    running = json.loads(alice.jobby("start", "--json", "sleep", "1000").stdout)["job_id"]
    fields = json.loads(alice.jobby("status", "--json").stdout)
    known = {"job_id": running, "status": "RUNNING", "exit_code": None, "ended_at": None}
    assert {name: fields[name] for name in known} == known
    alice.jobby("stop", running)


def completions(user: User, line: str) -> list[str]:
    """What bash is offered at the end of `line`."""
    words = line.split(" ")
    variables = {
        "_JOBBY_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = user.jobby(env=variables)
    assert (done.code, done.stderr) == (0, "")
    return [offer.partition(",")[2] for offer in done.stdout.decode().split()]


def test_completion(alice: User) -> None:
    """Verbs, options and this user's own ids are completed."""
    job = alice.start("true")
    assert completions(alice, "jobby st") == ["start", "status", "stop"]
    assert completions(alice, "jobby output --ty") == ["--type"]
    assert completions(alice, "jobby output --type ") == ["stdout", "stderr"]
    assert completions(alice, f"jobby stop {job[:4]}") == [job]
    assert completions(alice, "jobby stop zzz") == []


def test_the_completion_script_is_accepted_by_its_shell(alice: User) -> None:
    """bash takes the script, and knows then how to complete `jobby`."""
    done = alice.shell('eval "$(jobby completion bash)"; complete -p jobby')
    assert done.code == 0
    assert "jobby" in done.stdout.decode()
    for shell in ("zsh", "fish"):
        script = alice.jobby("completion", shell)
        assert script.code == 0
        assert b"_JOBBY_COMPLETE" in script.stdout
