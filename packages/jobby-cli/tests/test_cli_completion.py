"""What the shell is offered while a line is typed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_command import TELL, Cli
from cli_gathered import Gathered
from cli_waiting import DEADLINE_SECONDS


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


def test_completion_is_silent_when_it_cannot_know(jobby: Cli) -> None:
    """No certificate, a damaged list: nothing is offered, and the line isn't spoilt."""
    jobby.recent.parent.mkdir(parents=True)
    jobby.recent.write_text("damaged")
    assert completions(jobby, "bash", "status", "") == []
    jobby.recent.unlink()
    job_id = jobby("start", "one").out.decode().split()[-1]
    assert completions(jobby, "bash", "status", "") == [f"plain,{job_id}"]
    (jobby.folder / "client.cert").unlink()
    assert completions(jobby, "bash", "status", "") == []


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


@pytest.fixture
def typed(jobby: Cli, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Types a line into an interactive bash, tab and enter; returns the command's arguments."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "jobby").write_text(
        "#!/bin/sh\n"
        f'[ -z "$_JOBBY_COMPLETE" ] || exec "{sys.executable}" -m jobby_cli\n'
        'printf "<%s>" "$@"; printf "\\n"\n'
    )
    (bin_ / "jobby").chmod(0o755)
    rc = tmp_path / "rc"
    rc.write_bytes(jobby("completion", "bash").out + b"PS1='ready: '\n")
    master, slave = os.openpty()
    bash = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", str(rc), "-i"],
        cwd=jobby.folder,
        env=jobby.environment() | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    keyboard, screen = os.dup(master), Gathered(master)
    prompts = 1

    def type_(line: str) -> str:
        nonlocal prompts
        screen.until(rb"(?s)(ready: .*){%d}" % prompts)
        prompts += 1
        os.write(keyboard, f"{line}\t\r".encode())
        shown = screen.until(rb"(?s)(?:ready: .*?){%d}ready: " % (prompts - 1))[0].decode()
        return shown.rpartition("\n")[0].rpartition("\n")[2].strip()

    try:
        yield type_
    finally:
        os.close(keyboard)
        bash.kill()
        bash.wait(DEADLINE_SECONDS)


def test_bash_completes_behind_a_colon_or_an_equals_sign(
    jobby: Cli, typed: Callable[[str], str]
) -> None:
    """bash parts words there, and jobby's addresses and options have them in the middle."""
    job_id = jobby("start", "one").out.decode().split()[-1]
    server = jobby.env["JOBBY_SERVER"]
    expected = {
        f"jobby --server {server} stat": f"<--server><{server}><status>",
        f"jobby --server={server} stat": f"<--server={server}><status>",
        f"JOBBY_CA=ca.cert jobby --server={server} stop {job_id[:9]}": (
            f"<--server={server}><stop><{job_id}>"
        ),
        "jobby output --type=stde": "<output><--type=stderr>",
        "jobby output '--type=stde": "<output><--type=stderr>",
        "jobby output --type='stde": "<output><--type=stderr>",
        "jobby --config=client.c": "<--config=client.cert>",
        "jobby --config a:b --ca client.c": "<--config><a:b><--ca><client.cert>",
    }
    for line, arguments in expected.items():
        assert typed(line) == arguments
    # Some take them out for the sake of other commands.
    typed("COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=]/}")
    assert typed("jobby output --type=stde") == "<output><--type=stderr>"
    assert typed(f"jobby --server={server} stat") == f"<--server={server}><status>"
