"""The unit for systemd that the server's wheel brings is one that a server runs as."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harness.environments import Installed
from support import calls, procfs
from support.calls import Contract
from support.certificates import Authority
from support.server import Server


@pytest.fixture
def unit(installed: Installed) -> dict[str, list[str]]:
    """What the unit sets, by key (systemd.syntax(7))."""
    path = installed.server.path / "lib" / "systemd" / "system" / "jobby-server.service"
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_a_server_runs_as_it_says_and_keeps_its_jobs(
    installed: Installed,
    authority: Authority,
    rfd: Contract,
    unit: dict[str, list[str]],
    tmp_path: Path,
) -> None:
    """The command and the variables are right, and a job outlives what systemd does to stop it."""
    (command,) = map(Path, unit["ExecStart"])
    variables = dict(
        assignment.split("=", 1)
        for line in unit["Environment"]
        for assignment in shlex.split(line.replace("/var/lib/jobby", str(tmp_path)))
    )
    etc = tmp_path / "etc"
    authority.server().for_server(etc)
    env = {name: text.replace("/etc/jobby", str(etc)) for name, text in variables.items()}
    program, work = installed.server.bin(command.name), tmp_path / "work"
    work.mkdir()
    assert unit["KillMode"] == ["process"]  # SIGTERM, to the server alone
    with Server(program, None, work, env=env) as first:
        assert first.spool == tmp_path / "state"
        with calls.client(rfd, first.address, authority.client("alice")) as alice:
            job = alice.start("sh", "-c", "echo $$; exec sleep 1000")
            pid = int(next(alice.output(job)).data)
        first.terminate()
        assert first.program.wait() == 0
    assert procfs.alive(pid)
    with Server(program, None, work, env=env) as second:
        with calls.client(rfd, second.address, authority.client("alice")) as alice:
            alice.stop(job)
        assert not procfs.alive(pid)


def test_it_is_not_started_again_for_what_stays_wrong(
    installed: Installed, unit: dict[str, list[str]], tmp_path: Path
) -> None:
    """Wrong usage is not tried again, by its exit code; anything else is, for ever."""
    program = installed.server.bin("jobby-server")
    wrong = subprocess.run(
        [program, "--no-such-option"], cwd=tmp_path, check=False, capture_output=True
    )
    assert unit["RestartPreventExitStatus"] == [str(wrong.returncode)]
    assert unit["StartLimitIntervalSec"] == ["0"]
