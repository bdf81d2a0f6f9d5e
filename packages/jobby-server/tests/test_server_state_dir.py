"""Where a server keeps its state: private, its own, one folder a job, gone when it should be."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from jobby_server.errors import EXIT_UNAVAILABLE, ConfigError, StateInUseError
from jobby_server.state_dir import StateDir


def mode(path: Path) -> int:
    """Returns a path's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """Nobody else may look into the server's folder or a job's (0700)."""
    before = os.umask(0)
    try:
        spool = StateDir.temporary(tmp_path)
        folder = spool.make_folder(uuid.uuid4())
    finally:
        os.umask(before)
    assert mode(spool.path) == mode(folder) == 0o700
    assert folder.parent == spool.path


def test_two_servers_share_a_place_without_sharing_a_folder(tmp_path: Path) -> None:
    """Each start makes a folder of its own."""
    assert StateDir.temporary(tmp_path).path != StateDir.temporary(tmp_path).path


def test_without_a_temporary_folder_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose file systems are all read-only."""

    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)  # for this whole process it is found by now
    with pytest.raises(ConfigError, match="No usable temporary directory found; set TMPDIR or"):
        StateDir.temporary(None)


def test_a_place_that_is_not_there_is_told_with_the_way_out(tmp_path: Path) -> None:
    """A typing error would make a folder that nobody finds."""
    for make in (StateDir.temporary, lambda path: StateDir.named(path / "inside")):
        with pytest.raises(ConfigError, match=r"there is no such folder \(make it first\)"):
            make(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


def test_in_the_temporary_folder_output_goes_with_the_server() -> None:
    """Nobody named a place, so nobody will look for it there."""
    spool = StateDir.temporary(None)
    assert spool.path.parent == Path(tempfile.gettempdir())
    (spool.make_folder(uuid.uuid4()) / "stdout").write_text("x")
    spool.close()
    assert not spool.path.exists()


def test_in_a_named_place_output_stays(tmp_path: Path) -> None:
    """Whoever names a place wants the files there; only an empty folder is tidied away."""
    used, unused = StateDir.temporary(tmp_path), StateDir.temporary(tmp_path)
    job_id = uuid.uuid4()
    (used.make_folder(job_id) / "stdout").write_text("x")
    used.close()
    unused.close()
    assert (used.path / str(job_id) / "stdout").read_text() == "x"
    assert not unused.path.exists()


def test_a_job_folder_is_never_an_existing_one(tmp_path: Path) -> None:
    """A link in its place is not followed: making the folder fails."""
    spool, job_id = StateDir.temporary(tmp_path), uuid.uuid4()
    (spool.path / str(job_id)).symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        spool.make_folder(job_id)


def test_discarding_removes_a_job_and_nothing_else(tmp_path: Path) -> None:
    """A failed start leaves no folder; its neighbours stay."""
    spool, gone, stays = StateDir.temporary(tmp_path), uuid.uuid4(), uuid.uuid4()
    (spool.make_folder(gone) / "stdout").touch()
    spool.make_folder(stays)
    spool.discard(gone)
    spool.discard(gone)  # again is no error
    assert [path.name for path in spool.path.iterdir()] == [str(stays)]


@pytest.mark.parametrize("kind", ["missing", "a file", "writable by all", "writable by the group"])
def test_a_place_that_is_not_safe_is_refused(tmp_path: Path, kind: str) -> None:
    """Where others could replace the private folder, it would not be private."""
    place = tmp_path / "place"
    match kind:
        case "a file":
            place.touch()
        case "writable by all":
            place.mkdir()
            place.chmod(0o777)
        case "writable by the group":
            place.mkdir()
            place.chmod(0o770)
    with pytest.raises(ConfigError, match=r"cannot keep output in .*--output-dir"):
        StateDir.temporary(place)


def test_a_sticky_place_is_safe(tmp_path: Path) -> None:
    """As /tmp is: others may add to it, but not rename what is there (unlink(2))."""
    tmp_path.chmod(0o1777)
    StateDir.temporary(tmp_path)


def test_a_named_folder_is_made_private_and_found_again(tmp_path: Path) -> None:
    """The next server takes the same folder, with the jobs that are in it (0700 all of it)."""
    path = tmp_path / "state"
    before = os.umask(0)
    try:
        state = StateDir.named(path)
        job_id = uuid.uuid4()
        folder = state.make_folder(job_id)
    finally:
        os.umask(before)
    (folder / "stdout").write_text("x")
    assert state.durable
    assert state.database == path / "jobs.sqlite"
    assert mode(path) == mode(state.jobs) == mode(folder) == 0o700
    state.close()
    state.close()  # again is no error
    again = StateDir.named(path)
    assert (again.folder(job_id) / "stdout").read_text() == "x"
    again.close()


def test_a_folder_is_one_servers_at_a_time(tmp_path: Path) -> None:
    """The second one is refused by name; when the first has ended, however, it is free."""
    path = tmp_path / "state"
    program = (
        "import sys; from pathlib import Path; from jobby_server.state_dir import StateDir; "
        "state = StateDir.named(Path(sys.argv[1])); print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"mine\n"
        with pytest.raises(StateInUseError, match=f"{path}: another jobby-server") as caught:
            StateDir.named(path)
        assert caught.value.exit_code == EXIT_UNAVAILABLE == 69
        first.kill()
    StateDir.named(path).close()


def test_the_lock_is_not_a_jobs(tmp_path: Path) -> None:
    """A job that outlives the server doesn't keep the next one from the folder."""
    state = StateDir.named(tmp_path / "state")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        state.close()
        StateDir.named(state.path).close()


def test_a_folder_others_can_read_is_closed_and_one_they_can_write_refused(tmp_path: Path) -> None:
    """What others may have put there is not trusted; what they could see is hidden at once."""
    path = tmp_path / "state"
    path.mkdir(mode=0o755)
    StateDir.named(path).close()
    assert mode(path) == 0o700
    path.chmod(0o770)
    with pytest.raises(ConfigError, match=r"others may write to it.*--state-dir"):
        StateDir.named(path)


@pytest.mark.parametrize("name", ["trash", "notes", ".bashrc"])
def test_a_folder_that_holds_something_else_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    """Somebody's own folder, named by mistake: a server would remove what it takes for its own."""
    path = tmp_path / "home"
    (path / name).mkdir(parents=True)
    (path / name / "thesis").touch()
    path.chmod(0o755)
    with pytest.raises(ConfigError, match=f"it is no state folder, as it holds '{name}'"):
        StateDir.named(path)
    assert [each.name for each in path.iterdir()] == [name]
    assert (path / name / "thesis").exists()
    assert mode(path) == 0o755


def test_a_backup_and_a_disk_of_its_own_are_taken(tmp_path: Path) -> None:
    """A copy may lack the lock, and a file system's root has lost+found."""
    for name in ("jobs", "lost+found"):
        (tmp_path / "state" / name).mkdir(parents=True)
    for name in ("jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite.corrupt-20260101T000000Z"):
        (tmp_path / "state" / name).touch()
    StateDir.named(tmp_path / "state").close()


@pytest.mark.parametrize("kind", ["missing", "a file", "writable by all"])
def test_a_state_folder_in_an_unsafe_place_is_refused(tmp_path: Path, kind: str) -> None:
    """The same rules as for output: nobody else may be able to put another in its place."""
    place = tmp_path / "place"
    if kind == "a file":
        place.touch()
    elif kind == "writable by all":
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(ConfigError, match=r"cannot keep the jobs' state in .*--state-dir"):
        StateDir.named(place / "state")


def test_a_state_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """In the system's words, with the way out."""
    (tmp_path / "state").touch()
    with pytest.raises(ConfigError, match=r"state: File exists; .*--state-dir"):
        StateDir.named(tmp_path / "state")


def test_discarding_never_leaves_half_a_folder(tmp_path: Path) -> None:
    """A job's folder goes at once; what a killed server was removing goes at the next start."""
    state, job_id = StateDir.named(tmp_path / "state"), uuid.uuid4()
    (state.make_folder(job_id) / "stdout").touch()
    state.discard(job_id)
    state.discard(job_id)
    assert list(state.jobs.iterdir()) == []
    left = state.path / "trash" / str(job_id)
    left.mkdir()
    (left / "stdout").touch()
    state.close()
    again = StateDir.named(state.path)
    assert not left.exists()
    again.close()
