import json
import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from cli_authority import Authority
from cli_command import Cli
from cli_files import write_files
from cli_peer import Peer, serving

from jobby_cli.recent import MOST_IN_ALL, MOST_JOBS, Recent, Scope

HERE = Scope("localhost:50051", "commonName=alice")


def test_the_last_job_comes_first(tmp_path: Path) -> None:
    """Jobs come back in the order of their start, the last one first, with the command's name."""
    recent = Recent(tmp_path / "recent.json")
    ids = [uuid.uuid4() for _ in range(3)]
    for job_id in ids:
        recent.add(HERE, job_id, "/usr/bin/make")
    assert recent.jobs(HERE) == [(job_id, "make") for job_id in reversed(ids)]


def test_the_list_is_the_users_alone(tmp_path: Path) -> None:
    """The file is 0600 and its folder 0700, whatever the umask; nothing else stays there."""
    before = os.umask(0)
    try:
        Recent(tmp_path / "jobby" / "recent.json").add(HERE, uuid.uuid4(), "x")
    finally:
        os.umask(before)
    folder = tmp_path / "jobby"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"recent.json": 0o600, "recent.lock": 0o600}


def test_arguments_are_not_kept(jobby: Cli) -> None:
    """A password on a command line doesn't end up in the list."""
    assert jobby("start", "login", "--", "--password=hunter2").code == 0
    assert "login" in jobby.recent.read_text()
    assert "hunter2" not in jobby.recent.read_text()


def filled(path: Path, count: int, scope: Scope) -> list[dict[str, str]]:
    """So many entries of one scope, as the file holds them."""
    Recent(path).add(scope, uuid.uuid4(), "x")
    content = json.loads(path.read_text())
    path.unlink()
    return [content["jobs"][0]] * count


def test_the_list_has_an_end(tmp_path: Path) -> None:
    """Only so many are kept of a user on a server, the last ones, and none of another's goes."""
    path = tmp_path / "recent.json"
    jobs = [each for n in "abc" for each in filled(path, MOST_JOBS, Scope(f"{n}:1", "CN=alice"))]
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    recent, last = Recent(path), uuid.uuid4()
    recent.add(Scope("b:1", "CN=alice"), last, "x")
    recent.add(Scope("b:1", "CN=bob"), last, "x")
    assert recent.jobs(Scope("b:1", "CN=alice"))[0][0] == last
    for server in ("a:1", "b:1", "c:1"):
        assert len(recent.jobs(Scope(server, "CN=alice"))) == MOST_JOBS
    assert len(recent.jobs(Scope("b:1", "CN=bob"))) == 1


def test_many_servers_do_not_let_it_grow_for_ever(tmp_path: Path) -> None:
    """The whole list has an end, too: the oldest go, whosever they are."""
    path = tmp_path / "recent.json"
    scopes = [Scope(f"localhost:{n}", "CN=alice") for n in range(1, 12)]
    jobs = [each for scope in scopes for each in filled(path, MOST_JOBS, scope)]
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    Recent(path).add(HERE, uuid.uuid4(), "x")
    assert len(json.loads(path.read_text())["jobs"]) == MOST_IN_ALL
    assert len(Recent(path).jobs(HERE)) == 1
    assert not Recent(path).jobs(scopes[0])


def test_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    """Many processes that add at the same time: each of their jobs is there afterwards."""
    path = tmp_path / "recent.json"
    program = (
        "import sys, uuid, pathlib\n"
        "from jobby_cli.recent import Recent, Scope\n"
        "sys.stdin.read()\n"
        "for n in range(20):\n"
        "    job = uuid.uuid4()\n"
        "    Recent(pathlib.Path(sys.argv[1])).add(Scope('localhost:50051', 'commonName=alice'),"
        " job, 'x')\n"
        "    print(job)\n"
    )
    gate_read, gate_write = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=gate_read, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    os.close(gate_read)
    os.close(gate_write)  # all of them go
    outputs = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    added = {uuid.UUID(line) for output in outputs for line in output.decode().split()}
    assert len(added) == 120
    assert {job_id for job_id, _ in Recent(path).jobs(HERE)} == added


def test_a_beginning_never_hits_another_servers_job(jobby: Cli, peer: Peer, ca: Authority) -> None:
    """Ids count only for the server and the certificate that they were started with."""
    job_id = jobby("start", "x").out.decode().split()[-1]
    assert jobby("stop", job_id[:8]).code == 0
    with serving(ca) as other:
        done = jobby("--server", other.address, "stop", job_id[:8])
        assert done.code == 66
        assert jobby("--server", other.address, "status").code == 64
        assert not other.servicer.stops
    write_files(jobby.folder, ca.pem, ca.leaf("bob"))
    assert jobby("stop", job_id[:8]).code == 66
    write_files(jobby.folder, ca.pem, ca.leaf("alice"))  # a new key, the same name
    assert jobby("stop", job_id[:8]).code == 0
    assert peer.servicer.stops == [uuid.UUID(job_id)] * 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "jobs": []}',
        '{"version": 1}',
        '{"version": 1, "jobs": [{}]}',
        '{"version": 1, "jobs": [{"server": "a", "subject": "b", "id": "c", "command": "d"}]}',
        '{"version": 1, "jobs": [{"server": "a", "subject": "b", "id": 1, "command": "d"}]}',
        "\udcff",
        "[" * 100_000,
    ],
)
def test_a_damaged_list_is_told_and_hinders_nothing(jobby: Cli, content: str) -> None:
    """A list that cannot be read is ignored, with the way out; a start begins a new one."""
    jobby.recent.parent.mkdir(parents=True)
    jobby.recent.write_bytes(content.encode(errors="surrogateescape"))
    done = jobby("output")
    assert done.code == 64
    assert str(jobby.recent) in done.err
    assert "delete it to start anew" in done.err
    assert jobby("status", str(uuid.uuid4())).err == "", "nothing of it is needed for a whole id"
    done = jobby("start", "x")
    assert (done.code, done.out.split()[0]) == (0, b"Job")
    assert "recent.unreadable" in done.err
    done = jobby("output")
    assert (done.code, done.out) == (0, b"hello\n")


def test_a_state_folder_that_cannot_be_written_hinders_no_start(jobby: Cli) -> None:
    """The job is started and its id shown; that it isn't remembered is said."""
    (jobby.home / "state").write_text("in the way")
    done = jobby("start", "x")
    assert (done.code, done.out.split()[0]) == (0, b"Job")
    assert "cannot remember the job" in done.err
    done = jobby("start", "x", env={"XDG_STATE_HOME": "/dev/full"})
    assert done.code == 0
    assert "cannot remember the job" in done.err


def test_without_a_state_folder_it_is_below_home(jobby: Cli) -> None:
    """XDG_STATE_HOME unset, empty or relative stands for ~/.local/state."""
    for value in ("", "relative"):
        assert jobby("start", "x", env={"XDG_STATE_HOME": value}).err == ""
    assert (jobby.home / ".local/state/jobby/recent.json").exists()
    assert not (jobby.folder / "relative").exists()


def test_a_failed_write_leaves_the_old_list(tmp_path: Path) -> None:
    """The list is replaced whole or not at all."""
    path = tmp_path / "recent.json"
    recent = Recent(path)
    first = uuid.uuid4()
    recent.add(HERE, first, "x")
    program = (
        "import pathlib, resource, sys, uuid\n"
        "from jobby_cli.recent import Recent, Scope\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))\n"
        "Recent(pathlib.Path(sys.argv[1])).add(Scope('a', 'b'), uuid.uuid4(), 'x')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert "cannot remember the job" in done.stderr
    assert [job_id for job_id, _ in recent.jobs(HERE)] == [first]
    assert {each.name for each in tmp_path.iterdir()} == {"recent.json", "recent.lock"}
